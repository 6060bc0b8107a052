import { expect, it } from 'vitest'
import { fuzz } from '../fuzz/fuzz.ts'

it('two thousand requests, few of which make sense, break nothing', { timeout: 30_000 }, async () => {
  const result = await fuzz({ seed: 'short', count: 2_000, from: 0, concurrency: 400 })
  expect(result.problems).toEqual([])
  expect(result.wrong).toBe(0)
  // Good requests, bad ones and what is no request at all.
  for (const status of ['200', '400', '401', '404', '408', '415', '0']) expect(result.statuses).toHaveProperty(status)
  expect(result.upstreamCalls).toBeGreaterThan(50)
})
