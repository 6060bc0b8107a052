import { expect, it } from 'vitest'
import { Guesses } from '../../src/access/guesses.ts'

function start() {
  const told: string[] = []
  const clock = { now: 1_000_000 }
  const guesses = new Guesses(
    (address) => void told.push(address),
    () => clock.now,
  )
  const add = (address: string, count: number) => Array.from({ length: count }, () => guesses.add(address))
  return { guesses, told, clock, add }
}

it('lets an address guess twenty times, then says how long to wait, and starts anew after a minute', () => {
  const { add, clock, told } = start()
  expect(add('192.0.2.1', 20)).toEqual(Array.from({ length: 20 }))
  clock.now += 10_000
  expect(add('192.0.2.1', 3)).toEqual([50_000, 50_000, 50_000])
  expect(told).toEqual(['192.0.2.1'])
  clock.now += 49_999
  expect(add('192.0.2.1', 1)).toEqual([1])
  clock.now += 1
  expect(add('192.0.2.1', 21)).toEqual([...Array.from({ length: 20 }), 60_000])
  expect(told).toHaveLength(2)
})

it('counts each address for itself, and a network of IPv6 as one', () => {
  const { add } = start()
  add('192.0.2.1', 21)
  expect(add('192.0.2.2', 1)).toEqual([undefined])
  expect(add('::ffff:192.0.2.3', 1)).toEqual([undefined])
  for (let n = 0; n < 20; n++) add(`2001:db8:0:1::${n.toString(16)}`, 1)
  expect(add('2001:db8:0:1:ffff:1:2:3', 1)).toEqual([60_000])
  expect(add('2001:db8:0:2::1', 1)).toEqual([undefined])
  expect(add('2001:db8::1:0:0:0:1', 1)).toEqual([60_000])
  expect(add('::1', 1)).toEqual([undefined])
})

it('forgets the oldest addresses when there are too many', () => {
  const { guesses, add } = start()
  add('first', 21)
  for (let n = 0; n < 9_999; n++) guesses.add(`address ${n}`)
  expect([guesses.size, add('first', 1)]).toEqual([10_000, [60_000]])
  for (let n = 0; n < 50_000; n++) guesses.add(`other ${n}`)
  expect([guesses.size, add('first', 1)]).toEqual([10_000, [undefined]])
})
