import type { WireError, WireEvent } from '../core/codec.ts'
import { SluiceError, toSluiceError } from '../core/errors.ts'
import type { UpstreamEvent } from '../core/events.ts'
import type { UpstreamStream } from '../core/ports.ts'
import { EventDecoder } from './decode.ts'
import { connectionError, streamError } from './failures.ts'
import type { BodyControl, BodySink, StreamingResponse } from './transport.ts'

/** Reads that may wait for a slow log before the socket is paused; TCP then holds Claude back. */
const maxWaitingReads = 16

/** How long upstream may take to end a response after its last event before the socket is closed instead of reused. */
const releaseMs = 250

type Batch = readonly UpstreamEvent[]
type Read = IteratorResult<Batch, undefined>

/** One open answer: decodes what the socket pushes, hands it out batch by batch. */
export class EventStream implements UpstreamStream, BodySink, AsyncIterator<Batch, undefined> {
  readonly requestId: string | null
  bytes = 0
  lastByteAt = performance.now()

  readonly #decoder: EventDecoder
  readonly #control: BodyControl
  readonly #signal: AbortSignal
  readonly #onAbort = () => this.#giveUp(new SluiceError('upstream_error', { reason: 'aborted' }))
  /** Bytes of the socket read under way. */
  #unread: Uint8Array[] = []
  #waiting: Batch[] = []
  #reader: PromiseWithResolvers<Read> | undefined
  #failure: SluiceError | undefined
  /** The socket has nothing more for us. */
  #ended = false
  #released = false

  constructor(response: StreamingResponse, maxEventBytes: number, signal: AbortSignal) {
    this.requestId = response.headers.get('request-id')
    this.#decoder = new EventDecoder(maxEventBytes)
    this.#signal = signal
    this.#control = response.control
    signal.addEventListener('abort', this.#onAbort)
    response.attach(this)
    if (signal.aborted) this.#onAbort()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<Read> {
    const waiting = this.#waiting
    if (waiting.length > 0) {
      // All at once: one by one, a log slower than Claude would stay that many reads behind.
      this.#waiting = []
      if (waiting.length >= maxWaitingReads) this.#control.resume()
      return { value: waiting.length === 1 ? (waiting[0] as Batch) : waiting.flat(), done: false }
    }
    if (this.#failure) throw this.#failure
    if (this.#ended) return { value: undefined, done: true }
    this.#reader = Promise.withResolvers()
    return this.#reader.promise
  }

  /** Called when the consumer leaves early, by `break`, `return` or an exception. */
  async return(): Promise<Read> {
    if (!this.#released) this.#giveUp(new SluiceError('upstream_error', { reason: 'abandoned' }))
    return { value: undefined, done: true }
  }

  release(): void {
    this.#released = true
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (this.#ended) return
    const timer = setTimeout(() => {
      if (!this.#ended) this.#control.abort(new Error('response not ended in time'))
    }, releaseMs)
    timer.unref()
  }

  /** Claude sends an HTTP chunk per event, and a socket read may hold hundreds: they are decoded together. */
  onBytes(bytes: Uint8Array): void {
    this.bytes += bytes.length
    if (this.#unread.push(bytes) === 1) queueMicrotask(() => this.#decode())
  }

  #decode(): void {
    const bytes = this.#unread.length === 1 ? (this.#unread[0] as Uint8Array) : Buffer.concat(this.#unread)
    this.#unread = []
    if (bytes.length === 0) return
    this.lastByteAt = performance.now()
    this.#take((events) => this.#decoder.feed(bytes, events))
  }

  /** Delivers what `decode` finds, up to the first thing that ends the stream. */
  #take(decode: (events: WireEvent[]) => void): void {
    if (this.#failure || this.#released) return
    const events: WireEvent[] = []
    let failure: SluiceError | undefined
    try {
      decode(events)
    } catch (thrown) {
      failure = toSluiceError(thrown)
    }
    const error = events.findIndex((event) => event.type === 'wire_error')
    if (error >= 0) failure = streamError((events[error] as WireError).error, this.requestId)
    this.#deliver((error >= 0 ? events.slice(0, error) : events) as UpstreamEvent[])
    if (!failure) return
    this.#fail(failure)
    this.#control.abort(failure)
  }

  onEnd(): void {
    this.#decode()
    this.#take((events) => this.#decoder.end(events))
    this.#finish()
    this.#reader?.resolve({ value: undefined, done: true })
    this.#reader = undefined
  }

  onError(error: Error): void {
    this.#decode()
    this.#fail(connectionError(error, 'upstream_truncated'))
  }

  #deliver(batch: Batch): void {
    if (batch.length === 0) return
    if (this.#reader) {
      this.#reader.resolve({ value: batch, done: false })
      this.#reader = undefined
    } else if (this.#waiting.push(batch) === maxWaitingReads) {
      this.#control.pause()
    }
  }

  /** Our side wants no more: what waits is dropped and the socket closed. */
  #giveUp(failure: SluiceError): void {
    this.#unread = []
    this.#waiting = []
    const wasOpen = !this.#ended
    this.#fail(failure)
    if (wasOpen) this.#control.abort(failure)
  }

  #fail(failure: SluiceError): void {
    this.#finish()
    this.#failure ??= failure
    this.#reader?.reject(this.#failure)
    this.#reader = undefined
  }

  #finish(): void {
    this.#ended = true
    this.#signal.removeEventListener('abort', this.#onAbort)
  }
}
