import { decodeEvent, encodeEvent } from '../core/codec.ts'
import type { LogEvent } from '../core/events.ts'

/** Fewer events than this stay objects: packing a few at a time costs more than it saves. */
const minTail = 64
/** More events than this are packed even if a slow reader has to decode them again. */
const maxTail = 2048
/** Events in one pack: what a reader of old events decodes, and holds, at a time. */
const maxPack = 256
const maxPackCharacters = 64 * 1024

/** An event as an object: itself, its payload, its share of the text it was cut from. */
const bytesPerEvent = 300

const lineBreak = Buffer.from('\n')

/** A place in the events, from the first on. */
export interface Reader {
  /** The next events, at most `limit`; none when there are none yet. */
  next(limit: number): readonly LogEvent[]
  /** Nothing is left to read for now. */
  readonly atHead: boolean
}

/**
 * Events in the order they came, the older ones as bytes outside the heap. As objects, five minutes of finished streams
 * would be millions of them, which the garbage collector looks at again and again: at full speed that alone halves
 * what one core can carry.
 */
export class PackedEvents {
  /** One JSON line an event; JSON never holds a raw line break. */
  readonly #packs: Buffer[] = []
  /** Where each pack begins, as the number of events before it. */
  readonly #starts: number[] = []
  #tail: LogEvent[] = []
  /** Not the same for all: streams that began together would pack together, and hold up everybody else meanwhile. */
  readonly #packAt = minTail * (1 + Math.random())
  #tailStart = 0
  #packedBytes = 0

  /** How many events there are. */
  get length(): number {
    return this.#tailStart + this.#tail.length
  }

  /** What the events take up, roughly, in bytes. */
  get bytes(): number {
    return this.#packedBytes + this.#tail.length * bytesPerEvent
  }

  push(events: readonly LogEvent[]): void {
    // One by one: spreading a batch of thousands into push() overflows the stack.
    for (const event of events) this.#tail.push(event)
  }

  /**
   * Turns the tail into bytes when it has become long enough, or at the end: once its readers have had it, as decoding
   * costs more than waiting.
   */
  pack(readers: Iterable<Reader>, atEnd: boolean): void {
    const { length } = this.#tail
    if (length === 0 || (!atEnd && length < this.#packAt)) return
    if (length < maxTail) for (const reader of readers) if (!reader.atHead) return
    for (let from = 0; from < length; ) {
      const lines: string[] = []
      for (let size = 0; from + lines.length < length && lines.length < maxPack && size < maxPackCharacters; ) {
        const line = encodeEvent(this.#tail[from + lines.length] as LogEvent)
        lines.push(line)
        size += line.length
      }
      const pack = Buffer.from(lines.join('\n'))
      this.#packs.push(pack)
      this.#packedBytes += pack.length
      this.#starts.push(this.#tailStart + from)
      from += lines.length
    }
    this.#tailStart += length
    this.#tail = []
  }

  /** All events as lines, in one piece. */
  toLines(): Buffer {
    const tail = this.#tail.length > 0 ? [Buffer.from(this.#tail.map(encodeEvent).join('\n'))] : []
    const packs = [...this.#packs, ...tail]
    const [only] = packs
    return only && packs.length === 1
      ? only
      : Buffer.concat(packs.flatMap((pack, n) => (n > 0 ? [lineBreak, pack] : [pack])))
  }

  all(): LogEvent[] {
    return [...this.#packs.flatMap(unpack), ...this.#tail]
  }

  /** @param from events to leave out */
  reader(from = 0): Reader {
    let position = from
    let pack = 0
    /** What is left of the pack being read. */
    let unread: LogEvent[] = []
    const length = () => this.length
    return {
      get atHead() {
        return position === length()
      },
      next: (limit) => {
        if (unread.length === 0 && position < this.#tailStart) {
          while ((this.#starts[pack + 1] ?? this.#tailStart) <= position) pack++
          unread = unpack(this.#packs[pack] as Buffer).slice(position - (this.#starts[pack] as number))
        }
        const from = position - this.#tailStart
        const events = unread.length > 0 ? unread.splice(0, limit) : this.#tail.slice(from, from + limit)
        position += events.length
        return events
      },
    }
  }
}

function unpack(pack: Buffer): LogEvent[] {
  return pack.toString('utf8').split('\n').map(decodeEvent)
}
