import type { Frame } from '../core/frames.ts'
import type { Address } from './address.ts'
import { Backoff } from './backoff.ts'
import { Connection } from './connection.ts'
import { errorOf, refusalOf, SluiceClientError } from './errors.ts'
import type { ClientOptions } from './options.ts'
import { watchSurroundings } from './surroundings.ts'
import { bringsContent, isTerminal } from './terminal.ts'

/** A stream to begin, or one to go on with. */
export interface Origin {
  readonly question?: { readonly headers: Readonly<Record<string, string>>; readonly body: string }
  readonly id?: string
  readonly after?: number | undefined
  readonly smooth?: string | undefined
}

const standardSilenceMs = 45_000
/** How long the server may take to hear that a stream is to be stopped, in milliseconds. */
const stopMs = 10_000

/** The way to one stream, over as many connections as it takes: frames in order, each once. */
export class Link {
  readonly #address: Address
  readonly #options: ClientOptions
  readonly #origin: Origin
  readonly #backoff: Backoff
  /** Resolves when nothing more is to be read. */
  readonly #over = Promise.withResolvers<void>()
  readonly #unwatch: () => void
  #isOver = false
  #connection: Connection
  #opened: Promise<void>
  /** The number of the last frame. */
  position: number
  /** Of the stream, as soon as a header or a frame has told it. */
  id: string | undefined
  /** Content has come. */
  partial = false

  /** Sends the first request at once. */
  constructor(address: Address, options: ClientOptions, origin: Origin) {
    this.#address = address
    this.#options = options
    this.#origin = origin
    this.#backoff = new Backoff(options.retry)
    this.id = origin.id
    this.position = origin.after ?? 0
    this.#connection = this.#newConnection()
    this.#opened = this.#open(this.#connection)
    this.#unwatch = watchSurroundings(
      () => {
        this.#connection.close()
        this.#backoff.wake()
      },
      () => {
        this.#connection.look()
        this.#backoff.wake()
      },
    )
  }

  /** Ends behind the terminal frame, when it is closed, or when there is nothing left. @throws SluiceClientError to give up */
  async *frames(): AsyncGenerator<Frame, void> {
    while (!this.#isOver) yield* this.#framesOfConnection()
    this.#connection.finish()
  }

  /** Hangs up, and does not come back. */
  close(): void {
    this.#end()
    this.#connection.close()
  }

  /** The same, and tells the server to stop the stream. @throws when it could not be told */
  async stop(): Promise<void> {
    this.#end()
    if (this.id === undefined) {
      // The question is on its way: the head of its answer names what is to be stopped. But nobody waits for ever.
      const timer = setTimeout(() => this.#connection.close(), stopMs)
      await this.#opened.catch(() => {})
      clearTimeout(timer)
    }
    this.#connection.close()
    if (this.id === undefined) return
    const signal = AbortSignal.timeout(stopMs)
    const response = await this.#fetch(this.#address.of(this.id), { method: 'DELETE', keepalive: true, signal })
    if (!response.ok && response.status !== 404) throw await refusalOf(response, this.partial)
  }

  #end(): void {
    this.#isOver = true
    this.#unwatch()
    this.#over.resolve()
    this.#backoff.wake()
  }

  /** Until the stream ends; or until the connection does, and the next one is on its way. */
  async *#framesOfConnection(): AsyncGenerator<Frame, void> {
    let cause: unknown
    try {
      await Promise.race([this.#opened, this.#over.promise])
      for (let event = await this.#nextEvent(); event; event = await this.#nextEvent()) {
        const frame = this.#take(event)
        if (frame) yield frame
      }
      cause = new Error('the answer broke off')
    } catch (error) {
      cause = error
    }
    if (!this.#isOver) await this.#reconnect(cause)
  }

  async #nextEvent() {
    const event = this.#isOver ? undefined : await this.#connection.next()
    return this.#isOver ? undefined : event
  }

  /** @throws SluiceClientError when the server at hand has had to give up, but not the stream */
  #take({ id, data }: { id?: string | undefined; data: string }): Frame | undefined {
    if (data === '[DONE]') return undefined
    const frame = JSON.parse(data) as Frame
    if (id !== undefined) {
      const dot = id.lastIndexOf('.')
      const n = Number(id.slice(dot + 1))
      if (n <= this.position) return undefined
      if (n !== this.position + 1) throw new Error('a frame is missing')
      this.id = id.slice(0, dot)
      this.position = n
    } else if (frame.type === 'error' && frame.error.retryable) throw errorOf(frame)
    this.#backoff.progress()
    this.partial ||= bringsContent(frame)
    if (isTerminal(frame)) this.#end()
    return frame
  }

  async #reconnect(cause: unknown): Promise<void> {
    const told = cause instanceof SluiceClientError ? cause : undefined
    const refused = told?.status !== undefined && !this.#isUnderWay
    const wishMs = told?.retryAfterMs ?? this.#connection.retryMs
    const delayMs = told?.retryable === false ? undefined : this.#backoff.next(refused, wishMs)
    this.#connection.close()
    if (delayMs === undefined) {
      this.#end()
      throw told ?? this.#lost(cause)
    }
    this.#options.onReconnect?.({ attempt: this.#backoff.attempt, delayMs, cause })
    await this.#backoff.sleep(delayMs)
    if (this.#isOver) return
    this.#connection = this.#newConnection()
    this.#opened = this.#open(this.#connection)
  }

  #lost(cause: unknown): SluiceClientError {
    const message = 'The connection was lost and could not be made again.'
    return new SluiceClientError('connection_lost', message, { partial: this.partial, retryable: true, cause })
  }

  /** Before anything has come, the same question under the same key is the way to the stream. */
  get #isUnderWay(): boolean {
    return this.#origin.id !== undefined || this.position > 0
  }

  #newConnection(): Connection {
    return new Connection(this.#options.silenceMs ?? standardSilenceMs)
  }

  #open(connection: Connection): Promise<void> {
    const opened = this.#openWith(connection)
    // It is looked at when frames are asked for.
    opened.catch(() => {})
    return opened
  }

  async #openWith(connection: Connection): Promise<void> {
    const response = await connection.open((signal) => this.#request(signal))
    if (!this.#isUnderWay) this.id = response.headers.get('x-stream-id') ?? undefined
    // The server has nothing more to say.
    if (response.status === 204) return this.#end()
    if (!response.ok) throw await refusalOf(response, this.partial)
    const type = response.headers.get('content-type')
    if (!response.body || !type?.startsWith('text/event-stream')) {
      const message = `The server answered with ${type ?? 'nothing'} instead of an event stream.`
      // What stands between, such as a page to log in to a network, comes and goes; and Chromium takes a head that has been
      // cut off for a whole one.
      throw new SluiceClientError('not_sluice', message, {
        partial: this.partial,
        retryable: true,
        status: response.status,
      })
    }
    connection.read(response.body)
  }

  #request(signal: AbortSignal): Promise<Response> {
    const { question, smooth } = this.#origin
    if (question && !this.#isUnderWay) {
      const { body, headers } = question
      return this.#fetch(this.#address.start, { method: 'POST', body, signal }, headers)
    }
    const position: Record<string, string> = this.position > 0 ? { 'last-event-id': `${this.id}.${this.position}` } : {}
    const query = smooth === undefined ? '' : `?smooth=${smooth}`
    return this.#fetch(this.#address.of(String(this.id)) + query, { cache: 'no-store', signal }, position)
  }

  async #fetch(url: string, init: RequestInit, ours: Readonly<Record<string, string>> = {}): Promise<Response> {
    const { headers: theirs, fetch = globalThis.fetch } = this.#options
    const headers = new Headers(typeof theirs === 'function' ? await theirs() : theirs)
    for (const [name, value] of Object.entries({ accept: 'text/event-stream', ...ours })) headers.set(name, value)
    return fetch(url, { ...init, headers })
  }
}
