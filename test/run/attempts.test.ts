import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type ErrorCode, errorTable, SluiceError } from '../../src/core/errors.ts'
import type { LogEvent } from '../../src/core/events.ts'
import {
  type Attempt,
  type AttemptPolicy,
  nextAttempt as afterAny,
  attemptOf,
  firstAttempt,
  type Lost,
  type RetryOptions,
  type Whole,
} from '../../src/run/attempts.ts'
import type { StepEnd } from '../../src/run/steps.ts'
import { toolLimits } from './fakes.ts'

/** What follows on a failure. */
const nextAttempt = afterAny as (
  last: Attempt,
  lost: Lost,
  policy: AttemptPolicy,
  random: number,
) => Attempt | undefined

const retry = { max_attempts: 2, budget_ms: 20_000, max_retry_after_ms: 5_000, after_timeout: false }
const off = { max_attempts: 0, prefill_models: [] }
const first = firstAttempt('claude-a')

function policy(options: Partial<RetryOptions> = {}, more: Partial<AttemptPolicy> = {}): AttemptPolicy {
  return { retry: { ...retry, ...options }, fallbackModels: [], recovery: off, tools: toolLimits, ...more }
}

const continuing = policy({}, { recovery: { max_attempts: 1, prefill_models: ['claude-old*'] } })
const codes = Object.keys(errorTable) as ErrorCode[]

function outcome(code: ErrorCode, more: Partial<Lost> & { retryAfterMs?: number } = {}): Lost {
  const { retryAfterMs, ...rest } = more
  const failure = new SluiceError(code, { ...(retryAfterMs !== undefined && { retryAfterMs }) })
  return { failure, contentSent: false, continuable: true, elapsedMs: 0, ...rest }
}

it('tries again after exactly those failures that leave nothing at work', () => {
  expect(codes.filter((code) => nextAttempt(first, outcome(code), policy(), 0.5)).sort()).toEqual([
    'replica_lost',
    'upstream_error',
    'upstream_overloaded',
    'upstream_rate_limited',
    'upstream_stalled',
    'upstream_truncated',
    'upstream_unreachable',
  ])
})

it.each(codes)('never tries again after content where that is off, whatever the failure (%s)', (code) => {
  expect(nextAttempt(first, outcome(code, { contentSent: true }), policy(), 0)).toBeUndefined()
})

it('tries as often as it may, and once more never', () => {
  for (const max_attempts of [0, 1, 2, 7]) {
    let attempt: Attempt = first
    let retries = 0
    for (;;) {
      const next = nextAttempt(attempt, outcome('upstream_error'), policy({ max_attempts }), 0)
      if (!next) break
      expect(next.number).toBe(attempt.number + 1)
      attempt = next
      retries++
    }
    expect(retries).toBe(max_attempts)
  }
})

it('doubles the longest wait each time, up to eight seconds', () => {
  const longest = [0, 1, 2, 3, 4, 5, 59].map(
    (retries) =>
      nextAttempt({ ...first, retries }, outcome('upstream_error'), policy({ max_attempts: 99 }), 1)?.delayMs,
  )
  expect(longest).toEqual([500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000])
})

it('waits a random part of that, no less than it was asked to, and never past the budget', () => {
  const ms = fc.integer({ min: 0, max: 30_000 })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      ms,
      fc.option(ms, { nil: undefined }),
      (number, random, elapsedMs, retryAfterMs) => {
        const given = outcome('upstream_overloaded', { elapsedMs, ...(retryAfterMs !== undefined && { retryAfterMs }) })
        const last = { ...first, number, retries: number - 1 }
        const next = nextAttempt(last, given, policy({ max_attempts: 99 }), random)
        const backoff = Math.min(8_000, 500 * 2 ** (number - 1)) * random
        const asked = retryAfterMs ?? 0
        const delayMs = Math.max(asked, backoff)
        if (asked > retry.max_retry_after_ms || elapsedMs + delayMs > retry.budget_ms) expect(next).toBeUndefined()
        else expect(next).toEqual({ ...last, number: number + 1, delayMs, retries: number })
      },
    ),
    { numRuns: 500 },
  )
})

it('obeys retry-after up to its cap, and gives it to the client beyond', () => {
  const wait = (retryAfterMs: number) =>
    nextAttempt(first, outcome('upstream_rate_limited', { retryAfterMs }), policy(), 0)
  expect(wait(5_000)).toMatchObject({ number: 2, delayMs: 5_000 })
  expect(wait(5_001)).toBeUndefined()
})

it('asks the next model when one cannot answer: not before retries are used up, never after content', () => {
  const models = policy({ max_attempts: 1 }, { fallbackModels: ['claude-b', 'claude-c'] })
  const asked: string[] = []
  let attempt: Attempt | undefined = first
  while (attempt) {
    asked.push(`${attempt.model} ${attempt.mode ?? ''}`.trim())
    attempt = nextAttempt(attempt, outcome('upstream_overloaded'), models, 0)
  }
  expect(asked).toEqual([
    'claude-a',
    'claude-a',
    'claude-b fallback',
    'claude-b fallback',
    'claude-c fallback',
    'claude-c fallback',
  ])
  expect(nextAttempt(first, outcome('upstream_rate_limited', { retryAfterMs: 60_000 }), models, 0)).toMatchObject({
    model: 'claude-b',
    delayMs: 0,
  })
  expect(nextAttempt(first, outcome('upstream_invalid_request'), models, 0)).toBeUndefined()
  // Each model is asked once, wherever in the list it stands, and however often.
  const again = policy({ max_attempts: 0 }, { fallbackModels: ['claude-b', 'claude-a', 'claude-b'] })
  const second = nextAttempt(first, outcome('upstream_overloaded'), again, 0) as Attempt
  expect(second.model).toBe('claude-b')
  expect(nextAttempt(second, outcome('upstream_overloaded'), again, 0)).toBeUndefined()
  expect(nextAttempt(first, outcome('upstream_overloaded', { contentSent: true }), models, 0)).toBeUndefined()
})

it('lets upstream say whether to try again, and repeats a time-out only where that is wanted', () => {
  const next = (code: ErrorCode, shouldRetry: boolean | undefined, options = {}) =>
    nextAttempt(
      first,
      { ...outcome(code), failure: new SluiceError(code, shouldRetry === undefined ? {} : { shouldRetry }) },
      policy(options),
      0,
    )
  expect(next('upstream_overloaded', false)).toBeUndefined()
  expect(next('upstream_overloaded', true)).toBeDefined()
  expect(next('upstream_invalid_request', true)).toBeUndefined()
  expect(next('upstream_timeout', undefined)).toBeUndefined()
  expect(next('upstream_timeout', undefined, { after_timeout: true })).toBeDefined()
  expect(next('upstream_timeout', true)).toBeDefined()
})

it('goes on with an answer that was lost in its middle as often as it may, by the way that the model accepts', () => {
  const lost = (code: ErrorCode, more = {}) => outcome(code, { contentSent: true, elapsedMs: 100_000, ...more })
  expect(codes.filter((code) => nextAttempt(first, lost(code), continuing, 0)).sort()).toEqual([
    'replica_lost',
    'upstream_error',
    'upstream_overloaded',
    'upstream_stalled',
    'upstream_timeout',
    'upstream_truncated',
  ])
  const next = nextAttempt(first, lost('upstream_truncated'), continuing, 0) as Attempt
  expect(next).toEqual({ ...first, number: 2, mode: 'quote', continuations: 1, since: 100_000 })
  expect(nextAttempt(next, lost('upstream_truncated'), continuing, 0)).toBeUndefined()
  expect(nextAttempt(first, lost('upstream_truncated', { continuable: false }), continuing, 0)).toBeUndefined()
  const old = nextAttempt(firstAttempt('claude-old-1'), lost('upstream_truncated'), continuing, 0)
  expect(old?.mode).toBe('prefill')
  // The request for the rest may fail before any content, and is tried again like any other, with time of its own.
  const again = nextAttempt(next, outcome('upstream_overloaded', { elapsedMs: 101_000 }), continuing, 0)
  expect(again).toMatchObject({ number: 3, mode: 'quote', continuations: 1, retries: 1 })
})

it('knows from a log how far the run that wrote it was', () => {
  const history = [
    { type: 'recovery', reason: 'upstream_overloaded', attempt: 2, mode: 'fallback', model: 'claude-b' },
    { type: 'recovery', reason: 'upstream_truncated', attempt: 3, mode: 'quote' },
  ] satisfies LogEvent[]
  expect(attemptOf(history, 'claude-a')).toMatchObject({ number: 3, model: 'claude-b', continuations: 1 })
  expect(attemptOf([], 'claude-a')).toEqual(first)
})

it('goes on to the next step as long as there may be one, and says which limit it came to', () => {
  const policied = policy({}, { tools: { ...toolLimits, max_steps: 3, max_tokens: 100 } })
  const whole = (end: StepEnd, outputTokens = 0): Whole => ({ end, outputTokens, elapsedMs: 700 })
  const last: Attempt = { ...first, mode: 'quote', retries: 2, continuations: 1, step: 2, number: 5 }
  expect(afterAny(last, whole('end'), policied, 0)).toBeUndefined()
  for (const end of ['calls', 'pause'] as const) {
    expect(afterAny(last, whole(end), policied, 0)).toEqual({
      ...last,
      number: 6,
      step: 3,
      mode: undefined,
      retries: 0,
      since: 700,
    })
    expect(afterAny({ ...last, step: 3 }, whole(end), policied, 0)).toMatchObject({ code: 'tool_steps_exceeded' })
    expect(afterAny(last, whole(end, 100), policied, 0)).toMatchObject({ code: 'tool_tokens_exceeded' })
  }
  // Nothing is asked of Claude for it, so no limit on that counts.
  expect(afterAny({ ...last, step: 3 }, whole('shared', 100), policied, 0)).toMatchObject({ number: 5, step: 3 })
})

it('asks no other model in a later step', () => {
  const models = policy({ max_attempts: 0 }, { fallbackModels: ['claude-b'] })
  expect(nextAttempt(first, outcome('upstream_overloaded'), models, 0)?.model).toBe('claude-b')
  expect(nextAttempt({ ...first, step: 2 }, outcome('upstream_overloaded'), models, 0)).toBeUndefined()
})
