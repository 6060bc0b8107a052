import type { Turns } from '../../core/at-once.ts'
import type { StreamFacts } from './commands.ts'
import type { State } from './states.ts'

/** What the store tells a log of its own, and hears from it. */
export interface OwnedOptions {
  readonly facts: StreamFacts
  readonly epoch: number
  /** Readers wait until Redis has what they get. */
  readonly durable: boolean
  /** From its beginning until a stream that nobody ended is forgotten, in milliseconds. */
  readonly lifeMs: number
  /** From its end until it is forgotten, in milliseconds. */
  readonly retentionMs: number
  /** The same for a log that keeps its idempotency key. */
  readonly keyTtlMs: number
  /** Of all logs that catch up. */
  readonly turns: Turns
  onStateChange(state: State): void
  /** Redis has it to the end. */
  onStored(): void
}
