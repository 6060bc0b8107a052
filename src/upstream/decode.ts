import { MalformedEvent, parseWireEvent, type WireEvent } from '../core/codec.ts'
import { SluiceError } from '../core/errors.ts'
import { DeltaSlicer } from './slice.ts'

const LF = 0x0a
const CR = 0x0d
const COLON = 0x3a
const BLANK = 0x20

/**
 * Reads Claude's Server-Sent Events from bytes cut anywhere. Whole lines are decoded at once, as neither a line break
 * nor the cut behind it can fall inside a UTF-8 sequence; what follows the last line break waits as bytes.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class EventDecoder {
  readonly #maxEventBytes: number
  /** Bytes behind the last line break, in the pieces they came in: joining them per read would cost O(n²). */
  #rest: Buffer[] = []
  #restBytes = 0
  readonly #slicer = new DeltaSlicer()
  /** The data of the event under way: lines joined by line breaks. */
  #data: string | undefined
  #dataLength = 0
  #skipLf = false
  #atStart = true

  /** @param maxEventBytes a longer line or event ends the stream: it is an attack or a fault, never an answer */
  constructor(maxEventBytes: number) {
    this.#maxEventBytes = maxEventBytes
  }

  /**
   * Adds the events that `pieces`, in their order, complete to `events`.
   * @throws SluiceError `upstream_protocol` on what cannot be Claude's; the events before it have been added
   */
  feed(pieces: readonly Buffer[], events: WireEvent[]): void {
    const bytes = join(pieces)
    const end = endOfLines(bytes)
    if (end > 0) this.#read(this.#linesOf(bytes, end), events)
    if (end < bytes.length) this.#keep(bytes.subarray(end))
  }

  /**
   * Takes a clean end of the body for the blank line behind the last event, if that event's lines are whole: some
   * servers leave it out, and nothing of the event is missing. What stops within a line stays unread.
   */
  end(events: WireEvent[]): void {
    this.#dispatch(events)
  }

  /** The lines that `bytes` complete, up to `end`. */
  #linesOf(bytes: Buffer, end: number): string {
    if (this.#restBytes === 0) return bytes.toString('utf8', 0, end)
    const lines = Buffer.concat([...this.#rest, bytes.subarray(0, end)]).toString('utf8')
    this.#rest = []
    this.#restBytes = 0
    return lines
  }

  #keep(bytes: Buffer): void {
    // A copy: it may wait for long, and lies where others are read next, or in a buffer much larger than itself.
    this.#rest.push(Buffer.from(bytes))
    this.#restBytes += bytes.length
    if (this.#restBytes > this.#maxEventBytes) throw protocolError('line too long')
  }

  /** @param text ends with a line break */
  #read(text: string, events: WireEvent[]): void {
    if (this.#atStart) {
      this.#atStart = false
      if (text.startsWith('\ufeff')) text = text.slice(1)
    }
    if (this.#skipLf && text.startsWith('\n')) text = text.slice(1)
    this.#skipLf = text.endsWith('\r')
    if (text.includes('\r')) text = text.replace(/\r\n?/g, '\n')

    for (let from = 0; from < text.length; ) {
      const delta = this.#data === undefined ? this.#slicer.slice(text, from) : undefined
      if (delta) {
        if (this.#slicer.end - from > this.#maxEventBytes) throw protocolError('event too long')
        events.push(delta)
        from = this.#slicer.end
        continue
      }
      const to = text.indexOf('\n', from)
      if (to === from) this.#dispatch(events)
      else if (text.startsWith('data', from)) this.#takeData(text, from + 4, to)
      from = to + 1
    }
  }

  /** @param from behind the letters `data` on the line, which may yet be another field's name */
  #takeData(text: string, from: number, to: number): void {
    if (from < to && text.charCodeAt(from) !== COLON) return
    const begin = Math.min(to, text.charCodeAt(from + 1) === BLANK ? from + 2 : from + 1)
    this.#dataLength += to - begin + 1
    if (this.#dataLength > this.#maxEventBytes) throw protocolError('event too long')
    const line = text.slice(begin, to)
    this.#data = this.#data === undefined ? line : `${this.#data}\n${line}`
  }

  #dispatch(events: WireEvent[]): void {
    const data = this.#data
    this.#data = undefined
    this.#dataLength = 0
    if (!data) return
    try {
      events.push(parseWireEvent(data))
    } catch (thrown) {
      throw thrown instanceof MalformedEvent ? protocolError(thrown.message) : thrown
    }
  }
}

/** Joins pieces where they stay until the next call. Memory of its own for each read was 7 % of the time at full speed. */
function join(pieces: readonly Buffer[]): Buffer {
  const [first] = pieces
  if (pieces.length === 1 && first) return first
  let length = 0
  for (const piece of pieces) length += piece.length
  if (length > scratch.length) scratch = Buffer.allocUnsafeSlow(length)
  let at = 0
  for (const piece of pieces) {
    scratch.set(piece, at)
    at += piece.length
  }
  return scratch.subarray(0, length)
}

/** As large as a socket read, which is the most that comes at once. */
let scratch = Buffer.allocUnsafeSlow(64 * 1024)

/** Nearly always all of it: Claude sends whole events. */
function endOfLines(bytes: Buffer): number {
  if (bytes[bytes.length - 1] === LF) return bytes.length
  return Math.max(bytes.lastIndexOf(LF), bytes.lastIndexOf(CR)) + 1
}

function protocolError(reason: string): SluiceError {
  return new SluiceError('upstream_protocol', { reason })
}
