import { createParser, type EventSourceMessage } from 'eventsource-parser'

/** How long a server may take to end an answer whose last event has come, in milliseconds. */
const finishMs = 1_000

/** One request and the events of its answer. Bytes are read when an event is asked for, and not before. */
export class Connection {
  readonly #controller = new AbortController()
  readonly #silenceMs: number
  readonly #decoder = new TextDecoder()
  readonly #events: EventSourceMessage[] = []
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined
  /** When the wait for the next bytes began, in milliseconds since 1970: that goes on while a machine sleeps. */
  #waitingSince: number | undefined
  /** The delay that the server has asked for, in milliseconds. */
  retryMs: number | undefined
  readonly #parser = createParser({
    onEvent: (event) => this.#events.push(event),
    onRetry: (milliseconds) => {
      this.retryMs = milliseconds
    },
  })

  /** @param silenceMs a connection without a byte for so long is lost */
  constructor(silenceMs: number) {
    this.#silenceMs = silenceMs
  }

  /** Sends a request. @throws whatever `fetch` does, or `request` */
  open(request: (signal: AbortSignal) => Promise<Response>): Promise<Response> {
    return this.#unlessSilent(() => request(this.#controller.signal))
  }

  /** Takes over the body of the answer. */
  read(body: ReadableStream<Uint8Array>): void {
    this.#reader = body.getReader()
  }

  /** The next event, or `undefined` at the end of the body. @throws when the connection is lost */
  async next(): Promise<EventSourceMessage | undefined> {
    while (this.#events.length === 0) {
      const bytes = await this.#unlessSilent(() => (this.#reader as ReadableStreamDefaultReader<Uint8Array>).read())
      if (bytes.done) return undefined
      this.#parser.feed(this.#decoder.decode(bytes.value, { stream: true }))
      // Taken from the end, which is cheap.
      this.#events.reverse()
    }
    return this.#events.pop()
  }

  /** Lets the answer come to its end, so that the connection can be used again. */
  finish(): void {
    const timer = setTimeout(() => this.close(), finishMs)
    const stop = () => clearTimeout(timer)
    this.#drain().then(stop, stop)
  }

  async #drain(): Promise<void> {
    let ended = false
    while (!ended) ended = (await this.#reader?.read())?.done ?? true
  }

  /** Looks whether silence has lasted too long while timers stood still. */
  look(): void {
    if (this.#waitingSince !== undefined && Date.now() - this.#waitingSince > this.#silenceMs) this.close()
  }

  /** Hangs up: whoever waits for an event gets an error, or the end. */
  close(): void {
    this.#controller.abort()
    // A `fetch` of somebody else's may not heed the signal. That a lost body cannot be cancelled is no news.
    this.#reader?.cancel().catch(() => {})
  }

  async #unlessSilent<T>(wait: () => Promise<T>): Promise<T> {
    this.#waitingSince = Date.now()
    const timer = setTimeout(() => this.close(), this.#silenceMs)
    try {
      return await wait()
    } finally {
      clearTimeout(timer)
      this.#waitingSince = undefined
    }
  }
}
