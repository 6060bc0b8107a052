import { SluiceError } from '../core/errors.ts'
import type { LogEvent } from '../core/events.ts'
import type { Encoder } from '../core/format.ts'
import type { Cursor, LogReader, StreamLog } from '../core/ports.ts'
import { Frames, reconnectAfter } from '../core/sse.ts'
import { Stage } from '../core/stage.ts'
import type { Alarm, Swept } from '../core/sweep.ts'
import { endUnknown } from './failure.ts'
import type { ConnectionOptions } from './options.ts'
import type { Lag, Outlet } from './outlet.ts'
import { eventsPerCut, Smoother } from './smooth.ts'

const none: readonly LogEvent[] = []

/** Events taken from the log at a time: all of a 64 KB upstream read at full speed. */
const eventsPerRead = 512
/** A write ends with the event that passes this: what a client that does not read may hold, beside one event. */
const charactersPerWrite = 64 * 1024
/** How often to look whether a client that lags takes anything, in milliseconds. */
const lookMs = 100
/** How often what is smoothed may go on, in milliseconds. */
const smoothMs = 20
/** Reads for one write at the most, as far as they give little to write. */
const readsPerWrite = 16

/** Connections whose logs have more for them. */
const woken = new Stage<Connection>((connection) => connection.pump())

/**
 * One client reading one log in one format: a cursor, a fold, a socket. A slow client is a cursor that lags. All that
 * is at hand goes out in one write, as far as one may be large.
 */
export class Connection implements LogReader, Swept {
  readonly log: StreamLog
  alarm: Alarm | undefined
  readonly #options: ConnectionOptions
  readonly #cursor: Cursor
  readonly #frames: Frames
  readonly #encode: Encoder
  readonly #smoother: Smoother | undefined
  #outlet: Outlet | undefined
  /** Read from the log and due, not yet written. */
  #unsent: readonly LogEvent[] = none
  #blocked = false
  /** There is more, for the next turn of the event loop. */
  #resting = false
  #ended = false
  #lastWriteAt = 0
  /** What was last written for another reason than that there was something new; it is not to be taken for that. */
  #lastOtherWriteAt = 0
  /** Something waits for the client to take it; how much it had taken at the last look, and when it last took some. */
  #lagging = false
  #taken = 0
  #lastProgressAt = 0

  /** Counts as a reader of the log from now on; nothing is sent before `start`. */
  constructor(log: StreamLog, options: ConnectionOptions) {
    this.log = log
    this.#options = options
    this.#frames = new Frames(log.id, options.after)
    this.#encode = options.format.encoder()
    this.#smoother = options.smooth && new Smoother(options.smooth)
    this.#cursor = log.cursor(this)
  }

  /**
   * Sends what the log holds and everything that follows.
   * @returns whether anything has been sent
   */
  start(outlet: Outlet): boolean {
    this.#outlet = outlet
    this.#lastWriteAt = performance.now()
    this.#catchUp()
    this.#options.sweep.due(this, this.#dueAt(performance.now()))
    return outlet.writtenBytes > 0
  }

  wake(): void {
    woken.add(this)
  }

  /** The client took what was pending. */
  resume(): void {
    this.#blocked = false
    this.#catchUp()
  }

  get lag(): Lag {
    return { events: this.#cursor.behind + this.#unsent.length, bytes: this.#outlet?.pendingBytes ?? 0 }
  }

  /**
   * How long it took until what came from upstream at `readAt` was on its way to the client, both in milliseconds;
   * `undefined` when that is not to be told from what the connection does by itself.
   */
  delaySince(readAt: number): number | undefined {
    const isRelayed = this.#lastWriteAt > this.#lastOtherWriteAt && this.#lastWriteAt >= readAt
    return isRelayed && !this.#smoother ? this.#lastWriteAt - readAt : undefined
  }

  /** The socket is closed, by whichever side. */
  close(): void {
    this.#ended = true
    this.#options.sweep.delete(this)
    this.#cursor.close()
  }

  /**
   * Lets the client come back by itself, to wherever it is led then: no terminal frame, no `[DONE]`.
   * @param delayMs until it does
   * @returns false, with nothing done, when the client could not say where it was
   */
  handOver(delayMs: number): boolean {
    const outlet = this.#outlet
    const hasId = this.#frames.count > 0 || this.#options.after > 0
    if (!outlet || this.#ended || !hasId) return false
    this.log.expectReaders()
    this.#end(outlet, reconnectAfter(delayMs))
    return true
  }

  /**
   * Ends the stream for this client alone, whatever the log comes to. The frames that say so carry no id: they are no
   * part of the log, and must not be taken for what follows in it.
   */
  fail(error: SluiceError): void {
    const outlet = this.#outlet
    if (!outlet || this.#ended) return
    const frames = new Frames(undefined)
    this.#encode(endUnknown(error), frames)
    // Behind what the log gave before it had no more to give.
    this.#end(outlet, this.#frames.take() + frames.take())
  }

  tick(now: number): number {
    const outlet = this.#outlet
    if (!outlet) return now + lookMs
    this.#look(outlet, now)
    if (this.#smoother) this.pump()
    if (this.#lagging && now - this.#lastProgressAt >= this.#options.clientStallMs) outlet.destroy()
    else if (!this.#ended && !this.#blocked && now - this.#lastWriteAt >= this.#options.heartbeatMs) {
      this.#write(outlet, this.#options.format.heartbeat)
      this.#lastOtherWriteAt = this.#lastWriteAt
    }
    return this.#dueAt(now)
  }

  /** Looks more often from now on. */
  #watch(outlet: Outlet, now: number): void {
    this.#look(outlet, now)
    this.#options.sweep.due(this, this.#dueAt(now))
  }

  /** Notes whether the client takes what there is for it. */
  #look(outlet: Outlet, now: number): void {
    const { writtenBytes, pendingBytes } = outlet
    const taken = writtenBytes - pendingBytes
    if (taken > this.#taken || !this.#lagging) this.#lastProgressAt = now
    this.#lagging = pendingBytes > 0
    this.#taken = taken
  }

  /** When the clock is next to be looked at. */
  #dueAt(now: number): number {
    if (this.#smoother && !this.#ended) return now + smoothMs
    if (this.#lagging || this.#ended) return now + lookMs
    return this.#lastWriteAt + this.#options.heartbeatMs
  }

  /** Writes once: whatever there is, and however fast its client, others get their turn before it goes on. */
  pump(): void {
    const outlet = this.#outlet
    if (!outlet || this.#blocked || this.#resting || this.#ended) return
    try {
      const isAll = this.#gather()
      this.#send(outlet)
      if (isAll || this.#blocked || this.#ended) return
      this.#resting = true
      setImmediate(() => {
        this.#resting = false
        this.#catchUp()
      })
    } catch (fault) {
      if (fault instanceof SluiceError) return void this.fail(fault)
      // The run and the other readers go on: it is this connection that cannot.
      this.#ended = true
      this.#options.onFault(fault)
      outlet.destroy()
    }
  }

  /** Writes what was there before. */
  #catchUp(): void {
    this.pump()
    this.#lastOtherWriteAt = this.#lastWriteAt
  }

  /** @returns whether there is anything to send */
  #refill(): boolean {
    if (this.#unsent.length > 0) return true
    const events = this.#cursor.next(this.#smoother ? eventsPerCut : eventsPerRead)
    this.#unsent = this.#smoother?.pass(events, performance.now()) ?? events
    return this.#unsent.length > 0 || events.length > 0
  }

  /** Makes frames of what there is, up to the size of one write, and tells whether that was all. */
  #gather(): boolean {
    const frames = this.#frames
    for (let reads = 0; reads < readsPerWrite && frames.length < charactersPerWrite; reads++) {
      if (!this.#refill()) return true
      const events = this.#unsent
      let encoded = 0
      while (encoded < events.length && frames.length < charactersPerWrite) {
        this.#encode(events[encoded++] as LogEvent, frames)
      }
      this.#unsent = encoded === events.length ? none : events.slice(encoded)
    }
    return false
  }

  /** Writes the frames that were made. */
  #send(outlet: Outlet): void {
    const frames = this.#frames
    const text = frames.take()
    // Who has seen the end is not connected: what this client has in its place was lost before it reached this log.
    if (frames.ended && frames.count <= this.#options.after) throw new SluiceError('resume_unavailable')
    if (frames.ended) this.#end(outlet, text)
    else if (text !== '') this.#write(outlet, text)
  }

  #end(outlet: Outlet, text: string): void {
    this.#ended = true
    this.#cursor.close()
    outlet.end(text)
    // From here on it is for the client to take it.
    this.#watch(outlet, performance.now())
  }

  #write(outlet: Outlet, text: string): void {
    const now = performance.now()
    this.#lastWriteAt = now
    this.#blocked = !outlet.write(text)
    if (!this.#lagging && outlet.pendingBytes > 0) this.#watch(outlet, now)
  }
}
