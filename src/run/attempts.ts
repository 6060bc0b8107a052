import { type ErrorCode, SluiceError } from '../core/errors.ts'
import type { LogEvent, RecoveryEvent, RecoveryMode } from '../core/events.ts'
import { matchesModel } from '../core/request.ts'
import { type StepEnd, stepsOf } from './steps.ts'
import type { ToolLimits } from './tool-limits.ts'

/** How far a run may go: what may be done about failures of upstream, and how many steps an answer may have. */
export interface AttemptPolicy {
  readonly retry: RetryOptions
  /** Asked in their order when a model cannot answer. */
  readonly fallbackModels: readonly string[]
  readonly recovery: RecoveryOptions
  readonly tools: ToolLimits
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
  /** When the request came, content was lost or a step began, in milliseconds as `Lost.elapsedMs`. */
  readonly since: number
  /** Which message of Claude's it is for, counted from 1: those before it, and the results of their calls, go with the request. */
  readonly step: number
}

export function firstAttempt(model: string): Attempt {
  const first = { number: 1, delayMs: 0, model, asked: [model], mode: undefined }
  return { ...first, retries: 0, continuations: 0, since: 0, step: 1 }
}

/** Where a run is that another process has begun, as far as its log tells. */
export function attemptOf(history: readonly LogEvent[], model: string): Attempt {
  const recoveries = history.filter((event) => event.type === 'recovery')
  const step = Math.max(1, stepsOf(history).length)
  return {
    ...firstAttempt(recoveries.findLast(({ mode }) => mode === 'fallback')?.model ?? model),
    number: step + recoveries.length,
    continuations: continuationsOf(history),
    step,
  }
}

/** How often the answer in a log was gone on with after content. */
export function continuationsOf(history: readonly LogEvent[]): number {
  return history.filter((event) => event.type === 'recovery' && event.mode !== 'fallback').length
}

/** How the last attempt ended short of a message. */
export interface Lost {
  readonly failure: SluiceError
  /** The attempt has given content to the log: the same again would repeat it. Steps before it do not count. */
  readonly contentSent: boolean
  /** What the log holds can be gone on with. */
  readonly continuable: boolean
  /** Since the run began, without the time that tools took, in milliseconds. */
  readonly elapsedMs: number
}

/** A message of Claude's that is whole. */
export interface Whole {
  readonly end: StepEnd
  /** Of all steps so far. */
  readonly outputTokens: number
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

/** What whoever asked may use is used up: no further call is made for the answer. */
const notAfforded: ReadonlySet<ErrorCode> = new Set([
  'budget_reserved',
  'token_budget_exhausted',
  'spend_limit_reached',
])

const firstBackoffMs = 500
const maxBackoffMs = 8_000

/**
 * The one place that decides whether there is another attempt: the same again, another model, the rest of an answer, or
 * its next step.
 * @returns `undefined` when there is none: the answer is whole, or lost; an error when it is one step short of a limit
 * @param random 0 to 1; full jitter keeps a thousand clients of one overload from coming back together
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function nextAttempt(
  last: Attempt,
  outcome: Lost | Whole,
  policy: AttemptPolicy,
  random: number,
): Attempt | SluiceError | undefined {
  if ('end' in outcome) return nextStep(last, outcome, policy.tools)
  return outcome.contentSent
    ? continuation(last, outcome, policy.recovery, random)
    : (retry(last, outcome, policy.retry, random) ?? fallback(last, outcome, policy))
}

function nextStep(
  last: Attempt,
  { end, outputTokens, elapsedMs }: Whole,
  { max_steps, max_tokens }: AttemptPolicy['tools'],
): Attempt | SluiceError | undefined {
  if (end === 'end') return undefined
  const next = { ...last, delayMs: 0, mode: undefined, retries: 0 }
  // Nothing more is asked of Claude: the server's share of the calls is answered, the rest is the client's.
  if (end === 'shared') return next
  if (last.step >= max_steps) return new SluiceError('tool_steps_exceeded')
  if (outputTokens >= max_tokens) return new SluiceError('tool_tokens_exceeded')
  return { ...next, number: last.number + 1, step: last.step + 1, since: elapsedMs }
}

function retry(last: Attempt, outcome: Lost, options: RetryOptions, random: number): Attempt | undefined {
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
  return !retried.has(code) && !continued.has(code) && !notAfforded.has(code)
}

/** Only before any content, of earlier steps too: another model would go on in another voice. */
function fallback(last: Attempt, { failure }: Lost, policy: AttemptPolicy): Attempt | undefined {
  const { fallbackModels, retry } = policy
  if (last.step > 1 || last.continuations > 0) return undefined
  if (!isRetried(failure, retry) && failure.code !== 'upstream_not_found') return undefined
  const model = fallbackModels.find((each) => !last.asked.includes(each))
  if (model === undefined) return undefined
  const asked = [...last.asked, model]
  return { ...last, number: last.number + 1, delayMs: 0, model, asked, mode: 'fallback', retries: 0 }
}

function continuation(
  last: Attempt,
  { failure, continuable, elapsedMs }: Lost,
  { max_attempts, prefill_models }: RecoveryOptions,
  random: number,
): Attempt | undefined {
  if (!continuable || !continued.has(failure.code) || last.continuations >= max_attempts) return undefined
  return {
    ...last,
    number: last.number + 1,
    delayMs: failure.code === 'upstream_overloaded' ? backoffMs(0) * random : 0,
    mode: prefill_models.some((name) => matchesModel(name, last.model)) ? 'prefill' : 'quote',
    retries: 0,
    continuations: last.continuations + 1,
    since: elapsedMs,
  }
}

function backoffMs(retries: number): number {
  return Math.min(maxBackoffMs, firstBackoffMs * 2 ** retries)
}

export function openingOf({ number, mode, model }: Attempt, { code }: SluiceError): RecoveryEvent | undefined {
  return mode && { type: 'recovery', reason: code, attempt: number, mode, ...(mode === 'fallback' && { model }) }
}
