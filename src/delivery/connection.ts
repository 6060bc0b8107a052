import type { LogEvent } from '../core/events.ts'
import type { Encoder, Format, SmoothUnit } from '../core/format.ts'
import type { Cursor, StreamLog } from '../core/ports.ts'
import { Frames } from '../core/sse.ts'
import type { Sweep, Swept } from '../core/sweep.ts'
import { recutter, Smoother } from './smooth.ts'

/** A client's socket, as far as a connection knows it. */
export interface Outlet {
  /** Bytes written that the client has not taken yet. */
  readonly pendingBytes: number
  /** @returns false when the client lags: no more is written until `Connection.resume` is called */
  write(text: string): boolean
  /** Ends the response after what has been written. */
  end(): void
  /** Cuts the connection. */
  destroy(): void
}

export interface ConnectionOptions {
  readonly format: Format
  /** Cut the text into these for reading, and pace them. */
  readonly smooth?: SmoothUnit | undefined
  /** The number of the last frame the client already has. */
  readonly after: number
  /** A frameless connection this long gets a heartbeat, in milliseconds. */
  readonly heartbeatMs: number
  /** A client that takes no byte this long, while some are waiting for it, is cut, in milliseconds. */
  readonly clientStallMs: number
  readonly sweep: Sweep
  /** A defect of ours ended this connection. */
  onFault(fault: unknown): void
}

/** Events taken from the log for one write: all of a 64 KB upstream read at full speed, 50 KB for a client catching up. */
const eventsPerWrite = 512

/**
 * One client reading one log in one format: a cursor, a fold, a socket. A slow client is a cursor that lags. All that a
 * read has at hand goes out in one write.
 */
export class Connection implements Swept {
  readonly #options: ConnectionOptions
  readonly #cursor: Cursor
  readonly #frames: Frames
  readonly #encode: Encoder
  readonly #smoother: Smoother | undefined
  #outlet: Outlet | undefined
  #blocked = false
  #ended = false
  #lastWriteAt = 0
  /** Characters written, and how many of them the client had taken at the last look. */
  #written = 0
  #taken = 0
  #lastProgressAt = 0

  /** Counts as a reader of the log from now on; nothing is sent before `start`. */
  constructor(log: StreamLog, options: ConnectionOptions) {
    this.#options = options
    this.#frames = new Frames(log.id, options.after)
    this.#encode = options.format.encoder()
    this.#smoother = options.smooth && new Smoother(options.smooth)
    this.#cursor = log.cursor(() => this.#pump())
  }

  /**
   * Sends what the log holds and everything that follows.
   * @returns whether anything has been sent
   */
  start(outlet: Outlet): boolean {
    this.#outlet = outlet
    this.#lastWriteAt = this.#lastProgressAt = performance.now()
    this.#options.sweep.add(this)
    this.#pump()
    return this.#written > 0
  }

  /** The client took what was pending. */
  resume(): void {
    this.#blocked = false
    this.#pump()
  }

  /** The socket is closed, by whichever side. */
  close(): void {
    this.#ended = true
    this.#options.sweep.delete(this)
    this.#cursor.close()
  }

  tick(now: number): void {
    const outlet = this.#outlet
    if (!outlet) return
    const pending = outlet.pendingBytes
    const taken = this.#written - pending
    if (pending === 0 || taken > this.#taken) this.#lastProgressAt = now
    this.#taken = taken
    if (this.#smoother) this.#pump()
    if (now - this.#lastProgressAt >= this.#options.clientStallMs) outlet.destroy()
    else if (!this.#ended && !this.#blocked && now - this.#lastWriteAt >= this.#options.heartbeatMs) {
      this.#write(outlet, this.#options.format.heartbeat)
    }
  }

  #pump(): void {
    const outlet = this.#outlet
    if (!outlet) return
    try {
      while (!this.#blocked && !this.#ended) {
        const events = this.#cursor.next(eventsPerWrite)
        const due = this.#smoother?.pass(events, performance.now()) ?? events
        if (events.length === 0 && due.length === 0) return
        this.#send(due, outlet)
      }
    } catch (fault) {
      // The run and the other readers go on: it is this connection that cannot.
      this.#ended = true
      this.#options.onFault(fault)
      outlet.destroy()
    }
  }

  #send(events: readonly LogEvent[], outlet: Outlet): void {
    for (const event of events) this.#encode(event, this.#frames)
    const text = this.#frames.take()
    if (text !== '') this.#write(outlet, text)
    if (!this.#frames.ended) return
    this.#ended = true
    this.#cursor.close()
    outlet.end()
  }

  #write(outlet: Outlet, text: string): void {
    this.#lastWriteAt = performance.now()
    this.#written += Buffer.byteLength(text)
    this.#blocked = !outlet.write(text)
  }
}

/** How many frames `format` makes of these events. */
export function countFrames(format: Format, events: readonly LogEvent[], smooth?: SmoothUnit): number {
  const frames = new Frames('', Number.POSITIVE_INFINITY)
  const encode = format.encoder()
  const recut = smooth && recutter(smooth)
  for (const event of recut ? events.flatMap(recut) : events) encode(event, frames)
  return frames.count
}
