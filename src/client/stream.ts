import type { Frame } from '../core/frames.ts'
import type { Usage } from '../core/usage.ts'
import { addressOf } from './address.ts'
import { Answer, type Message } from './answer.ts'
import { errorOf, SluiceClientError } from './errors.ts'
import { randomKey } from './key.ts'
import { Link } from './link.ts'
import type { ResumeOptions, StartOptions, StreamBody } from './options.ts'
import { isTerminal, type TerminalFrame } from './terminal.ts'

export { Answer, type Block, type Message, type ToolCall, type Turn } from './answer.ts'
export { type ClientErrorCode, SluiceClientError } from './errors.ts'
export type { ClientOptions, Reconnect, ResumeOptions, RetryOptions, StartOptions, StreamBody } from './options.ts'
export type { Frame, Usage }

/**
 * Asks Claude: sends `POST url` at once. The same question is never paid for twice, however often the connection is lost.
 * @param url of `/stream` or `/api/chat`, whatever stands before it; relative to the page where there is one
 */
export function stream(url: string | URL, body: StreamBody, options: StartOptions = {}): SluiceStream {
  const headers = {
    'content-type': 'application/json',
    'idempotency-key': options.idempotencyKey ?? randomKey(),
  }
  const question = { headers, body: JSON.stringify(body) }
  return new SluiceStream(new Link(addressOf(url), options, { question, smooth: body.smooth }), options.signal)
}

/**
 * Reads a stream that is there already: one that another page began, or this one before it was loaded again.
 * @param url the one that the stream was begun with
 */
export function resume(url: string | URL, id: string, options: ResumeOptions = {}): SluiceStream {
  const { after, smooth, signal } = options
  return new SluiceStream(new Link(addressOf(url), options, { id, after, smooth }), signal)
}

/**
 * One stream: its frames in order, each once, whatever happens to connections. They are read as fast as they are taken:
 * in a loop, or by whoever awaits one of the promises when there is no loop.
 */
export class SluiceStream implements AsyncIterable<Frame> {
  readonly #link: Link
  readonly #answer = new Answer()
  readonly #text = handled<string>()
  readonly #message = handled<Message>()
  readonly #usage = handled<Usage>()
  readonly #signal: AbortSignal | undefined
  readonly #onAbort = () => void this.abort()
  #settled = false
  #frames: AsyncGenerator<Frame, void> | undefined
  #stopped: Promise<void> | undefined

  /** Made by `stream` and `resume`. */
  constructor(link: Link, signal: AbortSignal | undefined) {
    this.#link = link
    this.#signal = signal
    signal?.addEventListener('abort', this.#onAbort)
    if (signal?.aborted) this.#onAbort()
  }

  /** Of the stream, as soon as the server has told it. */
  get id(): string | undefined {
    return this.#link.id
  }

  /** The number of the last frame. */
  get position(): number {
    return this.#link.position
  }

  /** All text of the answer, when it is complete. */
  get text(): Promise<string> {
    return this.#drained(this.#text.promise)
  }

  /** The answer as the Messages API has it, when it is complete: fit to be given back as an assistant turn. */
  get message(): Promise<Message> {
    return this.#drained(this.#message.promise)
  }

  /** What it took, also when it failed in its middle or somebody else stopped it. */
  get usage(): Promise<Usage> {
    return this.#drained(this.#usage.promise)
  }

  /** @throws Error when the frames are being taken already */
  [Symbol.asyncIterator](): AsyncIterator<Frame, void> {
    if (this.#frames) throw new Error('The frames of a stream can be taken once.')
    const frames = this.#read()
    this.#frames = frames
    return {
      next: () => frames.next(),
      return: () => {
        // First, as the generator may be waiting for a frame.
        this.close()
        return frames.return()
      },
    }
  }

  /**
   * Stops the answer: here at once, at Claude as soon as the server has heard of it.
   * @returns a promise that rejects when the server could not be told; to it this is a reader that has gone away
   */
  abort(): Promise<void> {
    if (!this.#stopped) {
      this.#stopped = this.#settled ? Promise.resolve() : this.#link.stop()
      this.#stopped.catch(() => {})
      this.#fail(new SluiceClientError('cancelled', 'The stream was stopped.', this.#link))
    }
    return this.#stopped
  }

  /** Hangs up. What becomes of the answer is up to `on_disconnect`; it can be resumed for as long as the server has it. */
  close(): void {
    if (this.#settled) return
    this.#link.close()
    this.#fail(new SluiceClientError('closed', 'The stream was closed before its end.', this.#link))
  }

  async *#read(): AsyncGenerator<Frame, void> {
    try {
      for await (const frame of this.#link.frames()) {
        this.#answer.add(frame)
        if (isTerminal(frame)) this.#settle(frame)
        yield frame
      }
      this.#fail(new SluiceClientError('already_finished', 'The stream had ended where you wanted to go on.'))
    } catch (error) {
      if (error instanceof SluiceClientError) this.#fail(error)
      throw error
    } finally {
      this.close()
    }
  }

  /** Reads on when nobody else does; who asked has had time to begin a loop by then. */
  #drained<T>(promise: Promise<T>): Promise<T> {
    queueMicrotask(() => {
      if (!this.#frames) void this.#drain()
    })
    return promise
  }

  async #drain(): Promise<void> {
    const frames = this[Symbol.asyncIterator]()
    try {
      for (let next = await frames.next(); !next.done; ) next = await frames.next()
    } catch {
      // The promises tell.
    }
  }

  #settle(frame: TerminalFrame): void {
    const { text, message } = this.#answer
    this.#usage.resolve(frame.usage as Usage)
    if (frame.type === 'done') {
      this.#text.resolve(text)
      if (message) this.#message.resolve(message)
      this.#fail(new SluiceClientError('begun_before', 'The message had begun before you went on with it.'))
    } else this.#fail(errorOf(frame, this.#link.partial))
  }

  /** Rejects what has not been settled yet. */
  #fail(error: SluiceClientError): void {
    this.#settled = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    for (const each of [this.#text, this.#message, this.#usage]) each.reject(error)
  }
}

/** A promise that nobody has to look at. */
function handled<T>(): PromiseWithResolvers<T> {
  const resolvers = Promise.withResolvers<T>()
  resolvers.promise.catch(() => {})
  return resolvers
}
