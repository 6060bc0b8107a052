import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Limits } from '../../src/core/caller.ts'
import type { Accounts } from '../../src/core/limits.ts'
import { eventually } from '../support/client.ts'
import { accountPlaces, amount, Clock, limitOf, newName, wish } from './places.ts'

const { places, close } = accountPlaces()
afterAll(close)

const hour = 3_600_000

describe.each(places)('limits $name', ({ open, trials }) => {
  const clock = new Clock()
  let here: Accounts
  let there: Accounts
  let shut: () => Promise<void>
  beforeAll(async () => ({ here, there, close: shut } = await open(clock)))
  afterAll(() => shut())

  const usedBy = async (account: string, limits: Limits) => (await there.look([{ account, limits }])).used[0]

  it.each<[string, Limits, number]>([
    ['requests', { requests_per_minute: 5 }, 5],
    ['streams', { concurrent_streams: 3 }, 3],
    ['tokens', { tokens_per_day: 1_000 }, 10],
    ['dollars', { usd_per_day: 0.001 }, 10],
  ])('let as many through as there are %s', async (_, limits, count) => {
    const account = newName()
    for (let n = 0; n < count; n++) expect(await limitOf(here.take(wish(account, limits, 100, 100)))).toBeUndefined()
    for (const place of [here, there]) {
      expect(await limitOf(place.take(wish(account, limits, 100, 100)))).toBe(Object.keys(limits)[0])
    }
    // Another's are his own.
    expect(await limitOf(here.take(wish(newName(), limits, 100, 100)))).toBeUndefined()
  })

  it('let as many requests through as have come back, and count none that they refused', async () => {
    const [account, limits] = [newName(), { requests_per_minute: 60 }]
    const ask = () => here.take({ stream: undefined, parties: [{ account, limits }], amount: amount(0) })
    for (let n = 0; n < 60; n++) expect(await limitOf(ask())).toBeUndefined()
    for (let n = 0; n < 200; n++) await ask()
    const { refusal, used } = await ask()
    expect([refusal?.limit, Math.round(refusal?.waitMs ?? 0)]).toEqual(['requests_per_minute', 1_000])
    expect(Math.round(used[0]?.refillMs ?? 0)).toBe(60_000)
    clock.at += 2_000
    expect([await limitOf(ask()), await limitOf(ask()), await limitOf(ask())]).toEqual([
      undefined,
      undefined,
      'requests_per_minute',
    ])
    clock.at += 60_000
    expect((await usedBy(account, limits))?.refillMs).toBe(0)
  })

  it.each<[string, Limits]>([
    ['tokens', { tokens_per_day: 1_000 }],
    ['dollars', { usd_per_day: 0.001 }],
  ])('overspend by one reservation at most, of two hundred at once for the last %s', async (_, limits) => {
    const account = newName()
    const spent = wish(account, limits, 950, 950)
    await here.take(spent)
    here.settle(spent.stream, amount(950, 950))
    const all = Array.from({ length: 200 }, (_, n) => (n % 2 ? here : there).take(wish(account, limits, 80, 80)))
    const verdicts = await Promise.all(all)
    expect(verdicts.filter(({ refusal }) => !refusal)).toHaveLength(1)
    for (const { refusal } of verdicts) if (refusal) expect(refusal.reserved).toBe(true)
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 1_030, microdollars: 1_030 })
  })

  it('charge what was used in the place of what was reserved', async () => {
    const [account, limits] = [newName(), { tokens_per_day: 1_000, concurrent_streams: 10 }]
    const [first, second, third] = [wish(account, limits, 900), wish(account, limits, 900), wish(account, limits, 5)]
    await here.take(first)
    await here.take(second)
    expect((await here.take(third)).refusal).toMatchObject({ limit: 'tokens_per_day', reserved: true })
    here.settle(first.stream, amount(10))
    here.settle(second.stream, {})
    await eventually(async () => (await usedBy(account, limits))?.streams === 0)
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 910, streams: 0 })
    await here.take(third)
    here.settle(third.stream, amount(200))
    // Said twice, or of what nobody knows, it changes nothing.
    here.settle(third.stream, amount(200))
    here.settle(newName(), amount(200))
    await eventually(async () => (await usedBy(account, limits))?.streams === 0)
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 1_110 })
    expect((await here.take(wish(account, limits, 1))).refusal).toMatchObject({ reserved: false })
  })

  it('count what a stream has used, and reserve its next call, and no request or stream again', async () => {
    const [account, limits] = [newName(), { requests_per_minute: 60, concurrent_streams: 1, tokens_per_day: 1_000 }]
    const each = wish(account, limits, 300, 30)
    await here.take(each)
    const more = { stream: each.stream, used: amount(100, 10), amount: amount(400, 40) }
    expect(await here.takeMore(more)).toBeUndefined()
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 500, microdollars: 50, streams: 1, refillMs: 1_000 })
    // What is not told is as much as was taken. Said twice, it is the same.
    for (const _ of [1, 2]) {
      expect(await here.takeMore({ ...more, used: { tokens: 600 }, amount: amount(50, 0) })).toBeUndefined()
      expect(await usedBy(account, limits)).toMatchObject({ tokens: 650, microdollars: 50 })
    }
    here.settle(each.stream, amount(610, 20))
    await eventually(async () => (await usedBy(account, limits))?.streams === 0)
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 610, microdollars: 20 })
    expect(await here.takeMore({ ...more, stream: newName() })).toBeUndefined()
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 610, microdollars: 20 })
  })

  it('refuse a next call when the day is used up, or reserved, and let through what needs no more than it had', async () => {
    const [mine, all] = [newName(), newName()]
    const limits = { tokens_per_day: 100 }
    const streams = ['a', 'b', 'c'].map(() => ({
      ...wish(mine, {}, 45),
      parties: [
        { account: mine, limits: {} },
        { account: all, limits },
      ],
    }))
    for (const each of streams) expect((await here.take(each)).refusal).toBeUndefined()
    const [a = '', b = '', c = ''] = streams.map(({ stream }) => stream)
    expect(await here.takeMore({ stream: b, used: amount(5), amount: amount(40) })).toBeUndefined()
    expect(await usedBy(all, limits)).toMatchObject({ tokens: 135 })
    const refused = { party: 1, limit: 'tokens_per_day', waitMs: expect.any(Number) }
    const refusal = await here.takeMore({ stream: a, used: amount(20), amount: amount(45) })
    expect(refusal).toEqual({ ...refused, reserved: true })
    expect(await usedBy(all, limits)).toMatchObject({ tokens: 110 })
    expect(await here.takeMore({ stream: c, used: amount(10), amount: amount(45) })).toBeUndefined()
    const last = await here.takeMore({ stream: b, used: amount(70), amount: amount(5) })
    expect(last).toEqual({ ...refused, reserved: false })
    expect(await usedBy(all, limits)).toMatchObject({ tokens: 145 })
  })

  it('take back what never began, its request as well', async () => {
    const [account, limits] = [newName(), { requests_per_minute: 1, tokens_per_day: 10, concurrent_streams: 1 }]
    for (let n = 0; n < 5; n++) {
      const each = wish(account, limits, 50)
      expect(await limitOf(here.take(each))).toBeUndefined()
      here.giveBack(each.stream)
      await eventually(async () => (await usedBy(account, limits))?.streams === 0)
    }
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 0, refillMs: 0 })
  })

  it('take nothing from anybody when one party has not enough', async () => {
    const [mine, all] = [newName(), newName()]
    const limits = { concurrent_streams: 2, requests_per_minute: 10, tokens_per_day: 100 }
    const asked = {
      ...wish(mine, limits, 10),
      parties: [
        { account: mine, limits },
        { account: all, limits },
      ],
    }
    await here.take(wish(all, limits, 10))
    await here.take(wish(all, limits, 10))
    expect((await here.take(asked)).refusal).toMatchObject({ party: 1, limit: 'concurrent_streams' })
    expect(await usedBy(mine, limits)).toEqual({ refillMs: 0, streams: 0, tokens: 0, microdollars: 0 })
  })

  it('count a request that begins no stream for its minute alone', async () => {
    const [account, limits] = [newName(), { requests_per_minute: 2, concurrent_streams: 1, tokens_per_day: 5 }]
    await here.take(wish(account, limits, 50))
    const count = () => here.take({ stream: undefined, parties: [{ account, limits }], amount: amount(0) })
    expect([await limitOf(count()), await limitOf(count())]).toEqual([undefined, 'requests_per_minute'])
  })

  it('begin anew at midnight UTC, and leave to a day what began on it', async () => {
    const [account, limits] = [newName(), { tokens_per_day: 1_000, usd_per_day: 1 }]
    clock.at = Date.UTC(2031, 4, 7 + Math.floor((clock.at - Date.UTC(2031, 4, 7)) / (24 * hour)), 23, 59, 59)
    const late = wish(account, limits, 1_200, 20)
    await here.take(late)
    const { refusal } = await here.take(wish(account, limits, 1))
    expect(refusal).toEqual({ party: 0, limit: 'tokens_per_day', reserved: true, waitMs: 1_000 })
    clock.at += 1_000
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 0, microdollars: 0, streams: 1 })
    // The day before has nothing left, and this one nothing to do with it.
    const more = { stream: late.stream, used: amount(1_200, 20), amount: amount(50, 5) }
    expect(await here.takeMore(more)).toBeUndefined()
    await here.take(wish(account, limits, 7, 7))
    expect(await here.takeMore(more)).toBeUndefined()
    here.settle(late.stream, amount(1_100, 10))
    await eventually(async () => (await usedBy(account, limits))?.streams === 1)
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 7, microdollars: 7 })
    // A clock that is behind brings yesterday back to nobody.
    clock.at -= 2_000
    await here.take(wish(account, limits, 1, 1))
    clock.at += 2_000
    expect(await usedBy(account, limits)).toMatchObject({ tokens: 8, microdollars: 8 })
  })

  it('are never used up twice, and never less than not at all', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('take' as const), tokens: fc.nat(60) }),
      fc.record({ kind: fc.constant('settle' as const), at: fc.nat(9), tokens: fc.nat(60) }),
      fc.record({ kind: fc.constant('more' as const), at: fc.nat(9), used: fc.nat(30), tokens: fc.nat(60) }),
      fc.record({ kind: fc.constant('give back' as const), at: fc.nat(9) }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 100 }), async (steps, limit) => {
        const [account, limits] = [newName(), { tokens_per_day: limit, concurrent_streams: 4 }]
        const live: { stream: string; used: number; tokens: number }[] = []
        let spent = 0
        for (const each of steps) {
          const reserved = live.reduce((sum, { used, tokens }) => sum + used + tokens, 0)
          if (each.kind === 'take') {
            const asked = wish(account, limits, each.tokens)
            const { refusal, used } = await here.take(asked)
            const full = spent + reserved >= limit
            const expected = full ? 'tokens_per_day' : live.length >= 4 ? 'concurrent_streams' : undefined
            expect(refusal?.limit).toBe(expected)
            if (full) expect(refusal?.reserved).toBe(spent + live.reduce((sum, { used }) => sum + used, 0) < limit)
            if (!refusal) {
              live.push({ stream: asked.stream, used: 0, tokens: each.tokens })
              expect(used[0]?.tokens).toBeLessThan(limit + Math.max(each.tokens, 1))
            }
          } else if (each.kind === 'more') {
            const one = live[each.at % Math.max(1, live.length)]
            if (!one) continue
            const used = one.used + each.used
            const all = spent + reserved - one.tokens + each.used
            const isCovered = each.used + each.tokens <= one.tokens
            const refusal = await here.takeMore({ stream: one.stream, used: amount(used), amount: amount(each.tokens) })
            expect(refusal !== undefined).toBe(all >= limit && !isCovered)
            Object.assign(one, { used, tokens: refusal ? 0 : each.tokens })
          } else {
            const [one] = live.splice(each.at % Math.max(1, live.length), 1)
            if (!one) continue
            if (each.kind === 'settle') here.settle(one.stream, amount(each.tokens))
            else here.giveBack(one.stream)
            if (each.kind === 'settle') spent += each.tokens
          }
          const expected = spent + live.reduce((sum, { used, tokens }) => sum + used + tokens, 0)
          const look = await eventually(async () => {
            const now = (await here.look([{ account, limits }])).used[0]
            return now?.streams === live.length && now
          })
          expect(look.tokens).toBe(expected)
        }
      }),
      { numRuns: trials },
    )
  })
})
