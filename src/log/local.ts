import type { SluiceError } from '../core/errors.ts'
import { isTerminal, type LogEvent, type TerminalEvent } from '../core/events.ts'
import type { Cursor, LogReader } from '../core/ports.ts'
import { type ArchivedFacts, ArchivedLog } from './archived.ts'
import { EventLines, Reader } from './lines.ts'

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
  readonly #cursors = new Set<LocalCursor>()
  #terminal: TerminalEvent | undefined
  #loss: SluiceError | undefined
  /** The room that was taken up at the last look, in bytes. */
  #measured = 0

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
    return this.#cursors.size
  }

  append(events: readonly LogEvent[]): void {
    if (this.#terminal) throw new Error('append to a sealed log')
    // What readers who keep up have had is let go of by now; what is left of it is not only there for a moment.
    this.#measure()
    const last = events.at(-1)
    if (last && isTerminal(last)) this.#terminal = last
    this.#events.push(events)
    const signals = this.#signals
    // Before readers take the end, and go.
    if (this.#terminal) this.#signals = undefined
    this.#wakeAll()
    if (this.#cursors.size === 0) this.letGo()
    if (this.#terminal) signals?.onGrown()
  }

  /** Tells the room that it takes up, if that is another than at the last look. */
  #measure(): void {
    const { bytes } = this.#events
    if (bytes === this.#measured) return
    this.#measured = bytes
    this.#signals?.onGrown()
  }

  /** Nothing follows any more, though there is no terminal event: readers are told when they get there. */
  lose(loss: SluiceError): void {
    if (this.#terminal || this.#loss) return
    this.#loss = loss
    this.#wakeAll()
  }

  cursor(reader: LogReader): Cursor {
    const cursor = new LocalCursor(this, this.#events, reader)
    this.#cursors.add(cursor)
    this.#signals?.onReaders(this.#cursors.size)
    return cursor
  }

  /** Lets go of a cursor of its own; safe to call twice. */
  close(cursor: LocalCursor): void {
    if (this.#cursors.delete(cursor)) this.#signals?.onReaders(this.#cursors.size)
  }

  /** Reads from after the first `from` events on, without counting as a reader. */
  reader(from: number): Reader {
    return new Reader(this.#events, from)
  }

  history(): LogEvent[] {
    return this.#events.all()
  }

  archived(facts: ArchivedFacts): ArchivedLog {
    return new ArchivedLog(facts, this.#events.toLines())
  }

  /**
   * A reader has all there is, or there is none. Until the others have, the events stay objects: decoding what comes
   * before a response is open was 6 % of the time at full speed.
   */
  letGo(): void {
    for (const { position } of this.#cursors) if (position < this.#events.length) return
    this.#events.dropLatest()
    this.#measure()
  }

  #wakeAll(): void {
    for (const cursor of this.#cursors) cursor.reader.wake()
  }
}

class LocalCursor extends Reader implements Cursor {
  readonly #log: LocalLog
  readonly reader: LogReader

  constructor(log: LocalLog, lines: EventLines, reader: LogReader) {
    super(lines)
    this.#log = log
    this.reader = reader
  }

  override next(limit: number): readonly LogEvent[] {
    const events = super.next(limit)
    if (events.length > 0) return events
    if (this.#log.loss) throw this.#log.loss
    this.#log.letGo()
    return events
  }

  close(): void {
    this.#log.close(this)
  }
}
