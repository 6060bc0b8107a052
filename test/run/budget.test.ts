import fc from 'fast-check'
import { expect, it } from 'vitest'
import { RetryBudget } from '../../src/run/budget.ts'

const budgetOf = (budget_ratio: number, budget_floor: number) => new RetryBudget({ budget_ratio, budget_floor })

function takeAll(budget: RetryBudget, now: number, tries = 1_000): number {
  let taken = 0
  for (let n = 0; n < tries; n++) if (budget.take(now)) taken++
  return taken
}

it('allows its floor however few requests there are, once a minute', () => {
  const budget = budgetOf(0.2, 10)
  expect([takeAll(budget, 5_000), takeAll(budget, 64_999), takeAll(budget, 66_000)]).toEqual([10, 0, 10])
})

it('allows its share of the requests of the last minute', () => {
  const budget = budgetOf(0.2, 10)
  for (let n = 0; n < 500; n++) budget.begun(1_000 + n)
  expect([takeAll(budget, 2_000), takeAll(budget, 30_000)]).toEqual([100, 0])
  for (let n = 0; n < 500; n++) budget.begun(30_000 + n)
  expect(takeAll(budget, 31_000)).toBe(100)
  // Those of the first second are forgotten, with what they paid for.
  expect(takeAll(budget, 63_000)).toBe(0)
  for (let n = 0; n < 50; n++) budget.begun(63_000)
  expect(takeAll(budget, 63_000)).toBe(10)
})

it.each([
  [0, 0, 0],
  [0, 3, 3],
  [1, 0, 100],
  [10, 0, 1_000],
])('with a ratio of %d and a floor of %d a hundred requests may have %d extra calls', (ratio, floor, expected) => {
  const budget = budgetOf(ratio, floor)
  for (let n = 0; n < 100; n++) budget.begun(0)
  expect(takeAll(budget, 0, 2_000)).toBe(expected)
})

it('starts anew after a long silence, and is not confused by a clock that stands or steps back', () => {
  const budget = budgetOf(1, 0)
  budget.begun(10_500)
  expect([budget.take(9_000), budget.take(10_500)]).toEqual([true, false])
  const later = 1_000_000_000
  expect(budget.take(later)).toBe(false)
  budget.begun(later)
  expect([budget.take(later), budget.take(later)]).toEqual([true, false])
})

const event = fc.record({
  waitMs: fc.oneof(
    fc.constant(0),
    fc.double({ min: 0, max: 3_000, noNaN: true }),
    fc.double({ min: 50_000, max: 70_000, noNaN: true }),
  ),
  requests: fc.integer({ min: 0, max: 8 }),
  tries: fc.integer({ min: 0, max: 8 }),
})

it('never has more extra calls in 60 s than floor and ratio allow, and refuses none that 61 s would allow', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 3, noNaN: true }),
      fc.integer({ min: 0, max: 5 }),
      fc.array(event, { maxLength: 60 }),
      (ratio, floor, events) => {
        const budget = budgetOf(ratio, floor)
        const begun: number[] = []
        const extra: number[] = []
        const within = (times: number[], from: number) => times.filter((time) => time > from).length
        let now = 0
        for (const { waitMs, requests, tries } of events) {
          now += waitMs
          for (let n = 0; n < requests; n++) {
            budget.begun(now)
            begun.push(now)
          }
          for (let n = 0; n < tries; n++) {
            if (budget.take(now)) {
              extra.push(now)
              const most = Math.max(floor, ratio * within(begun, now - 60_000))
              expect(within(extra, now - 60_000)).toBeLessThanOrEqual(most)
            } else {
              const least = Math.max(floor, ratio * within(begun, now - 59_000))
              expect(within(extra, now - 61_000 - 1e-6) + 1).toBeGreaterThan(least)
            }
          }
        }
      },
    ),
  )
})
