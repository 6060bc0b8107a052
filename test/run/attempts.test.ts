import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type ErrorCode, errorTable, SluiceError } from '../../src/core/errors.ts'
import { type Attempt, firstAttempt, nextAttempt, type Outcome } from '../../src/run/attempts.ts'

const options = { max_attempts: 2, budget_ms: 20_000, max_retry_after_ms: 5_000 }
const codes = Object.keys(errorTable) as ErrorCode[]

function outcome(code: ErrorCode, more: Partial<Outcome> & { retryAfterMs?: number } = {}): Outcome {
  const { retryAfterMs, ...rest } = more
  const failure = new SluiceError(code, { ...(retryAfterMs !== undefined && { retryAfterMs }) })
  return { failure, contentSent: false, elapsedMs: 0, ...rest }
}

it('tries again after exactly those failures that leave nothing at work', () => {
  expect(codes.filter((code) => nextAttempt(firstAttempt, outcome(code), options, 0.5)).sort()).toEqual([
    'upstream_error',
    'upstream_overloaded',
    'upstream_rate_limited',
    'upstream_truncated',
    'upstream_unreachable',
  ])
})

it.each(codes)('never tries again after content, whatever the failure (%s)', (code) => {
  expect(nextAttempt(firstAttempt, outcome(code, { contentSent: true }), options, 0)).toBeUndefined()
})

it('tries as often as it may, and once more never', () => {
  for (const max_attempts of [0, 1, 2, 7]) {
    let attempt: Attempt = firstAttempt
    let retries = 0
    for (;;) {
      const next = nextAttempt(attempt, outcome('upstream_error'), { ...options, max_attempts }, 0)
      if (!next) break
      expect(next.number).toBe(attempt.number + 1)
      attempt = next
      retries++
    }
    expect(retries).toBe(max_attempts)
  }
})

it('doubles the longest wait each time, up to eight seconds', () => {
  const longest = [1, 2, 3, 4, 5, 6, 60].map(
    (number) =>
      nextAttempt({ number, delayMs: 0 }, outcome('upstream_error'), { ...options, max_attempts: 99 }, 1)?.delayMs,
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
        const next = nextAttempt({ number, delayMs: 0 }, given, { ...options, max_attempts: 99 }, random)
        const backoff = Math.min(8_000, 500 * 2 ** (number - 1)) * random
        const asked = retryAfterMs ?? 0
        const delayMs = Math.max(asked, backoff)
        if (asked > options.max_retry_after_ms || elapsedMs + delayMs > options.budget_ms) expect(next).toBeUndefined()
        else expect(next).toEqual({ number: number + 1, delayMs })
      },
    ),
    { numRuns: 500 },
  )
})

it('obeys retry-after up to its cap, and gives it to the client beyond', () => {
  const wait = (retryAfterMs: number) =>
    nextAttempt(firstAttempt, outcome('upstream_rate_limited', { retryAfterMs }), options, 0)
  expect(wait(5_000)).toEqual({ number: 2, delayMs: 5_000 })
  expect(wait(5_001)).toBeUndefined()
})
