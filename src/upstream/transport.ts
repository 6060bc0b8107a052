import { Agent, type Dispatcher } from 'undici'

/** What an open response is read into, straight from the socket. */
export interface BodySink {
  onBytes(bytes: Uint8Array): void
  onEnd(): void
  onError(error: Error): void
}

/** The reins of an open response. */
export interface BodyControl {
  pause(): void
  resume(): void
  abort(reason: Error): void
}

/** Error bodies are for the SDK's error mapping alone; a longer one is cut. */
const maxErrorBodyBytes = 64 * 1024

/**
 * A successful response whose body is not a web stream but pushed into a sink: per event, fetch's body costs more than
 * twice what undici's dispatch does (58 against 25 µs at one event a read).
 */
export class StreamingResponse extends Response {
  readonly control: BodyControl
  /** Where the body goes: into a queue until somebody attaches, which holds at most the rest of the first read. */
  sink: BodySink
  readonly #early: EarlyBody

  constructor(status: number, headers: Headers, control: BodyControl) {
    super(null, { status, headers })
    this.control = control
    this.#early = new EarlyBody()
    this.sink = this.#early
  }

  attach(sink: BodySink): void {
    this.sink = sink
    this.#early.replay(sink)
  }
}

class EarlyBody implements BodySink {
  readonly #calls: ((sink: BodySink) => void)[] = []

  onBytes(bytes: Uint8Array): void {
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
 * A `fetch` for the Anthropic SDK: the SDK builds the request and maps the errors, the bytes come from undici. It
 * follows no redirect, which would carry the key elsewhere, and asks for no compression, which would hold events back.
 */
export function streamingFetch(dispatcher: Dispatcher): typeof fetch {
  return (input, init = {}) =>
    new Promise<Response>((resolve, reject) => {
      const url = new URL(input instanceof Request ? input.url : input)
      const headers = Object.fromEntries(new Headers(init.headers))
      const { signal } = init
      let control: Dispatcher.DispatchController | undefined
      const abort = () => {
        const reason = signal?.reason instanceof Error ? signal.reason : new Error('aborted')
        // The status is known; only the body that explains it is not.
        if (failed) answerFailed()
        control?.abort(reason)
        reject(reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      const settle = () => signal?.removeEventListener('abort', abort)

      let open: StreamingResponse | undefined
      let failed: { status: number; headers: Headers; chunks: Buffer[]; bytes: number } | undefined
      const answerFailed = () => {
        if (!failed) return
        resolve(new Response(nullBody(failed.status) ? null : Buffer.concat(failed.chunks), failed))
      }

      dispatcher.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method: (init.method ?? 'GET') as Dispatcher.HttpMethod,
          headers: { ...headers, 'accept-encoding': 'identity' },
          body: init.body as string,
        },
        {
          onRequestStart(controller) {
            control = controller
            if (signal?.aborted) abort()
          },
          onResponseStart(controller, status, rawHeaders) {
            // 1xx announces a response; what lies beyond 599 is none, and cannot be made a `Response`.
            if (status < 200) return
            if (status > 599) return controller.abort(new Error(`unexpected status ${status}`))
            const responseHeaders = toHeaders(rawHeaders)
            if (status >= 300 || nullBody(status)) {
              failed = { status, headers: responseHeaders, chunks: [], bytes: 0 }
              return
            }
            settle()
            open = new StreamingResponse(status, responseHeaders, controller)
            resolve(open)
          },
          onResponseData(controller, chunk) {
            if (open) return open.sink.onBytes(chunk)
            if (!failed) return
            // A compressed explanation is not unpacked: it may be a bomb, and the status says enough.
            if (!failed.headers.has('content-encoding')) failed.chunks.push(chunk)
            failed.bytes += chunk.length
            if (failed.bytes > maxErrorBodyBytes) {
              answerFailed()
              controller.abort(new Error('error body too large'))
            }
          },
          onResponseEnd() {
            settle()
            if (open) open.sink.onEnd()
            else answerFailed()
          },
          onResponseError(_controller, error) {
            settle()
            // A response that failed half-way through its error body still has the status that matters.
            if (open) open.sink.onError(error)
            else if (failed) answerFailed()
            else reject(error)
          },
        },
      )
    })
}

function nullBody(status: number): boolean {
  return status === 204 || status === 205 || status === 304
}

function toHeaders(raw: Record<string, string | string[] | undefined>): Headers {
  const headers = new Headers()
  for (const [name, value] of Object.entries(raw)) {
    for (const each of Array.isArray(value) ? value : [value ?? '']) headers.append(name, each)
  }
  return headers
}
