import { Agent, type Dispatcher } from 'undici'

/** What an open response is read into, straight from the socket. */
export interface BodySink {
  onBytes(bytes: Buffer): void
  onEnd(): void
  onError(error: Error): void
}

/** The reins of an open response. */
export interface BodyControl {
  pause(): void
  resume(): void
  abort(reason: Error): void
}

export interface OutgoingRequest {
  readonly origin: string
  readonly path: string
  readonly method: Dispatcher.HttpMethod
  /** Names and values in turn. */
  readonly headers: string[]
  readonly body: string | null
}

/** Error bodies are for the SDK's error mapping alone; a longer one is cut. */
const maxErrorBodyBytes = 64 * 1024

type RawHeaders = Readonly<Record<string, string | string[] | undefined>>

/**
 * A successful response whose body is not a web stream but pushed into a sink: per event, fetch's body costs more than
 * twice what undici's dispatch does (58 against 25 µs at one event a read).
 */
export class StreamingResponse {
  readonly status: number
  readonly headers: ResponseHeaders
  readonly control: BodyControl
  readonly #exchange: Exchange

  constructor(status: number, headers: ResponseHeaders, control: BodyControl, exchange: Exchange) {
    this.status = status
    this.headers = headers
    this.control = control
    this.#exchange = exchange
  }

  /** Gives `sink` all that has come and all that comes. To be called once. */
  attach(sink: BodySink): void {
    this.#exchange.attach(sink)
  }
}

/** Looks headers up where undici has put them: a `Headers` of twenty that are asked for three costs 20 µs. */
export class ResponseHeaders {
  readonly #raw: RawHeaders

  constructor(raw: RawHeaders) {
    this.#raw = raw
  }

  /** @param name in lower case */
  get(name: string): string | null {
    const value = this.#raw[name]
    return Array.isArray(value) ? value.join(', ') : (value ?? null)
  }

  /** All of them, for the SDK. */
  toHeaders(): Headers {
    const headers = new Headers()
    for (const [name, value] of Object.entries(this.#raw)) {
      for (const each of Array.isArray(value) ? value : [value ?? '']) headers.append(name, each)
    }
    return headers
  }
}

/** Holds what comes before anybody has attached: at most the rest of the first read. */
class EarlyBody implements BodySink {
  readonly #calls: ((sink: BodySink) => void)[] = []

  onBytes(bytes: Buffer): void {
    this.#calls.push((sink) => sink.onBytes(bytes))
  }

  onEnd(): void {
    this.#calls.push((sink) => sink.onEnd())
  }

  onError(error: Error): void {
    this.#calls.push((sink) => sink.onError(error))
  }

  replay(sink: BodySink): void {
    for (const call of this.#calls) call(sink)
  }
}

/** A connection pool for streams: one socket each, no time-outs of its own (the run's clocks are the only ones). */
export function createPool(connectTimeoutMs: number): Agent {
  return new Agent({
    connect: { timeout: connectTimeoutMs, noDelay: true },
    headersTimeout: 0,
    bodyTimeout: 0,
    pipelining: 1,
    // One lost packet or GOAWAY on a shared HTTP/2 connection would hit many streams at once.
    allowH2: false,
  })
}

/**
 * Sends a request and resolves when the headers of a success are in, or all of any other response. It follows no
 * redirect, which would carry the key elsewhere.
 */
export function send(
  dispatcher: Dispatcher,
  request: OutgoingRequest,
  signal: AbortSignal | undefined,
): Promise<StreamingResponse | Response> {
  return new Promise((resolve, reject) => {
    dispatcher.dispatch(request, new Exchange(signal, { resolve, reject }))
  })
}

interface Opening {
  resolve(response: StreamingResponse | Response): void
  reject(reason: Error): void
}

/** A response that is no success, or has no content: it is read whole, as far as anybody wants it. */
interface Refusal {
  readonly status: number
  readonly headers: Headers
  readonly chunks: Buffer[]
  bytes: number
}

/** One request and its response. It lives as long as the stream does, so it keeps nothing that only the opening needs. */
class Exchange implements Dispatcher.DispatchHandler {
  #signal: AbortSignal | undefined
  #onAbort: (() => void) | undefined
  #opening: Opening | undefined
  #control: Dispatcher.DispatchController | undefined
  /** Where the body of a success goes. */
  #body: BodySink | undefined
  #refusal: Refusal | undefined

  constructor(signal: AbortSignal | undefined, opening: Opening) {
    this.#opening = opening
    this.#signal = signal
    if (!signal) return
    // A function, though an object with `handleEvent` would do: around that Node makes one that V8 takes for a method, and
    // so for an old object, which kept 6 kB of each stream until the next full collection.
    const onAbort = () => this.#giveUp()
    this.#onAbort = onAbort
    signal.addEventListener('abort', onAbort)
  }

  /** There is no response to give up yet. */
  #giveUp(): void {
    const reason = this.#signal?.reason instanceof Error ? this.#signal.reason : new Error('aborted')
    const opening = this.#opening
    // The status is known; only the body that explains it is not.
    if (this.#refusal) this.#answerRefused(this.#refusal)
    this.#control?.abort(reason)
    opening?.reject(reason)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#control = controller
    if (this.#signal?.aborted) this.#giveUp()
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, raw: RawHeaders): void {
    // 1xx announces a response; what lies beyond 599 is none, and cannot be made a `Response`.
    if (status < 200) return
    if (status > 599) {
      controller.abort(new Error(`unexpected status ${status}`))
      return
    }
    const headers = new ResponseHeaders(raw)
    if (status >= 300 || isNullBody(status)) {
      this.#refusal = { status, headers: headers.toHeaders(), chunks: [], bytes: 0 }
      return
    }
    // They point into the whole first read, and undici would hold them to the end.
    controller.rawHeaders = null
    this.#body = new EarlyBody()
    this.#opening?.resolve(new StreamingResponse(status, headers, controller, this))
    this.#settle()
  }

  attach(sink: BodySink): void {
    const early = this.#body
    this.#body = sink
    if (early instanceof EarlyBody) early.replay(sink)
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#body) this.#body.onBytes(chunk)
    else if (this.#refusal) this.#keep(this.#refusal, controller, chunk)
  }

  onResponseEnd(): void {
    if (this.#body) this.#body.onEnd()
    else if (this.#refusal) this.#answerRefused(this.#refusal)
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    // A response that failed half-way through its error body still has the status that matters.
    if (this.#body) this.#body.onError(error)
    else if (this.#refusal) this.#answerRefused(this.#refusal)
    else this.#opening?.reject(error)
    this.#settle()
  }

  #keep(refusal: Refusal, controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // A compressed explanation is not unpacked: it may be a bomb, and the status says enough.
    if (!refusal.headers.has('content-encoding')) refusal.chunks.push(chunk)
    refusal.bytes += chunk.length
    if (refusal.bytes > maxErrorBodyBytes) {
      this.#answerRefused(refusal)
      controller.abort(new Error('error body too large'))
    }
  }

  #answerRefused({ status, headers, chunks }: Refusal): void {
    this.#opening?.resolve(new Response(isNullBody(status) ? null : Buffer.concat(chunks), { status, headers }))
    this.#settle()
  }

  #settle(): void {
    if (this.#onAbort) this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#onAbort = undefined
    this.#signal = undefined
    this.#opening = undefined
  }
}

function isNullBody(status: number): boolean {
  return status === 204 || status === 205 || status === 304
}
