import type { LogEvent, TerminalEvent, UpstreamEvent } from './events.ts'
import type { MessageRequest } from './request.ts'

/** A reader's place in a log. It starts at the first event. */
export interface Cursor {
  /** The next events at hand, at most `limit`; empty when there are none yet or none any more. */
  next(limit: number): readonly LogEvent[]
  /** Ends the reading; the log then counts one reader fewer. Safe to call twice. */
  close(): void
}

/** What the owner of a run hears about its readers. */
export interface OwnerSignals {
  /** The number of open cursors changed. */
  onReaders(count: number): void
  /** Somebody asked the stream to stop. */
  onStop(): Promise<void>
}

/** The numbered, append-only events of one run, ended by exactly one terminal event. */
export interface StreamLog {
  readonly id: string
  readonly createdAt: Date
  /** Adds events in order and wakes the readers, once; none may follow a terminal event. A promise means: wait for it before the next call. */
  append(events: readonly LogEvent[]): void | Promise<void>
  /** Opens a reader; `wake` is called, synchronously, whenever there is more to read. */
  cursor(wake: () => void): Cursor
  /** All events so far, without counting as a reader. */
  history(): Promise<readonly LogEvent[]>
  /** How it ended, if it has. */
  terminal(): Promise<TerminalEvent | undefined>
  /** Asks the owner of the run to stop it and resolves when the log is sealed. */
  stop(): Promise<void>
}

/** Where logs live. */
export interface LogStore {
  /** Live logs take up all the room there is: no new one should be begun. */
  readonly full: boolean
  /** @param alias another name to find the log by until it is sealed; the latest log of a name has it */
  create(id: string, owner: OwnerSignals, alias?: string): StreamLog
  find(id: string): Promise<StreamLog | undefined>
  /** The live log of that name. */
  findLive(alias: string): Promise<StreamLog | undefined>
  close(): void
}

/** An open answer of Claude. Iterating gives the events of one upstream read at a time. */
export interface UpstreamStream extends AsyncIterable<readonly UpstreamEvent[]> {
  /** Anthropic's `request-id` header. */
  readonly requestId: string | null
  /** Bytes of the body received so far. */
  readonly bytes: number
  /** When the last bytes came, in milliseconds of the monotonic clock. */
  readonly lastByteAt: number
  /** The answer is whole: let the connection go back to the pool, or close it when upstream does not end it soon. */
  release(): void
}

export interface ForwardedRequest {
  readonly body?: unknown
  readonly betas?: readonly string[] | undefined
  readonly version?: string | undefined
}

/** The way to Claude. */
export interface Upstream {
  /**
   * Sends the request and resolves when the response headers are in.
   * @throws SluiceError for whatever goes wrong before or, from the iterator, during the stream
   */
  open(request: MessageRequest, signal: AbortSignal): Promise<UpstreamStream>
  /**
   * Hands a request on that is answered at once, such as counting tokens.
   * @param path with its query
   * @returns the answer's JSON
   * @throws SluiceError
   */
  forward(method: 'GET' | 'POST', path: string, request: ForwardedRequest): Promise<unknown>
  close(): Promise<void>
}
