import type { ErrorCode, SluiceError } from '../core/errors.ts'
import type { LogEvent, RecoveryMode } from '../core/events.ts'

/** What may be done about failures of upstream. */
export interface RecoveryPolicy {
  readonly retry: RetryOptions
  /** Asked in their order when a model cannot answer. */
  readonly fallbackModels: readonly string[]
  readonly recovery: RecoveryOptions
}

export interface RetryOptions {
  /** Attempts after the first, before content; 0 turns retries off. */
  readonly max_attempts: number
  /** No retry begins later than this after the request came, or after content was lost, in milliseconds. */
  readonly budget_ms: number
  /** A longer `retry-after` is not waited for: a fallback model is asked, or the client gets it instead. */
  readonly max_retry_after_ms: number
  /** Ask again after a time-out, though the first request may be generating, and billed, still. */
  readonly after_timeout: boolean
}

export interface RecoveryOptions {
  /** Continuations of an answer that was lost after content; 0 turns them off. */
  readonly max_attempts: number
  /** Models that accept a trailing assistant turn; a `*` at the end stands for any ending. */
  readonly prefill_models: readonly string[]
}

/** One try at an answer. */
export interface Attempt {
  /** 1 for the first. */
  readonly number: number
  /** Wait this long before it is sent, in milliseconds. */
  readonly delayMs: number
  readonly model: string
  /** All models that were asked, the first one first. */
  readonly asked: readonly string[]
  /** How it goes on with what failed, when readers are to see that. */
  readonly mode: RecoveryMode | undefined
  /** Tries of the same request before it. */
  readonly retries: number
  /** Continuations up to it. */
  readonly continuations: number
  /** When the request came, or content was lost, since the run began, in milliseconds. */
  readonly since: number
}

export function firstAttempt(model: string): Attempt {
  return { number: 1, delayMs: 0, model, asked: [model], mode: undefined, retries: 0, continuations: 0, since: 0 }
}

/** Where a run is that another process has begun, as far as its log tells. */
export function attemptOf(history: readonly LogEvent[], model: string): Attempt {
  const recoveries = history.filter((event) => event.type === 'recovery')
  return {
    ...firstAttempt(recoveries.findLast(({ mode }) => mode === 'fallback')?.model ?? model),
    number: 1 + recoveries.length,
    continuations: continuationsOf(history),
  }
}

/** How often the answer in a log was gone on with after content. */
export function continuationsOf(history: readonly LogEvent[]): number {
  return history.filter((event) => event.type === 'recovery' && event.mode !== 'fallback').length
}

/** How the last attempt ended short of an answer. */
export interface Outcome {
  readonly failure: SluiceError
  /** The attempt has given content to the log: the same again would repeat it. */
  readonly contentSent: boolean
  /** What the log holds can be gone on with. */
  readonly continuable: boolean
  /** Since the run began, in milliseconds. */
  readonly elapsedMs: number
}

/** Failures after which Claude is most likely not generating (and billing) an answer that nobody gets. */
const retried: ReadonlySet<ErrorCode> = new Set([
  'upstream_rate_limited',
  'upstream_overloaded',
  'upstream_error',
  'upstream_unreachable',
  'upstream_truncated',
  // It had begun to answer, and hanging up on it ends it.
  'upstream_stalled',
  'replica_lost',
])

/** What takes an answer away in its middle. */
const continued: ReadonlySet<ErrorCode> = new Set([
  'upstream_overloaded',
  'upstream_error',
  'upstream_truncated',
  'upstream_stalled',
  'upstream_timeout',
  'replica_lost',
])

const firstBackoffMs = 500
const maxBackoffMs = 8_000

/**
 * The one place that decides whether there is another attempt: the same again, another model, or the rest of an answer.
 * @param random 0 to 1; full jitter keeps a thousand clients of one overload from coming back together
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function nextAttempt(
  last: Attempt,
  outcome: Outcome,
  policy: RecoveryPolicy,
  random: number,
): Attempt | undefined {
  return outcome.contentSent
    ? continuation(last, outcome, policy.recovery, random)
    : (retry(last, outcome, policy.retry, random) ?? fallback(last, outcome, policy))
}

function retry(last: Attempt, outcome: Outcome, options: RetryOptions, random: number): Attempt | undefined {
  const { failure, elapsedMs } = outcome
  if (!isRetried(failure, options) || last.retries >= options.max_attempts) return undefined
  const asked = failure.retryAfterMs ?? 0
  if (asked > options.max_retry_after_ms) return undefined
  const delayMs = Math.max(asked, backoffMs(last.retries) * random)
  if (elapsedMs - last.since + delayMs > options.budget_ms) return undefined
  return { ...last, number: last.number + 1, delayMs, retries: last.retries + 1 }
}

/** Failures that upstream may say are worth another try; what is wrong with a request stays wrong. */
const retriedWhenTold: ReadonlySet<ErrorCode> = new Set([...retried, 'upstream_timeout', 'upstream_auth'])

function isRetried({ code, shouldRetry }: SluiceError, { after_timeout }: RetryOptions): boolean {
  if (shouldRetry !== undefined) return shouldRetry && retriedWhenTold.has(code)
  return retried.has(code) || (after_timeout && code === 'upstream_timeout')
}

/** The request itself failed, and not Claude's side of it: of an attempt that nobody asked for, that is no news to a client. */
export function isRequestsFault({ code }: SluiceError): boolean {
  return !retried.has(code) && !continued.has(code)
}

/** Only before any content: another model would go on in another voice. */
function fallback(last: Attempt, { failure }: Outcome, policy: RecoveryPolicy): Attempt | undefined {
  const { fallbackModels, retry } = policy
  if (last.continuations > 0 || (!isRetried(failure, retry) && failure.code !== 'upstream_not_found')) return undefined
  const model = fallbackModels.find((each) => !last.asked.includes(each))
  if (model === undefined) return undefined
  const asked = [...last.asked, model]
  return { ...last, number: last.number + 1, delayMs: 0, model, asked, mode: 'fallback', retries: 0 }
}

function continuation(
  last: Attempt,
  { failure, continuable, elapsedMs }: Outcome,
  { max_attempts, prefill_models }: RecoveryOptions,
  random: number,
): Attempt | undefined {
  if (!continuable || !continued.has(failure.code) || last.continuations >= max_attempts) return undefined
  return {
    ...last,
    number: last.number + 1,
    delayMs: failure.code === 'upstream_overloaded' ? backoffMs(0) * random : 0,
    mode: prefill_models.some((name) => matches(name, last.model)) ? 'prefill' : 'quote',
    retries: 0,
    continuations: last.continuations + 1,
    since: elapsedMs,
  }
}

function backoffMs(retries: number): number {
  return Math.min(maxBackoffMs, firstBackoffMs * 2 ** retries)
}

function matches(name: string, model: string): boolean {
  return name.endsWith('*') ? model.startsWith(name.slice(0, -1)) : model === name
}
