import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { type Alarm, Sweep, type Swept } from '../../src/core/sweep.ts'

/** Tells when it was looked at, in milliseconds since the test began. */
class Member implements Swept {
  alarm: Alarm | undefined
  readonly looks: number[] = []
  readonly #next: (now: number) => number

  constructor(next: (now: number) => number = () => Number.POSITIVE_INFINITY) {
    this.#next = next
  }

  tick(now: number): number {
    this.looks.push(now - began)
    return this.#next(now)
  }
}

const never = Number.POSITIVE_INFINITY
let began: number
let sweep: Sweep
beforeEach(() => {
  vi.useFakeTimers()
  began = performance.now()
  sweep = new Sweep()
})
afterEach(() => vi.useRealTimers())

it('looks at a member when it is due, at most two intervals late, and then when it says', () => {
  const member = new Member((now) => (now - began < 300 ? now + 100 : never))
  sweep.due(member, began + 100)
  vi.advanceTimersByTime(1_000)
  expect(member.looks.map((at) => Math.floor(at / 100))).toEqual([1, 2, 3])
  for (const at of member.looks) expect(at % 100).toBeLessThanOrEqual(60)
})

it('moves a deadline to the front and never to the back', () => {
  const member = new Member()
  sweep.due(member, began + 500)
  sweep.due(member, began + 50)
  sweep.due(member, began + 900)
  vi.advanceTimersByTime(1_000)
  expect(member.looks).toHaveLength(1)
  expect(member.looks[0]).toBeLessThan(80)
})

it('looks at nobody who has left, and stops when all have', () => {
  const [one, other] = [new Member(), new Member()]
  sweep.due(one, began + 100)
  sweep.due(other, began + 100)
  sweep.delete(one)
  sweep.delete(one)
  expect(sweep.size).toBe(1)
  vi.advanceTimersByTime(200)
  expect([one.looks.length, other.looks.length]).toEqual([0, 1])
  sweep.delete(other)
  expect([sweep.size, vi.getTimerCount()]).toEqual([0, 0])
  sweep.due(one, performance.now() + 50)
  vi.advanceTimersByTime(100)
  expect(one.looks).toHaveLength(1)
})

it('lets a look remove others that are due with it, and itself', () => {
  const members: Member[] = []
  const removeAll = () => {
    for (const member of members) sweep.delete(member)
    return began + 200
  }
  members.push(new Member(removeAll), new Member(removeAll))
  for (const member of members) sweep.due(member, began + 100)
  vi.advanceTimersByTime(1_000)
  expect(members.map(({ looks }) => looks.length)).toEqual([1, 0])
  expect([sweep.size, vi.getTimerCount()]).toEqual([0, 0])
})

it('lets a member that left within its look come back', () => {
  const member: Member = new Member((now) => {
    sweep.delete(member)
    if (now - began < 150) sweep.due(member, now + 100)
    return never
  })
  sweep.due(member, began + 100)
  vi.advanceTimersByTime(1_000)
  expect(member.looks.map((at) => Math.floor(at / 100))).toEqual([1, 2])
  expect(sweep.size).toBe(0)
})
