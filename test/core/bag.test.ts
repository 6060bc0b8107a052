import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Bag, type Place } from '../../src/core/bag.ts'

it('has whoever was added and not removed, however often that is tried', () => {
  const step = fc.record({ adds: fc.boolean(), which: fc.nat(20) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const bag = new Bag<number>()
      const places: Place<number>[] = []
      const there = new Set<number>()
      for (const [value, { adds, which }] of steps.entries()) {
        const place = places[which % Math.max(1, places.length)]
        if (adds || !place) {
          places.push(bag.add(value))
          there.add(value)
        } else {
          bag.remove(place)
          there.delete(place.value)
        }
        expect(new Set(bag)).toEqual(there)
        expect(bag.size).toBe(there.size)
        const any = bag.any()
        expect(any === undefined ? there.size === 0 : there.has(any)).toBe(true)
      }
    }),
  )
})

it('is gone through as it was, though its members go meanwhile', () => {
  const bag = new Bag<string>()
  const places = ['a', 'b', 'c'].map((value) => bag.add(value))
  const seen: string[] = []
  for (const value of bag) {
    seen.push(value)
    for (const place of places) bag.remove(place)
  }
  expect(seen).toEqual(['a', 'b', 'c'])
  expect([...bag]).toEqual([])
})
