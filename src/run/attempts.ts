import type { ErrorCode, SluiceError } from '../core/errors.ts'

export interface RetryOptions {
  /** Attempts after the first; 0 turns retries off. */
  readonly max_attempts: number
  /** No retry begins later than this after the request came, in milliseconds. */
  readonly budget_ms: number
  /** A longer `retry-after` is not waited for: the client gets it instead. */
  readonly max_retry_after_ms: number
}

/** One try at an answer. */
export interface Attempt {
  /** 1 for the first. */
  readonly number: number
  /** Wait this long before it is sent, in milliseconds. */
  readonly delayMs: number
}

export const firstAttempt: Attempt = { number: 1, delayMs: 0 }

/** How the last attempt ended short of an answer. */
export interface Outcome {
  readonly failure: SluiceError
  /** Content has been given to the log: a new attempt would repeat it. */
  readonly contentSent: boolean
  /** Since the run began, in milliseconds. */
  readonly elapsedMs: number
}

/**
 * Failures after which Claude is most likely not generating (and billing) an answer nobody gets. A time-out is not among
 * them: the request was taken, and may be at work still.
 */
const retried: ReadonlySet<ErrorCode> = new Set([
  'upstream_rate_limited',
  'upstream_overloaded',
  'upstream_error',
  'upstream_unreachable',
  'upstream_truncated',
])

const firstBackoffMs = 500
const maxBackoffMs = 8_000

/**
 * The one place that decides whether there is another attempt.
 * @param random 0 to 1; full jitter keeps a thousand clients of one overload from coming back together
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function nextAttempt(
  last: Attempt,
  outcome: Outcome,
  options: RetryOptions,
  random: number,
): Attempt | undefined {
  const { failure, contentSent, elapsedMs } = outcome
  if (contentSent || !retried.has(failure.code) || last.number > options.max_attempts) return undefined
  const asked = failure.retryAfterMs ?? 0
  if (asked > options.max_retry_after_ms) return undefined
  const backoff = Math.min(maxBackoffMs, firstBackoffMs * 2 ** (last.number - 1)) * random
  const delayMs = Math.max(asked, backoff)
  if (elapsedMs + delayMs > options.budget_ms) return undefined
  return { number: last.number + 1, delayMs }
}
