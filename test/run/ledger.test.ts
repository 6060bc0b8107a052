import { expect, it, onTestFinished, vi } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { ClaudeEvent } from '../../src/core/events.ts'
import { Ledger } from '../../src/run/ledger.ts'
import { logOf } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'

const begin = (usage: object) => ({ type: 'message_start', message: { usage } }) as ClaudeEvent
const text = (characters: number) => new Delta('text', 0, escapeJson('x'.repeat(characters)))
const messageDelta = (usage: object | undefined, delta: object = {}) =>
  ({ type: 'message_delta', delta, usage }) as ClaudeEvent

function ledgerOf(...events: (ClaudeEvent | Delta)[]): Ledger {
  const ledger = new Ledger(0)
  for (const event of events) ledger.observe(event)
  return ledger
}

it.each([...recordings])('accounts for %s as Claude does', (_, recording) => {
  const { usage, stopReason, whole } = expectedOf(recording)
  const ledger = ledgerOf(...(logOf(recording).slice(1, -1) as ClaudeEvent[]))
  expect(ledger.stopReason).toBe(stopReason)
  if (whole) {
    expect(ledger.usage()).toMatchObject(usage)
    expect(ledger.usage().measured).toBeUndefined()
  } else {
    expect(ledger.usage()).toMatchObject({ input_tokens: usage['input_tokens'], measured: false })
  }
})

it('estimates, and says so, until Claude has counted', () => {
  const before = [begin({ input_tokens: 50, output_tokens: 1 }), text(200), new Delta('thinking', 1, 'x'.repeat(200))]
  expect(ledgerOf().usage()).toEqual({ input_tokens: 0, output_tokens: 0, measured: false })
  expect(ledgerOf(...before).usage()).toEqual({ input_tokens: 50, output_tokens: 100, measured: false })
  const counted = messageDelta({ output_tokens: 42 })
  expect(ledgerOf(...before, counted).usage()).toEqual({ input_tokens: 50, output_tokens: 42 })
})

it('estimates no less than Claude has reported', () => {
  expect(ledgerOf(begin({ input_tokens: 1, output_tokens: 9 }), text(4)).usage().output_tokens).toBe(9)
})

it.each([
  undefined,
  null,
  {},
  { input_tokens: 60 },
])('goes on estimating after a message_delta with the usage %j', (usage) => {
  const ledger = ledgerOf(begin({ input_tokens: 50, output_tokens: 1 }), text(400), messageDelta(usage as object))
  expect(ledger.usage()).toMatchObject({ output_tokens: 100, measured: false })
})

it('adds up what several requests for one answer have cost', () => {
  const price = { input: 1_000_000, output: 2_000_000, cache_read: 0, cache_write_5m: 0, cache_write_1h: 0 }
  const ledger = ledgerOf(begin({ input_tokens: 50, output_tokens: 1, cache_read_input_tokens: 9 }), text(400))
  ledger.nextRequest(price)
  ledger.observe(begin({ input_tokens: 7, output_tokens: 2 }))
  ledger.observe(messageDelta({ output_tokens: 20 }))
  const usage = { input_tokens: 57, output_tokens: 120, cache_read_input_tokens: 9, measured: false }
  expect(ledger.usage()).toEqual(usage)
  const outcome = { price, upstreamRequestId: null, recovered: 1 }
  expect(ledger.done(0, outcome)).toMatchObject({ usage, cost_usd: 57 + 2 * 120, recovered: 1 })
  // A model of unknown price in between makes the cost unknown.
  ledger.nextRequest(undefined)
  ledger.observe(begin({ input_tokens: 1, output_tokens: 1 }))
  expect(ledger.done(0, outcome).cost_usd).toBeNull()
})

it('has no account of requests that came to nothing', () => {
  const ledger = ledgerOf()
  ledger.nextRequest(undefined)
  ledger.observe(begin({ input_tokens: 7, output_tokens: 2 }))
  ledger.observe(messageDelta({ output_tokens: 9 }))
  expect(ledger.usage()).toEqual({ input_tokens: 7, output_tokens: 9 })
})

it('keeps how Claude stopped', () => {
  const delta = { stop_reason: 'stop_sequence', stop_sequence: 'END', stop_details: { category: 'x' } }
  const { stopReason, stopSequence, stopDetails } = ledgerOf(messageDelta({}, delta))
  expect([stopReason, stopSequence, stopDetails]).toEqual(['stop_sequence', 'END', { category: 'x' }])
  const fresh = ledgerOf()
  expect([fresh.stopReason, fresh.stopSequence, fresh.stopDetails]).toEqual([null, null, null])
})

it('times the first content, once, and the speed from there on', () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const startedAt = performance.now()
  const ledger = new Ledger(startedAt)
  expect(ledger.timing(startedAt + 100)).toEqual({ ttft_ms: null, duration_ms: 100, tokens_per_second: null })
  expect(ledger.contentSent).toBe(false)
  vi.advanceTimersByTime(500)
  ledger.noteContent()
  expect(ledger.contentSent).toBe(true)
  expect(ledger.timing(performance.now()).tokens_per_second).toBeNull()
  vi.advanceTimersByTime(2_000)
  ledger.noteContent()
  ledger.observe(messageDelta({ output_tokens: 25 }))
  expect(ledger.timing(performance.now())).toEqual({ ttft_ms: 500, duration_ms: 2_500, tokens_per_second: 12.5 })
})

it('tells how far the step under way is, each of which has max_tokens for itself', () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(0)
  onTestFinished(() => void now.mockRestore())
  const ledger = new Ledger(0)
  for (const at of [1_000, 2_000]) {
    now.mockReturnValue(at)
    ledger.observe(begin({ input_tokens: 1, output_tokens: 1 }))
    ledger.observe(messageDelta({ output_tokens: 40 }))
    expect(ledger.progress(100)).toMatchObject({ output_tokens: at / 25, percent: 40 })
    ledger.nextRequest(undefined)
    ledger.nextStep()
  }
})
