import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { Limits } from '../../../src/core/caller.ts'
import type { RedisAccountsOptions } from '../../../src/limits/redis/accounts.ts'
import { eventually } from '../../support/client.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { amount, Clock, lifeMs, limitOf, newName, openReplica, type RedisReplica, wish } from '../places.ts'

let redis: Redis
beforeAll(async () => {
  redis = await startRedis({ appendonly: 'always' })
})
afterAll(() => redis.close())

let clock: Clock
let prefix: string
beforeEach(() => {
  clock = new Clock()
  prefix = newName()
})

async function replica(options: Partial<RedisAccountsOptions> = {}): Promise<RedisReplica> {
  const opened = await openReplica(redis.url, clock, { prefix, ...options })
  onTestFinished(() => opened.close())
  return opened
}

const usedBy = async ({ accounts }: RedisReplica, account: string, limits: Limits) =>
  (await accounts.look([{ account, limits }])).used[0]

/** How many wishes are granted before one is refused. */
async function granted({ accounts }: RedisReplica, account: string, limits: Limits, tokens: number): Promise<number> {
  for (let n = 0; ; n++) if (await limitOf(accounts.take(wish(account, limits, tokens)))) return n
}

describe('a replica that dies', () => {
  it('leaves what it had reserved as spent, and its streams as ended, when their time is over', async () => {
    const [account, limits] = [newName(), { concurrent_streams: 1, tokens_per_day: 100 }]
    const [dying, other] = [await openReplica(redis.url, clock, { prefix }), await replica()]
    await dying.accounts.take(wish(account, limits, 30))
    dying.link.close()
    expect(await limitOf(other.accounts.take(wish(account, limits, 30)))).toBe('concurrent_streams')
    clock.at += lifeMs + 61_000
    const second = wish(account, limits, 30)
    expect(await limitOf(other.accounts.take(second))).toBeUndefined()
    other.accounts.settle(second.stream, amount(70))
    await eventually(async () => (await usedBy(other, account, limits))?.tokens === 100)
    expect((await other.accounts.take(wish(account, limits, 1))).refusal).toMatchObject({ reserved: false })
    await dying.accounts.close()
  })

  it('leaves streams that another one goes on with, and settles', async () => {
    const [account, limits] = [newName(), { concurrent_streams: 1, tokens_per_day: 100 }]
    const [dying, other] = [await replica(), await replica()]
    const stream = wish(account, limits, 90)
    await dying.accounts.take(stream)
    other.accounts.settle(stream.stream, amount(40))
    await eventually(async () => (await usedBy(other, account, limits))?.streams === 0)
    expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 40 })
  })
})

it('a replica goes on with the reservation of another by the same limits, and what that one still says is counted once', async () => {
  const [account, limits] = [newName(), { concurrent_streams: 1, tokens_per_day: 100, usd_per_day: 1 }]
  const [slow, other] = [await replica(), await replica()]
  const { stream, ...rest } = wish(account, limits, 90, 9)
  await slow.accounts.take({ stream, ...rest })
  expect(await other.accounts.takeMore({ stream, used: amount(40, 4), amount: amount(70, 7) })).toBeUndefined()
  expect(await usedBy(slow, account, limits)).toMatchObject({ tokens: 110, microdollars: 11, streams: 1 })
  expect(await slow.accounts.takeMore({ stream, used: amount(40, 4), amount: amount(70, 7) })).toBeUndefined()
  slow.accounts.leave(stream)
  expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 110, microdollars: 11, streams: 1 })
  const refusal = await other.accounts.takeMore({ stream, used: amount(105, 10), amount: amount(70, 7) })
  expect(refusal).toMatchObject({ limit: 'tokens_per_day', reserved: false })
  other.accounts.settle(stream, amount(105, 10))
  await eventually(async () => (await usedBy(slow, account, limits))?.streams === 0)
  expect(await usedBy(slow, account, limits)).toMatchObject({ tokens: 105, microdollars: 10 })
})

it('a replica that has lost a stream to another leaves it to that one', async () => {
  const [account, limits] = [newName(), { concurrent_streams: 1, tokens_per_day: 100 }]
  const [slow, other] = [await replica(), await replica()]
  const stream = wish(account, limits, 90)
  await slow.accounts.take(stream)
  slow.accounts.leave(stream.stream)
  await slow.accounts.close()
  expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 90, streams: 1 })
  other.accounts.settle(stream.stream, amount(60))
  await eventually(async () => (await usedBy(other, account, limits))?.streams === 0)
  expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 60 })
})

describe('the names in Redis', () => {
  it('hide who it is, and are all forgotten in time', async () => {
    const { accounts } = await replica()
    const limits = { requests_per_minute: 5, concurrent_streams: 5, tokens_per_day: 100, usd_per_day: 1 }
    const [open, ended] = [wish('principal alice', limits, 5), wish('principal alice', limits, 5)]
    await accounts.take(open)
    await accounts.take(ended)
    accounts.settle(ended.stream, amount(1))
    const names = await eventually(async () => {
      const found = (await redis.command('KEYS', `${prefix}:*`)) as string[]
      const gone = (await redis.command('GET', `${prefix}:1:limit:stream:${ended.stream}`)) === 'settled'
      return gone && found
    })
    expect(names).toHaveLength(4)
    expect(names.join(' ')).not.toContain('alice')
    for (const name of names) {
      const ttl = Number(await redis.command('PTTL', name))
      expect([name, ttl > 0, ttl <= 86_400_000 + 60_000]).toEqual([name, true, true])
    }
  })
})

describe('while Redis is away', () => {
  it('each replica lets through its share of what was left, and Redis hears of it when it is back', async () => {
    await redis.command('DEL', 'four')
    await redis.command('SADD', 'four', 'a', 'b', 'c', 'd')
    const [account, limits] = [newName(), { tokens_per_day: 1_000 }]
    const [one, other] = [await replica({ replicas: 'four' }), await replica({ replicas: 'four' })]
    const before = wish(account, limits, 200)
    await one.accounts.take(before)
    expect((await other.accounts.take(wish(account, limits, 0))).refusal).toBeUndefined()
    await redis.kill()
    await eventually(() => one.link.upSince === undefined && other.link.upSince === undefined)
    // A quarter of 800 each.
    expect(await granted(one, account, limits, 20)).toBe(10)
    expect(await granted(other, account, limits, 20)).toBe(10)
    expect(one.warnings).toContainEqual({ share: 0.25 })
    const spent = wish(newName(), limits, 50)
    await one.accounts.take(spent)
    one.accounts.settle(spent.stream, amount(30))
    one.accounts.settle(before.stream, amount(150))
    await redis.start()
    const sums = { tokens: 150 + 2 * 10 * 20, streams: 1 + 2 * 10 }
    // Streams begin and end in between, tokens add up only once.
    await eventually(async () => (await usedBy(one, account, limits))?.tokens === sums.tokens, 8_000)
    expect(await usedBy(other, account, limits)).toMatchObject(sums)
    const elsewhere = spent.parties[0]?.account ?? ''
    await eventually(async () => (await usedBy(other, elsewhere, limits))?.tokens === 30, 8_000)
  })

  it('next calls are let through by the same share, and Redis hears what they have used', async () => {
    const [account, elsewhere, limits] = [newName(), newName(), { tokens_per_day: 1_000 }]
    const [one, other] = [await replica({ share: 0.25 }), await replica()]
    const [before, meanwhile] = [wish(account, limits, 100), wish(elsewhere, limits, 50)]
    await one.accounts.take(before)
    await redis.kill()
    await eventually(() => one.link.upSince === undefined)
    const more = (stream: string, used: number, next: number) =>
      one.accounts.takeMore({ stream, used: amount(used), amount: amount(next) })
    // The 100 that it had, and a quarter of 900.
    expect(await more(before.stream, 50, 200)).toBeUndefined()
    expect(await more(before.stream, 324, 200)).toBeUndefined()
    expect(await more(before.stream, 325, 200)).toMatchObject({ limit: 'tokens_per_day', reserved: false })
    await one.accounts.take(meanwhile)
    expect(await more(meanwhile.stream, 20, 60)).toBeUndefined()
    await redis.start()
    await eventually(async () => (await usedBy(other, elsewhere, limits))?.tokens === 80, 8_000)
    expect(await more(meanwhile.stream, 90, 5)).toBeUndefined()
    one.accounts.settle(before.stream, amount(325))
    one.accounts.settle(meanwhile.stream, amount(92))
    await eventually(async () => (await usedBy(other, account, limits))?.streams === 0, 8_000)
    expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 325 })
    await eventually(async () => (await usedBy(other, elsewhere, limits))?.tokens === 92, 8_000)
  })

  it('streams and requests are shared as well, one of each at least, or as the settings say', async () => {
    const both = await Promise.all([replica({ leastReplicas: 4 }), replica({ share: 0.5 })])
    await redis.kill()
    await eventually(() => both.every(({ link }) => link.upSince === undefined))
    const found = await Promise.all(
      both.flatMap((each) => [
        granted(each, newName(), { concurrent_streams: 8 }, 0),
        granted(each, newName(), { concurrent_streams: 1 }, 0),
        granted(each, newName(), { requests_per_minute: 40 }, 0),
        granted(each, newName(), { requests_per_minute: 1 }, 0),
      ]),
    )
    expect(found).toEqual([2, 1, 10, 1, 4, 1, 20, 1])
    await redis.start()
  })

  it('a reply that is lost takes nothing twice', async () => {
    const [account, limits] = [newName(), { tokens_per_day: 1_000 }]
    const one = await replica()
    await one.accounts.take(wish(account, limits, 10))
    redis.freeze()
    const asked = wish(account, limits, 100)
    expect(await limitOf(one.accounts.take(asked))).toBeUndefined()
    redis.thaw()
    const other = await replica()
    await eventually(async () => (await usedBy(other, account, limits))?.streams === 2, 8_000)
    expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 110, streams: 2 })
    one.accounts.settle(asked.stream, amount(60))
    await eventually(async () => (await usedBy(other, account, limits))?.streams === 1, 8_000)
    expect(await usedBy(other, account, limits)).toMatchObject({ tokens: 70 })
  })
})
