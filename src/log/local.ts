import type { SluiceError } from '../core/errors.ts'
import { isTerminal, type LogEvent, type TerminalEvent } from '../core/events.ts'
import type { Cursor } from '../core/ports.ts'
import { ArchivedLog } from './archived.ts'
import { EventLines, type Reader } from './lines.ts'

export interface LocalLogSignals {
  /** The number of open cursors changed; not told once the log is sealed. */
  onReaders(count: number): void
  /** The log takes up more room than before, or less. */
  onGrown(): void
}

/**
 * The events of one log in this process's memory, and who reads them. Readers hold a position each, never a copy, so a
 * slow one costs nothing.
 */
export class LocalLog {
  /** Let go at the end: it holds the whole request, images and all, which a finished log must not. */
  #signals: LocalLogSignals | undefined
  readonly #events = new EventLines()
  readonly #wakes = new Map<Reader, () => void>()
  #terminal: TerminalEvent | undefined
  #loss: SluiceError | undefined

  constructor(signals: LocalLogSignals) {
    this.#signals = signals
  }

  /** How many events there are. */
  get length(): number {
    return this.#events.length
  }

  /** What they take up, roughly. */
  get bytes(): number {
    return this.#events.bytes
  }

  get terminal(): TerminalEvent | undefined {
    return this.#terminal
  }

  /** Why what follows will never come, if so. */
  get loss(): SluiceError | undefined {
    return this.#loss
  }

  get readers(): number {
    return this.#wakes.size
  }

  append(events: readonly LogEvent[]): void {
    if (this.#terminal) throw new Error('append to a sealed log')
    const last = events.at(-1)
    if (last && isTerminal(last)) this.#terminal = last
    this.#events.push(events)
    this.#wakeAll()
    this.#events.dropLatest()
    const signals = this.#signals
    if (this.#terminal) this.#signals = undefined
    signals?.onGrown()
  }

  /** Nothing follows any more, though there is no terminal event: readers are told when they get there. */
  lose(loss: SluiceError): void {
    if (this.#terminal || this.#loss) return
    this.#loss = loss
    this.#wakeAll()
  }

  cursor(wake: () => void): Cursor {
    const reader = this.#events.reader()
    this.#wakes.set(reader, wake)
    this.#signals?.onReaders(this.#wakes.size)
    return {
      next: (limit) => {
        const events = reader.next(limit)
        if (events.length === 0 && this.#loss) throw this.#loss
        return events
      },
      close: () => {
        if (!this.#wakes.delete(reader)) return
        this.#signals?.onReaders(this.#wakes.size)
      },
    }
  }

  /** Reads from after the first `from` events on, without counting as a reader. */
  reader(from: number): Reader {
    return this.#events.reader(from)
  }

  history(): LogEvent[] {
    return this.#events.all()
  }

  archived(id: string, createdAt: Date): ArchivedLog {
    return new ArchivedLog(id, createdAt, this.#events.toLines())
  }

  #wakeAll(): void {
    for (const wake of this.#wakes.values()) wake()
  }
}
