import { decodeEvent, encodeEvent } from '../core/codec.ts'
import type { LogEvent } from '../core/events.ts'

/** Open streams that have said little yet need little room; each next piece is twice the last. */
const firstBytes = 1024
/** What a reader of old events decodes, and holds, at a time. */
const maxBytes = 64 * 1024

/** What UTF-8 takes for one unit of a string at most. */
const bytesPerUnit = 3

/** A place in the events, from the first on. */
export interface Reader {
  /** The next events, at most `limit`; none when there are none yet. */
  next(limit: number): readonly LogEvent[]
}

/** Memory that is filled with whole lines, each with its line break. */
interface Piece {
  readonly bytes: Buffer
  used: number
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
  readonly #pieces: Piece[] = []
  #length = 0
  #bytes = 0
  /** The events pushed last, until everybody who follows has had them. */
  #latest: readonly LogEvent[] = []

  /** How many events there are. */
  get length(): number {
    return this.#length
  }

  /** The room that they take up. */
  get bytes(): number {
    return this.#bytes
  }

  push(events: readonly LogEvent[]): void {
    this.#latest = events
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
    if (count > 0) this.#write(lines, count)
  }

  /** Whoever has not read them by now reads their bytes. */
  dropLatest(): void {
    this.#latest = []
  }

  /** All events as lines with line breaks between them. */
  toLines(): Buffer {
    return Buffer.concat(this.#pieces.map(({ bytes, used }) => bytes.subarray(0, used))).subarray(0, -1)
  }

  all(): LogEvent[] {
    return this.#pieces.flatMap(({ bytes, used }) => decode(bytes, 0, used))
  }

  /** @param from events to leave out */
  reader(from = 0): Reader {
    const pieces = this.#pieces
    /** Where the next event lies that is not in `unread`, and its number, from 0. */
    let at = 0
    let offset = 0
    let position = 0
    let unread: readonly LogEvent[] = []

    const fill = (): readonly LogEvent[] => {
      if (position === this.#length) return []
      if (position === this.#length - this.#latest.length) {
        at = pieces.length - 1
        offset = pieces[at]?.used ?? 0
        position = this.#length
        return this.#latest
      }
      if (offset === pieces[at]?.used) {
        at++
        offset = 0
      }
      const { bytes, used } = pieces[at] as Piece
      const events = decode(bytes, offset, used)
      offset = used
      position += events.length
      return events
    }

    if (from > 0) {
      at = Math.max(
        0,
        pieces.findLastIndex(({ start }) => start <= from),
      )
      const start = pieces[at]?.start ?? 0
      position = start
      unread = fill().slice(from - start)
    }
    return {
      next: (limit) => {
        if (unread.length === 0) unread = fill()
        const events = unread.length <= limit ? unread : unread.slice(0, limit)
        unread = events === unread ? [] : unread.slice(limit)
        return events
      },
    }
  }

  #write(lines: string, count: number): void {
    const last = this.#pieces.at(-1)
    // To measure a text takes as long as to write it; where there is room in any case that is saved.
    const fits = last && last.bytes.length - last.used >= lines.length * bytesPerUnit
    const length = fits ? 0 : Buffer.byteLength(lines)
    const piece = last && last.bytes.length - last.used >= length ? last : this.#add(last, length)
    piece.used += piece.bytes.write(lines, piece.used)
    this.#length += count
  }

  #add(last: Piece | undefined, length: number): Piece {
    const size = Math.max(length, Math.min(maxBytes, last ? 2 * last.bytes.length : firstBytes))
    // Not of Node's pool: a log that lives on would keep what others have written there.
    const piece = { bytes: Buffer.allocUnsafeSlow(size), used: 0, start: this.#length }
    this.#pieces.push(piece)
    this.#bytes += size
    return piece
  }
}

function decode(bytes: Buffer, from: number, to: number): LogEvent[] {
  return bytes
    .toString('utf8', from, to - 1)
    .split('\n')
    .map(decodeEvent)
}
