import type { SluiceError } from './errors.ts'
import type { LogEvent, TerminalEvent, UpstreamEvent } from './events.ts'
import type { MessageRequest } from './request.ts'
import type { ToolDecision } from './tools.ts'

/** Who reads a log. */
export interface LogReader {
  /** There is more to read, or never will be. It may be read at once, or a little later. */
  wake(): void
}

/** A reader's place in a log. It starts at the first event. */
export interface Cursor {
  /**
   * The next events at hand, at most `limit`; empty when there are none yet or none any more.
   * @throws SluiceError `resume_unavailable` when what follows is not held any more
   */
  next(limit: number): readonly LogEvent[]
  /** How many events of a live log it has yet to give; 0 for a finished one. */
  readonly behind: number
  /** Ends the reading; the log then counts one reader fewer. Safe to call twice. */
  close(): void
}

/** What the owner of a run hears about its log. */
export interface OwnerSignals {
  /** The number of open cursors changed. */
  onReaders(count: number): void
  /** Somebody asked the stream to stop. */
  onStop(): Promise<void>
  /**
   * Somebody decides on a call of a tool.
   * @returns whether it waited for that; the decision is in the log then
   */
  onDecision(call: string, decision: ToolDecision): Promise<boolean>
  /** Another replica has taken the log over: whatever this owner still appends is dropped. */
  onFenced(): void
}

/** The numbered, append-only events of one run, ended by exactly one terminal event. */
export interface StreamLog {
  readonly id: string
  /** Whose it is; empty where nobody is told from anybody. */
  readonly principal: string
  readonly createdAt: Date
  /** Another process could serve this log from here on. */
  readonly shared: boolean
  /** Others could serve it, if the store that they share were not away since before it began. */
  readonly isolated?: boolean
  /** Why nothing follows on what there is, though it has no end. */
  readonly loss: SluiceError | undefined
  /** Adds events in order and wakes the readers, once; none may follow a terminal event. A promise means: wait for it before the next call. */
  append(events: readonly LogEvent[]): void | Promise<void>
  /** Opens a place to read from; `reader` is woken, synchronously, whenever there is more to read. */
  cursor(reader: LogReader): Cursor
  /** All events so far, without counting as a reader. */
  history(): Promise<readonly LogEvent[]>
  /** How it ended, if it has. */
  terminal(): Promise<TerminalEvent | undefined>
  /**
   * Takes in all that there is by now.
   * @returns false when readers elsewhere may rightly have had more: it is on its way, or lost
   * @throws SluiceError `resume_unavailable` when events are known to be lost
   */
  caughtUp(): Promise<boolean>
  /** Its readers are told to come back through another process, and are not gone meanwhile. */
  expectReaders(): void
  /** Asks the owner of the run to stop it and resolves when the log is sealed. */
  stop(): Promise<void>
  /**
   * Hands a decision on a call to the owner of the run, as `OwnerSignals.onDecision`.
   * @throws SluiceError `store_unavailable` when nobody can tell
   */
  decide(call: string, decision: ToolDecision): Promise<boolean>
}

/** A log whose run died with its process, and which is this process's to write now. */
export interface OrphanLog extends StreamLog {
  /** Gives it a run again, which hears at once what it has missed: readers that are there, a stop. To be called once. */
  own(owner: OwnerSignals): void
}

/** What an idempotency key stands for. */
export interface Claim {
  /** Of the stream that the key began. */
  readonly id: string
  /** Of the request, so that another one under the same key is noticed. */
  readonly fingerprint: string
}

export interface NewClaim extends Claim {
  /** Of the stream, as in `LogOptions`. */
  readonly alias?: string | undefined
  readonly principal?: string | undefined
}

export interface LogOptions {
  readonly owner: OwnerSignals
  /** Who has begun it; nobody in particular unless given. */
  readonly principal?: string | undefined
  /** Another name to find the log by until it is sealed; the latest log of a name has it. */
  readonly alias?: string | undefined
  /** The idempotency key that was claimed for it: it is kept for as long as the key. */
  readonly key?: string | undefined
  /** What another process needs to go on with the run, should this one die; it is forgotten when the log is sealed. */
  readonly plan?: (() => string) | undefined
}

/** How a store that can be away is doing. */
export interface StoreHealth {
  readonly up: boolean
  /** Live and late streams of this process by how they stand to the store. */
  readonly streams: Readonly<Record<string, number>>
  /** Events that the store should have, and has not. */
  readonly unsentEvents: number
}

/** Where logs live. */
export interface LogStore {
  /** Live logs take up all the room there is: no new one should be begun. */
  readonly full: boolean
  /**
   * Gives a key to a stream, unless another has it. A key whose run came to nothing is free again.
   * @returns the claim that was there before
   * @throws SluiceError `store_unavailable` when it cannot tell
   */
  claim(key: string, claim: NewClaim): Promise<Claim | undefined>
  /**
   * What a key stands for.
   * @throws SluiceError `store_unavailable` when it cannot tell
   */
  claimed(key: string): Promise<Claim | undefined>
  create(id: string, options: LogOptions): StreamLog
  /**
   * @param principal who asks: another's takes no less time to look for than one that is not there, where that can be
   * @throws SluiceError `store_unavailable` when it cannot tell
   */
  find(id: string, principal?: string): Promise<StreamLog | undefined>
  /** The live log of that name. */
  findLive(alias: string): Promise<StreamLog | undefined>
  /** Of a store that can be away. */
  health?(): StoreHealth
  close(): Promise<void>
}

/** What tickets were used for. */
export interface SpentTickets {
  /**
   * Ties a ticket to a stream, unless it is tied to one: of all who try, on whichever replica, one is the first.
   * @param untilMs the least that it is to be remembered, in milliseconds since 1970
   * @returns the stream that it is tied to
   * @throws SluiceError when it cannot tell
   */
  bind(ticket: string, stream: string, untilMs: number): Promise<string>
  /** @throws SluiceError when it cannot tell */
  find(ticket: string): Promise<string | undefined>
  /** Nothing came of that stream: the ticket is as it was, unless it is tied to another. */
  free(ticket: string, stream: string): Promise<void>
}

/** Where the events of an open answer go. */
export interface UpstreamSink {
  /** Takes the events of one upstream read, in order. */
  onEvents(events: readonly UpstreamEvent[]): void
  /** Nothing follows: the body ended, or `failure` says why not. */
  onEnd(failure: SluiceError | undefined): void
}

/** An open answer of Claude. Events are pushed: a promise for each read would cost as much as the read. */
export interface UpstreamStream {
  /** Anthropic's `request-id` header. */
  readonly requestId: string | null
  /** Bytes of the body received so far. */
  readonly bytes: number
  /** When the last bytes came, in milliseconds of the monotonic clock. */
  readonly lastByteAt: number
  /** Gives `sink` all that has come and all that comes. To be called once. */
  deliver(sink: UpstreamSink): void
  /** Has what comes wait until `resume`; a little is taken from the socket meanwhile, the rest is Claude's to hold. */
  pause(): void
  resume(): void
  /** The answer is whole: let the connection go back to the pool, or close it when upstream does not end it soon. */
  release(): void
  /** Nobody wants the rest: the sink hears nothing more. */
  abandon(): void
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
   * @param traceparent of the call, where it is part of a trace
   * @throws SluiceError for whatever goes wrong before or, from the iterator, during the stream
   */
  open(request: MessageRequest, signal: AbortSignal, traceparent?: string): Promise<UpstreamStream>
  /**
   * Hands a request on that is answered at once, such as counting tokens.
   * @param path with its query
   * @returns the answer's JSON
   * @throws SluiceError
   */
  forward(method: 'GET' | 'POST', path: string, request: ForwardedRequest): Promise<unknown>
  close(): Promise<void>
}

/** How close the process is to one of its bounds. */
export interface Pressure {
  /** Why no new stream should begin now; `undefined` when nothing speaks against it. */
  readonly reason: string | undefined
}
