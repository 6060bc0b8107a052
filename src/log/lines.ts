import { decodeEvent, encodeEvent } from '../core/codec.ts'
import type { LogEvent } from '../core/events.ts'

/** Open streams that have said little yet need little room; each next piece is twice the last. */
const firstBytes = 1024
/** What a reader of old events decodes, and holds, at a time. */
const maxBytes = 64 * 1024

const none: readonly LogEvent[] = []

/** What an event takes up as an object, roughly. */
const bytesPerObject = 256

/** What UTF-8 takes for one unit of a string at most. */
const bytesPerUnit = 3

/** Where the next event lies, and how many come before it. */
interface Place {
  piece: number
  offset: number
  position: number
}

/** Whole lines, each with its line break. */
interface Piece {
  readonly bytes: Buffer
  /** How many lines come before it. */
  readonly start: number
}

/**
 * Events in the order they came, as bytes outside the heap: one line each, as JSON never holds a raw line break. Those
 * of five minutes would be millions of objects, which the garbage collector looks at again and again; and once V8 sees
 * that events live on, it makes all of them as old objects and stops for 100 ms to collect them. So the objects are for
 * those alone who read them at once.
 */
export class EventLines {
  /** Pieces that take no more. */
  readonly #full: Piece[] = []
  /** The piece that comes next, as far as it is filled; flat, as each object more on the way costs a cache miss an event. */
  #last = Buffer.alloc(0)
  #used = 0
  #start = 0
  #length = 0
  #bytes = 0
  /** The events pushed last, until everybody who follows has had them, and where they begin. */
  #latest: readonly LogEvent[] = none
  #latestOffset = 0

  /** How many events there are. */
  get length(): number {
    return this.#length
  }

  /** The room that they take up. */
  get bytes(): number {
    return this.#bytes + this.#latest.length * bytesPerObject
  }

  push(events: readonly LogEvent[]): void {
    let lines = ''
    let count = 0
    for (const event of events) {
      lines += `${encodeEvent(event)}\n`
      count++
      if (lines.length < maxBytes) continue
      this.#write(lines, count)
      lines = ''
      count = 0
    }
    const written = count > 0 ? this.#write(lines, count) : 0
    this.#latest = events
    // Too many for one piece begin in another, which is then read to its end.
    this.#latestOffset = count === events.length ? this.#used - written : 0
  }

  /** Whoever has not read the events pushed last by now reads their bytes. */
  dropLatest(): void {
    this.#latest = none
  }

  /** All events as lines with line breaks between them. */
  toLines(): Buffer {
    return Buffer.concat(this.#pieces().map(({ bytes }) => bytes)).subarray(0, -1)
  }

  all(): LogEvent[] {
    return this.#pieces().flatMap(({ bytes }) => decode(bytes))
  }

  /** What follows on a place and is at hand in one go, which moves the place behind it. */
  read(place: Place): readonly LogEvent[] {
    if (place.position === this.#length) return none
    if (place.position === this.#length - this.#latest.length) {
      place.piece = this.#full.length
      place.offset = this.#used
      place.position = this.#length
      return this.#latest
    }
    if (place.offset === this.#full[place.piece]?.bytes.length) {
      place.piece++
      place.offset = 0
    }
    const bytes = this.#full[place.piece]?.bytes ?? this.#filled
    const latestHere = this.#latest !== none && place.piece === this.#full.length
    const end = latestHere && place.offset < this.#latestOffset ? this.#latestOffset : bytes.length
    const events = decode(bytes.subarray(place.offset, end))
    place.offset = end
    place.position += events.length
    return events
  }

  /** The beginning of the piece that holds the event number `position`, from 0. */
  pieceOf(position: number): Place {
    const starts = this.#pieces().map(({ start }) => start)
    const piece = starts.findLastIndex((start) => start <= position)
    return { piece, offset: 0, position: starts[piece] ?? 0 }
  }

  get #filled(): Buffer {
    return this.#last.subarray(0, this.#used)
  }

  #pieces(): Piece[] {
    return [...this.#full, { bytes: this.#filled, start: this.#start }]
  }

  /** @returns the bytes that they take */
  #write(lines: string, count: number): number {
    // To measure a text takes as long as to write it; where there is room in any case that is saved.
    if (this.#last.length - this.#used < lines.length * bytesPerUnit) this.#makeRoom(Buffer.byteLength(lines))
    const written = this.#last.write(lines, this.#used)
    this.#used += written
    this.#length += count
    return written
  }

  #makeRoom(length: number): void {
    if (this.#last.length - this.#used >= length) return
    if (this.#used > 0) this.#full.push({ bytes: this.#filled, start: this.#start })
    const size = Math.max(length, firstBytes, Math.min(maxBytes, 2 * this.#last.length))
    // Not of Node's pool: a log that lives on would keep what others have written there.
    this.#last = Buffer.allocUnsafeSlow(size)
    this.#used = 0
    this.#start = this.#length
    this.#bytes += size
  }
}

/** Reads the events in order. */
export class Reader implements Place {
  readonly #lines: EventLines
  #unread: readonly LogEvent[] = []
  piece = 0
  offset = 0
  position = 0

  /** @param from events to leave out */
  constructor(lines: EventLines, from = 0) {
    this.#lines = lines
    if (from === 0) return
    Object.assign(this, lines.pieceOf(from))
    // Where the latest lie in the piece, one read goes no further than to them.
    for (const first = Math.min(from, lines.length); this.position < first; ) {
      const { position } = this
      this.#unread = lines.read(this).slice(first - position)
    }
  }

  /** How many events it has yet to give. */
  get behind(): number {
    return this.#lines.length - this.position + this.#unread.length
  }

  /** The next events, at most `limit`; none when there are none yet. */
  next(limit: number): readonly LogEvent[] {
    const events = this.#unread.length > 0 ? this.#unread : this.#lines.read(this)
    const fits = events.length <= limit
    if (!fits || this.#unread.length > 0) this.#unread = events.slice(limit)
    return fits ? events : events.slice(0, limit)
  }
}

function decode(lines: Buffer): LogEvent[] {
  if (lines.length === 0) return []
  return lines
    .toString('utf8', 0, lines.length - 1)
    .split('\n')
    .map(decodeEvent)
}
