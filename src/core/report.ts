import type { ErrorCode, SluiceError } from './errors.ts'
import type { RecoveryMode, TerminalEvent, Timing } from './events.ts'
import type { TraceContext } from './trace.ts'

/** Everything about an ended run that log line, metrics and traces tell. */
export interface RunReport {
  readonly stream: string
  readonly principal: string
  /** Another replica began it. */
  readonly adopted: boolean
  /** Null for what another replica began. */
  readonly requestId: string | null
  /** By which the request was made; not known of what another replica began and nobody goes on with. */
  readonly preset?: string | undefined
  readonly model: string | null
  /** As the request has it; `model` is the one that was asked last. */
  readonly requestedModel: string | null
  readonly terminal: TerminalEvent
  /** Of all requests to Claude, up to where the stream ended; null when the price of one is not known. */
  readonly costUsd: number | null
  readonly timing: Timing
  /** In milliseconds of the monotonic clock. */
  readonly startedAt: number
  readonly endedAt: number
  readonly attempts: number
  /** Those that this process has made. */
  readonly tries: readonly AttemptReport[]
  /** Why those failed that others followed on, or that nobody could follow on. */
  readonly failedAttempts: readonly string[]
  /** Behind an `error` terminal: the machine-made reason and, for faults of our own, the cause. */
  readonly failure: SluiceError | undefined
  /** As Claude's `message_start` has them, of the last message that it began; not kept without a trace. */
  readonly messageId: string | null
  readonly responseModel: string | null
  readonly trace: TraceContext | undefined
  readonly upstreamBytes: number
  readonly upstreamRequestId: string | null
}

/** What an attempt is to the run: the request itself, with results of tools, the same again, or a way to go on that readers see. */
export type AttemptKind = 'first' | 'step' | 'retry' | RecoveryMode

/** One call to Claude that was sent. Times are milliseconds of the monotonic clock, `undefined` where it never came to that. */
export interface AttemptReport {
  readonly kind: AttemptKind
  readonly model: string
  /** Why the attempt before it failed, if it did. */
  readonly after: ErrorCode | undefined
  readonly sentAt: number
  readonly headersAt: number | undefined
  readonly contentAt: number | undefined
  readonly endedAt: number
  /** Why it is not the whole answer; nothing of that when it is, or when the run was ended. */
  readonly failure: SluiceError | undefined
  readonly upstreamRequestId: string | null
  /** Its own place in the run's trace. */
  readonly spanId: string | undefined
}

/** A run under way. */
export interface LiveRun {
  readonly stream: string
  readonly principal: string
  readonly model: string
  readonly preset: string | undefined
  /** Before it is sent, sent, without content yet, with content, and told to end. */
  readonly state: 'waiting' | 'sent' | 'opened' | 'streaming' | 'ending'
  readonly ageMs: number
  readonly ttftMs: number | null
  /** An estimate, until Claude has given its count. */
  readonly outputTokens: number
  /** Here and, with Redis, elsewhere. */
  readonly readers: number
  /** Continuations after content. */
  readonly recoveries: number
}
