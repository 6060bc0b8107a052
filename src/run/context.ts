import type { Echo } from '../core/events.ts'
import type { CallLimits } from '../core/limits.ts'
import type { LogStore, Upstream } from '../core/ports.ts'
import type { DisconnectPolicy, MessageRequest } from '../core/request.ts'
import type { Sweep } from '../core/sweep.ts'
import type { Toolbox } from '../core/tools.ts'
import type { TraceContext } from '../core/trace.ts'
import type { Price } from '../core/usage.ts'
import type { AttemptPolicy } from './attempts.ts'
import type { RetryBudget } from './budget.ts'
import type { Timeouts } from './clocks.ts'
import type { Taken } from './ledger.ts'

/** What a run needs from the outside. */
export interface RunContext {
  readonly upstream: Upstream
  readonly store: LogStore
  readonly sweep: Sweep
  readonly timeouts: Timeouts
  readonly policy: AttemptPolicy
  /** Of extra calls, for all runs of the process. */
  readonly budget: RetryBudget
  /** Of those who use it; `undefined` where nothing is limited. */
  readonly limiter?: CallLimits | undefined
  readonly graceMs: number
  readonly maxBytes: number
  readonly prices: ReadonlyMap<string, Price>
  readonly toolbox: Toolbox
  /** A defect of ours; `stream` is that of a run that it ended before its log was sealed. */
  onFault(fault: unknown, stream?: string): void
}

/** What a run is to do: another process can go on with it by this and its log. */
export interface Plan {
  readonly request: MessageRequest
  readonly onDisconnect: DisconnectPolicy
  /** Of the HTTP request, for the log. */
  readonly requestId: string
  /** Tell now and then how far the answer is. */
  readonly progress?: boolean | undefined
  /** What the request was made by, for the log. */
  readonly preset?: string | undefined
  /**
   * The server's tools that the request offers. There, and be it empty, when the run goes on by itself after a message
   * in which Claude calls them or pauses.
   */
  readonly tools?: readonly string[] | undefined
  /** Where it stands in a trace, when traces are on. */
  readonly trace?: TraceContext | undefined
}

export interface RunOptions extends Plan {
  /** Whose the stream is; empty where nobody is told from anybody. */
  readonly principal: string
  /** Of its stream; a new one unless given. */
  readonly id?: string | undefined
  /** The idempotency key that was claimed for that id. */
  readonly key?: string | undefined
  readonly echo?: Echo | undefined
  /** A turn in which Claude pauses is the client's to go on with. */
  readonly passesPauses?: boolean | undefined
  /** Another name to find the stream by while it is live, such as a chat's id. */
  readonly alias?: string | undefined
  /** The log of a run that died with its replica, and what it holds: this one goes on with it. */
  readonly taken?: Taken | undefined
}
