import { expect, it } from 'vitest'
import { Turns } from '../../../src/core/at-once.ts'
import { Hearing, ReadersElsewhere } from '../../../src/log/redis/presence.ts'

it('an inbox is relied on once it has been heard for as long as readers are believed to be there', () => {
  const hearing = new Hearing(3_000)
  expect(hearing.isReliable(0)).toBe(false)
  for (const at of [10_000, 11_500, 13_000, 14_500]) hearing.note(at)
  expect(hearing.isReliable(14_999)).toBe(false)
  expect(hearing.isReliable(15_000)).toBe(true)
  // Not even its own replica has been heard for a while: others may have spoken in vain.
  expect(hearing.isReliable(17_501)).toBe(false)
  hearing.note(18_000)
  expect(hearing.isReliable(18_000)).toBe(false)
  for (const at of [20_000, 22_000, 23_000]) hearing.note(at)
  expect(hearing.isReliable(23_000)).toBe(true)
})

it('readers elsewhere are gone when their replica falls silent, unless it could not be heard', () => {
  const readers = new ReadersElsewhere()
  expect(readers.hear('a', 2, 0)).toBe(true)
  expect(readers.hear('b', 1, 4_000)).toBe(true)
  readers.expire(5_000, false)
  expect(readers.count).toBe(3)
  readers.expire(5_000, true)
  expect([readers.count, ...readers.replicas]).toEqual([1, 'b'])
  readers.expect(5_000)
  expect(readers.count).toBe(2)
  readers.expire(10_000, true)
  expect(readers.count).toBe(0)
})

it('turns are taken in order, so many at a time, and given back whatever happens', async () => {
  const turns = new Turns(2)
  const began: number[] = []
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>())
  const all = gates.map(({ promise }, n) =>
    turns.take(async () => {
      began.push(n)
      await promise
    }),
  )
  const settled = Promise.allSettled(all)
  expect(began).toEqual([0, 1])
  gates[1]?.reject(new Error('failed'))
  await expect(all[1]).rejects.toThrow('failed')
  expect(began).toEqual([0, 1, 2])
  for (const { resolve } of gates) resolve()
  await settled
  expect(began).toEqual([0, 1, 2, 3, 4])
  expect(await turns.take(async () => 'free again')).toBe('free again')
})
