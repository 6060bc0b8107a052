import { SluiceError } from '../core/errors.ts'
import type { ClaudeEvent, UpstreamEvent } from '../core/events.ts'

/** Claude's own report of a failure inside a stream, `event: error` on the wire. */
export interface WireError {
  readonly type: 'error'
  readonly error: { readonly type: string; readonly message: string }
}

export type WireEvent = UpstreamEvent | WireError

const LF = 0x0a
const CR = 0x0d

/**
 * Reads Claude's Server-Sent Events from bytes cut anywhere. Whole lines are decoded at once, as neither a line break
 * nor the cut behind it can fall inside a UTF-8 sequence; what follows the last line break waits as bytes.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class EventDecoder {
  readonly #maxEventBytes: number
  /** Bytes behind the last line break, in the pieces they came in: joining them per read would cost O(n²). */
  #rest: Uint8Array[] = []
  #restBytes = 0
  #data: string | undefined
  #dataLength = 0
  #skipLf = false
  #atStart = true

  /** @param maxEventBytes a longer line or event ends the stream: it is an attack or a fault, never an answer */
  constructor(maxEventBytes: number) {
    this.#maxEventBytes = maxEventBytes
  }

  /**
   * Adds the events that `bytes` complete to `events`.
   * @throws SluiceError `upstream_protocol` on what cannot be Claude's; the events before it have been added
   */
  feed(bytes: Uint8Array, events: WireEvent[]): void {
    const end = Math.max(bytes.lastIndexOf(LF), bytes.lastIndexOf(CR)) + 1
    if (end === 0) return this.#keep(bytes)
    const whole = bytes.subarray(0, end)
    const lines = this.#rest.length === 0 ? toText(whole) : toText(Buffer.concat([...this.#rest, whole]))
    this.#rest = []
    this.#restBytes = 0
    if (end < bytes.length) this.#keep(bytes.subarray(end))
    this.#read(lines, events)
  }

  #keep(bytes: Uint8Array): void {
    this.#rest.push(bytes)
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
      const to = text.indexOf('\n', from)
      if (to === from) this.#dispatch(events)
      else if (text.startsWith('data', from)) this.#takeData(text.slice(from + 4, to))
      from = to + 1
    }
  }

  /** @param rest what follows the letters `data` on the line, which may yet be another field's name */
  #takeData(rest: string): void {
    if (rest !== '' && !rest.startsWith(':')) return
    const value = rest.startsWith(': ') ? rest.slice(2) : rest.slice(1)
    this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`
    this.#dataLength += value.length
    if (this.#dataLength > this.#maxEventBytes) throw protocolError('event too long')
  }

  #dispatch(events: WireEvent[]): void {
    if (this.#data !== undefined && this.#data !== '') events.push(parseEvent(this.#data))
    this.#data = undefined
    this.#dataLength = 0
  }
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}

function protocolError(reason: string): SluiceError {
  return new SluiceError('upstream_protocol', { reason })
}

type Fields = Record<string, unknown>

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isTyped(value: unknown): value is Fields & { type: string } {
  return isObject(value) && typeof value['type'] === 'string'
}

/** Deltas whose payload the formats rely on being a string. */
const deltaPayloads: Record<string, string> = {
  text_delta: 'text',
  thinking_delta: 'thinking',
  input_json_delta: 'partial_json',
  signature_delta: 'signature',
}

function isDelta(value: unknown): boolean {
  if (!isTyped(value)) return false
  const payload = deltaPayloads[value.type]
  return payload === undefined || typeof value[payload] === 'string'
}

/** What must hold of each event of Claude's before anything downstream may rely on its type. */
const shapes: Record<ClaudeEvent['type'], (event: Fields) => boolean> = {
  message_start: (event) => isObject(event['message']),
  content_block_start: (event) => Number.isInteger(event['index']) && isTyped(event['content_block']),
  content_block_delta: (event) => Number.isInteger(event['index']) && isDelta(event['delta']),
  content_block_stop: (event) => Number.isInteger(event['index']),
  message_delta: (event) => isObject(event['delta']),
  message_stop: () => true,
}

function parseEvent(data: string): WireEvent {
  let event: unknown
  try {
    event = JSON.parse(data)
  } catch {
    // The parser's own message quotes the data, which is content.
    throw protocolError(`invalid JSON in an event of ${data.length} characters`)
  }
  if (!isTyped(event)) throw protocolError('event without a type')
  if (Object.hasOwn(shapes, event.type)) {
    const known = event as unknown as ClaudeEvent
    if (!shapes[known.type](event)) throw protocolError(`malformed ${known.type}`)
    return known
  }
  if (event.type === 'ping') return { type: 'ping' }
  if (event.type === 'error') return toWireError(event)
  return { type: 'unknown', event }
}

function toWireError(event: Fields): WireError {
  const error = isObject(event['error']) ? event['error'] : {}
  return {
    type: 'error',
    error: { type: String(error['type'] ?? 'api_error'), message: String(error['message'] ?? '') },
  }
}
