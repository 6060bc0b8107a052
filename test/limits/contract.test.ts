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
    await here.take(wish(account, limits, 7, 7))
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
      fc.record({ kind: fc.constant('give back' as const), at: fc.nat(9) }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 100 }), async (steps, limit) => {
        const [account, limits] = [newName(), { tokens_per_day: limit, concurrent_streams: 4 }]
        const live: { stream: string; tokens: number }[] = []
        let spent = 0
        for (const each of steps) {
          const reserved = live.reduce((sum, { tokens }) => sum + tokens, 0)
          if (each.kind === 'take') {
            const asked = wish(account, limits, each.tokens)
            const { refusal, used } = await here.take(asked)
            const full = spent + reserved >= limit
            const expected = full ? 'tokens_per_day' : live.length >= 4 ? 'concurrent_streams' : undefined
            expect(refusal?.limit).toBe(expected)
            if (full) expect(refusal?.reserved).toBe(spent < limit)
            if (!refusal) {
              live.push({ stream: asked.stream, tokens: each.tokens })
              expect(used[0]?.tokens).toBeLessThan(limit + Math.max(each.tokens, 1))
            }
          } else {
            const [one] = live.splice(each.at % Math.max(1, live.length), 1)
            if (!one) continue
            if (each.kind === 'settle') here.settle(one.stream, amount(each.tokens))
            else here.giveBack(one.stream)
            if (each.kind === 'settle') spent += each.tokens
          }
          const expected = spent + live.reduce((sum, { tokens }) => sum + tokens, 0)
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
