import { expect, it } from 'vitest'
import type { Bucket } from '../../src/core/history.ts'
import type { OpsNow, OpsStream } from '../../src/core/ops.ts'
import { hourOfAll, nowOfAll } from '../../src/telemetry/together.ts'

const bucket: Bucket = {
  until: 10_000,
  live: 1,
  readers: 2,
  memoryBytes: 100,
  loopTurnMs: 3,
  begun: 4,
  done: 1,
  failed: 1,
  cancelled: 0,
  errors: { upstream_overloaded: 1 },
  clocks: { idle_ms: 1 },
  calls: 5,
  failedCalls: 1,
  outputTokens: 60,
  costUsd: 0.5,
  ttftP50Ms: 100,
  ttftP95Ms: 200,
}

it('adds up what several did in the same seconds, and keeps apart what they did in others', () => {
  const slow: Bucket = {
    ...bucket,
    ...{ loopTurnMs: 9, done: 4, failed: 1, cancelled: 1, ttftP50Ms: 400, ttftP95Ms: 900 },
    errors: { upstream_overloaded: 2, constructor: 1 },
    clocks: {},
  }
  const idle: Bucket = { ...bucket, done: 0, failed: 0, ttftP50Ms: null, ttftP95Ms: null, errors: {}, clocks: {} }
  const later = { ...bucket, until: 20_000 }
  expect(hourOfAll([[bucket, later], [slow], [idle]])).toEqual([
    {
      ...{ until: 10_000, live: 3, readers: 6, memoryBytes: 300, loopTurnMs: 9, begun: 12 },
      ...{ done: 5, failed: 2, cancelled: 1, calls: 15, failedCalls: 3, outputTokens: 180, costUsd: 1.5 },
      errors: { upstream_overloaded: 3, constructor: 1 },
      clocks: { idle_ms: 1 },
      ttftP50Ms: (2 * 100 + 6 * 400) / 8,
      ttftP95Ms: 900,
    },
    later,
  ])
  expect(hourOfAll([[idle], [idle]])[0]).toMatchObject({ ttftP50Ms: null, ttftP95Ms: null })
  expect(hourOfAll([[], []])).toEqual([])
})

const stream = (id: string, ageMs: number) => ({ stream: id, ageMs }) as OpsStream
const now: OpsNow = {
  ...{ type: 'now', at: 5, live: 2, readers: 3, memoryBytes: 10, draining: false, pressure: null },
  ...{ apiKeys: 2, restingKeys: 0, storeUp: true, streams: [stream('a', 30), stream('b', 10)] },
}

it('says what is wrong with any of them, and names the oldest streams of all', () => {
  const ill: OpsNow = {
    ...now,
    ...{ at: 7, draining: true, pressure: 'heap', restingKeys: 1, storeUp: false, streams: [stream('c', 20)] },
  }
  expect(nowOfAll([now, ill], 2)).toEqual({
    ...{ type: 'now', at: 7, live: 4, readers: 6, memoryBytes: 20, draining: true, pressure: 'heap' },
    ...{ apiKeys: 2, restingKeys: 1, storeUp: false, streams: [stream('a', 30), stream('c', 20)] },
  })
  expect(nowOfAll([now], 9)).toEqual(now)
  expect(nowOfAll([{ ...now, storeUp: null }], 9).storeUp).toBeNull()
})
