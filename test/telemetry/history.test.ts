import { expect, it } from 'vitest'
import { SluiceError } from '../../src/core/errors.ts'
import { History, type Standing } from '../../src/telemetry/history.ts'
import { failed } from '../support/logs.ts'
import { attempt, report } from '../support/reports.ts'

const standing: Standing = {
  until: 1_000,
  live: 2,
  readers: 3,
  memoryBytes: 4,
  loopTurnMs: 5,
  begun: 0,
  liveTokens: 0,
}

const withTtft = (ttft_ms: number) => ({ ...report, timing: { ...report.timing, ttft_ms } })

it('tells what happened between two looks, and how things stand', () => {
  const history = new History()
  for (const ttft of [300, 100, 200, 900]) history.ended(withTtft(ttft))
  const stalled = new SluiceError('upstream_stalled', { reason: 'silence_ms' })
  history.ended({ ...report, terminal: failed, tries: [{ ...attempt, failure: stalled }], costUsd: null })
  history.ended({
    ...report,
    terminal: { type: 'cancelled', by: 'client', usage: { input_tokens: 0, output_tokens: 0 } },
  })
  history.close({ ...standing, begun: 8, liveTokens: 10 })
  expect(history.recent()).toEqual([
    {
      ...{ until: 1_000, live: 2, readers: 3, memoryBytes: 4, loopTurnMs: 5 },
      ...{ begun: 8, done: 4, failed: 1, cancelled: 1, calls: 6, failedCalls: 1 },
      errors: { upstream_truncated: 1 },
      clocks: { silence_ms: 1 },
      outputTokens: 4 * 31 + 1 + 10,
      costUsd: 5 * 0.25,
      ttftP50Ms: 300,
      ttftP95Ms: 900,
    },
  ])
})

it('counts tokens when they come, not when their stream ends, and none twice', () => {
  const history = new History()
  history.close({ ...standing, liveTokens: 20 })
  history.ended(report)
  history.close({ ...standing, liveTokens: 0 })
  // An estimate of another one that has turned out to be too high.
  history.close({ ...standing, liveTokens: 7 })
  history.close({ ...standing, liveTokens: 5 })
  expect(history.recent().map(({ outputTokens }) => outputTokens)).toEqual([20, 11, 7, 0])
})

it('begins each bucket anew, and says nothing of times where there are none', () => {
  const history = new History()
  history.ended(report)
  history.close({ ...standing, begun: 1 })
  history.close({ ...standing, begun: 1 })
  expect(history.recent()[1]).toMatchObject({ begun: 0, done: 0, ttftP50Ms: null, ttftP95Ms: null, errors: {} })
})

it('keeps so many buckets, the latest, and of each so many times', () => {
  const history = new History(3)
  for (let until = 1; until <= 5; until++) history.close({ ...standing, until })
  expect(history.recent().map(({ until }) => until)).toEqual([3, 4, 5])
  for (let n = 1; n <= 3_000; n++) history.ended(withTtft(n))
  history.close(standing)
  // The latest thousand.
  expect(history.recent().at(-1)).toMatchObject({ done: 3_000, ttftP50Ms: 2_500, ttftP95Ms: 2_950 })
})
