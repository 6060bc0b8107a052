import type { SluiceError } from './errors.ts'
import type { TerminalEvent, Timing } from './events.ts'

/** Everything about an ended run that its one log line tells. */
export interface RunReport {
  readonly stream: string
  readonly principal: string
  /** Null for what another replica began. */
  readonly requestId: string | null
  readonly model: string | null
  readonly terminal: TerminalEvent
  readonly timing: Timing
  readonly attempts: number
  /** Why those failed that others followed on, or that nobody could follow on. */
  readonly failedAttempts: readonly string[]
  /** Behind an `error` terminal: the machine-made reason and, for faults of our own, the cause. */
  readonly failure: SluiceError | undefined
  readonly upstreamBytes: number
  readonly upstreamRequestId: string | null
}
