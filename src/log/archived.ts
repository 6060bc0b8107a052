import { decodeEvent } from '../core/codec.ts'
import type { LogEvent, TerminalEvent } from '../core/events.ts'
import type { Cursor, StreamLog } from '../core/ports.ts'

const LF = 0x0a

/** Bytes decoded at a time, and one event more. */
const readBytes = 64 * 1024

/** What does not change about a log. */
export type ArchivedFacts = Pick<StreamLog, 'id' | 'principal' | 'createdAt'>

/**
 * A finished log: its id, its principal, a number and bytes outside the heap. A server holds tens of thousands of these, and what they
 * hold on the heap the garbage collector looks at each time: in the shape of live logs they stall it for 100 ms.
 */
export class ArchivedLog implements StreamLog {
  readonly id: string
  readonly principal: string
  readonly #createdAt: number
  readonly #lines: Buffer

  /** @param lines events as `encodeEvent` writes them, the terminal one last, with line breaks between them */
  constructor({ id, principal, createdAt }: ArchivedFacts, lines: Buffer) {
    this.id = id
    this.principal = principal
    this.#createdAt = createdAt.getTime()
    this.#lines = lines
  }

  get createdAt(): Date {
    return new Date(this.#createdAt)
  }

  get shared(): boolean {
    return false
  }

  get loss(): undefined {
    return undefined
  }

  get bytes(): number {
    return this.#lines.length
  }

  append(): never {
    throw new Error('append to a sealed log')
  }

  cursor(): Cursor {
    let at = 0
    let unread: LogEvent[] = []
    return {
      behind: 0,
      next: (limit) => {
        if (unread.length === 0 && at < this.#lines.length) {
          const end = this.#lines.indexOf(LF, at + readBytes)
          const until = end < 0 ? this.#lines.length : end
          unread = decode(this.#lines.subarray(at, until))
          at = until + 1
        }
        return unread.splice(0, limit)
      },
      close: () => {
        unread = []
        at = this.#lines.length
      },
    }
  }

  async history(): Promise<readonly LogEvent[]> {
    return decode(this.#lines)
  }

  async terminal(): Promise<TerminalEvent> {
    const lastLine = this.#lines.subarray(this.#lines.lastIndexOf(LF) + 1)
    return decodeEvent(lastLine.toString('utf8')) as TerminalEvent
  }

  async caughtUp(): Promise<boolean> {
    return true
  }

  expectReaders(): void {}

  async stop(): Promise<void> {}

  async decide(): Promise<boolean> {
    return false
  }
}

function decode(lines: Buffer): LogEvent[] {
  return lines.toString('utf8').split('\n').map(decodeEvent)
}
