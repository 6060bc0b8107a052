import { expect, it } from 'vitest'
import { Backoff } from '../../src/client/backoff.ts'

it('doubles its delay up to a limit, and takes at least half of it', () => {
  const backoff = new Backoff({ minMs: 100, maxMs: 700, attempts: 5 })
  const limits = [100, 200, 400, 700, 700]
  for (const limit of limits) {
    const delay = backoff.next(false, undefined) as number
    expect(delay).toBeGreaterThanOrEqual(limit / 2)
    expect(delay).toBeLessThanOrEqual(limit)
  }
  expect(backoff.next(false, undefined)).toBeUndefined()
  backoff.progress()
  expect(backoff.next(false, undefined)).toBeLessThanOrEqual(100)
})

it('spreads those who were cut off together', () => {
  const delays = Array.from({ length: 200 }, () => new Backoff().next(false, undefined) as number)
  expect(Math.max(...delays) - Math.min(...delays)).toBeGreaterThan(150)
})

it('waits for as long as the server says, and gives up when that is too long', () => {
  expect(new Backoff().next(false, 7_000)).toBe(7_000)
  expect(new Backoff().next(true, 30_001)).toBeUndefined()
})

it('puts up with fewer refusals than losses', () => {
  const backoff = new Backoff()
  const refused = Array.from({ length: 5 }, () => backoff.next(true, undefined) !== undefined)
  expect(refused).toEqual([true, true, true, false, false])
})

it('is woken from its sleep', async () => {
  const backoff = new Backoff()
  const began = performance.now()
  const asleep = backoff.sleep(60_000)
  backoff.wake()
  await asleep
  expect(performance.now() - began).toBeLessThan(5_000)
})
