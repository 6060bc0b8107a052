import type { WireError, WireEvent } from '../core/codec.ts'
import { SluiceError, toSluiceError } from '../core/errors.ts'
import type { UpstreamEvent } from '../core/events.ts'
import type { UpstreamSink, UpstreamStream } from '../core/ports.ts'
import { Stage } from '../core/stage.ts'
import { EventDecoder } from './decode.ts'
import { connectionError, streamError } from './failures.ts'
import type { BodyControl, BodySink, StreamingResponse } from './transport.ts'

/** Reads that may wait for a slow log before the socket is paused; TCP then holds Claude back. */
const maxWaitingReads = 16

/** How long upstream may take to end a response after its last event before the socket is closed instead of reused. */
const releaseMs = 250

/** Stands for a list with nothing in it, and must stay so. */
const none: never[] = []

/** Enough for a batch to pay, and few enough for what it works on to stay in the caches and for nobody to wait for long. */
const streamsPerBatch = 64

/** A stream that gets so many pieces at once, or one of that size, is at full speed: best decoded while it is in the caches. */
const piecesPerBatch = 16
const bytesPerPiece = 4 * 1024

/** Streams with bytes that came in this turn of the event loop. */
const arrivals = new Stage<EventStream>((stream) => stream.decode(), setImmediate)

/** One open answer: decodes what the socket pushes, and pushes it on, a batch for each turn of the event loop. */
export class EventStream implements UpstreamStream, BodySink {
  readonly requestId: string | null
  bytes = 0
  lastByteAt = performance.now()

  readonly #decoder: EventDecoder
  readonly #control: BodyControl
  readonly #signal: AbortSignal
  readonly #onAbort = () => this.#giveUp(abortFailure(this.#signal))
  /** Bytes of the turn under way. */
  #unread: Buffer[] = none
  /** Batches that came while nobody took them. */
  #waiting: (readonly UpstreamEvent[])[] = []
  #sink: UpstreamSink | undefined
  #paused = true
  #failure: SluiceError | undefined
  #releasing: NodeJS.Timeout | undefined
  /** The socket has nothing more for us. */
  #ended = false
  /** The sink has all it gets. */
  #over = false

  constructor(response: StreamingResponse, maxEventBytes: number, signal: AbortSignal) {
    this.requestId = response.headers.get('request-id')
    this.#decoder = new EventDecoder(maxEventBytes)
    this.#signal = signal
    this.#control = response.control
    signal.addEventListener('abort', this.#onAbort)
    response.attach(this)
    if (signal.aborted) this.#onAbort()
  }

  deliver(sink: UpstreamSink): void {
    this.#sink = sink
    this.resume()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    const waiting = this.#waiting
    if (waiting.length > 0) this.#waiting = []
    // All at once: one by one, a log slower than Claude would stay that many reads behind.
    if (waiting.length > 0 && !this.#over) {
      this.#sink?.onEvents(waiting.length === 1 ? (waiting[0] as UpstreamEvent[]) : waiting.flat())
    }
    // Behind them, as what the socket holds, be it the end of the response, comes while it is told to go on.
    if (waiting.length >= maxWaitingReads && !this.#ended) this.#control.resume()
    this.#tellEnd()
  }

  release(): void {
    this.#over = true
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (this.#ended) return
    this.#releasing = setTimeout(() => this.#control.abort(new Error('response not ended in time')), releaseMs)
    this.#releasing.unref()
  }

  abandon(): void {
    this.#over = true
    this.#giveUp(new SluiceError('upstream_error', { reason: 'abandoned' }))
  }

  /** Claude sends an HTTP chunk per event, and a socket read may hold hundreds: they are decoded together, in a later task. */
  onBytes(bytes: Buffer): void {
    this.bytes += bytes.length
    let isWhole: boolean
    if (this.#unread.length > 0) isWhole = this.#unread.push(bytes) === piecesPerBatch
    else {
      // Not pushed onto an empty array, which gets room for 17.
      this.#unread = [bytes]
      this.lastByteAt = performance.now()
      isWhole = arrivals.add(this) === streamsPerBatch
    }
    // Not here, where the HTTP parser is at work.
    if (isWhole || bytes.length >= bytesPerPiece) queueMicrotask(arrivals.workOff)
  }

  onEnd(): void {
    this.decode()
    const events: WireEvent[] = []
    this.#take(
      events,
      failureOf(() => this.#decoder.end(events)),
    )
    this.#end()
  }

  onError(error: Error): void {
    this.decode()
    this.#end(connectionError(error, 'upstream_truncated'))
  }

  /** Takes in what has come by now. */
  decode(): void {
    const unread = this.#unread
    if (unread.length === 0) return
    this.#unread = none
    if (this.#failure || this.#over) return
    const events: WireEvent[] = []
    const failure = failureOf(() => this.#decoder.feed(unread, events))
    this.#take(events, failure)
  }

  /** Delivers what was decoded, up to the first thing that ends the stream. */
  #take(events: WireEvent[], failure: SluiceError | undefined): void {
    if (this.#failure || this.#over) return
    const error = events.findIndex(isError)
    if (error >= 0) failure = streamError((events[error] as WireError).error, this.requestId)
    this.#deliver((error >= 0 ? events.slice(0, error) : events) as UpstreamEvent[])
    if (!failure) return
    this.#end(failure)
    this.#control.abort(failure)
  }

  #deliver(events: readonly UpstreamEvent[]): void {
    if (events.length === 0) return
    if (!this.#paused) this.#sink?.onEvents(events)
    else if (this.#waiting.push(events) === maxWaitingReads) this.#control.pause()
  }

  /** Our side wants no more: what waits is dropped and the socket closed. */
  #giveUp(failure: SluiceError): void {
    this.#unread = none
    this.#waiting = []
    const wasOpen = !this.#ended
    this.#end(failure)
    if (wasOpen) this.#control.abort(failure)
  }

  #end(failure?: SluiceError): void {
    this.#ended = true
    clearTimeout(this.#releasing)
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#failure ??= failure
    this.#tellEnd()
  }

  /** The end comes behind everything that waits. */
  #tellEnd(): void {
    if (!this.#ended || this.#over || !this.#sink || this.#paused || this.#waiting.length > 0) return
    this.#over = true
    this.#sink.onEnd(this.#failure)
  }
}

/** A clock says itself what it is; any other abort is whoever ended the run, and knows better than the stream why. */
function abortFailure({ reason }: AbortSignal): SluiceError {
  return reason instanceof SluiceError ? reason : new SluiceError('upstream_error', { reason: 'aborted' })
}

function isError({ type }: WireEvent): boolean {
  return type === 'wire_error'
}

/** @returns what `decode` threw */
function failureOf(decode: () => void): SluiceError | undefined {
  try {
    decode()
    return undefined
  } catch (thrown) {
    return toSluiceError(thrown)
  }
}
