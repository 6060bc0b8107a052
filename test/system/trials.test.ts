import { expect, it } from 'vitest'
import { client } from '../trials/client.ts'
import { cuts } from '../trials/cuts.ts'
import { heals } from '../trials/heals.ts'
import { kills } from '../trials/kills.ts'
import { redis } from '../trials/redis.ts'
import { replies } from '../trials/replies.ts'
import { tabs } from '../trials/tabs.ts'
import { isGood, type TrialOptions } from '../trials/trial.ts'

const options: TrialOptions = { seed: 'short', count: 1, from: 0, modes: ['memory', 'redis'], concurrency: 20 }

/** The trials of `npm run trials`, each in its shortest form that still shows what it is for. */
it.each([
  { trial: client, more: { count: 24, modes: ['memory'] as const } },
  { trial: cuts, more: { count: 60 } },
  { trial: tabs, more: { count: 2 } },
  { trial: replies, more: { count: 60 } },
  { trial: heals, more: { count: 3 } },
  { trial: kills, more: { count: 3 } },
  // The fourth fault of five: Redis is flushed.
  { trial: redis, more: { from: 3 } },
])('$trial.name', { timeout: 60_000 }, async ({ trial, more }) => {
  const tally = await trial.run({ ...options, ...more })
  expect(tally.problems).toEqual([])
  expect(isGood(tally)).toBe(true)
  expect(tally.trials).toBeGreaterThan(0)
})
