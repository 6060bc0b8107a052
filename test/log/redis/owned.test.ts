import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { LogEvent } from '../../../src/core/events.ts'
import { newStreamId } from '../../../src/core/position.ts'
import { redisKeys } from '../../../src/log/redis/keys.ts'
import { type Chaos, startChaos } from '../../support/chaos.ts'
import { eventually } from '../../support/client.ts'
import { done, start } from '../../support/logs.ts'
import { seeded } from '../../support/random.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { listenOn, portOf, relay, tryConnect } from '../../support/relay.ts'
import {
  ended,
  entriesOf,
  found,
  newPrefix,
  owner,
  readEagerly,
  type StoreSettings,
  soonMs,
  storedOf,
  testStore,
  text,
  texts,
} from '../stores.ts'

let redis: Redis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.close())

async function chaosTo(port: number): Promise<Chaos> {
  const chaos = await startChaos(port)
  onTestFinished(() => chaos.close())
  return chaos
}

/** A way to Redis on which every reply takes so long, in milliseconds. */
async function slowly(port: number, delayMs: number): Promise<string> {
  const server = await listenOn(0, async (client) => {
    client.on('error', () => client.destroy())
    const target = await tryConnect('127.0.0.1', port)
    if (!target) return void client.destroy()
    relay(client, target)
    target.on('data', (reply: Buffer) => setTimeout(() => client.writable && client.write(reply), delayMs))
    client.on('close', () => target.destroy())
  })
  onTestFinished(() => void server.close())
  return `redis://127.0.0.1:${portOf(server)}`
}

/** Two replicas, the first of which reaches Redis through a proxy that can do harm. */
async function twoReplicas(settings: Partial<StoreSettings> = {}) {
  const prefix = newPrefix()
  const chaos = await chaosTo(redis.port)
  const near = await testStore({ prefix, url: chaos.url, ...settings })
  const far = await testStore({ prefix, url: redis.url })
  return { prefix, chaos, near, far }
}

async function begin({ store }: { store: Awaited<ReturnType<typeof testStore>>['store'] }) {
  const log = store.create(newStreamId(), { owner: owner() })
  await log.append([start])
  return log
}

describe('a log in Redis', () => {
  it('shows its readers nothing before Redis has it', async () => {
    const { prefix, chaos, near, far } = await twoReplicas()
    const log = await begin(near)
    const reader = readEagerly(log)
    chaos.hold(true)
    const appended = log.append([text(1)])
    // Time in which it would have come.
    await far.store.findLive('nothing')
    expect(reader.seen).toEqual([start])
    chaos.hold(false)
    await appended
    expect(reader.seen).toEqual([start, text(1)])
    expect(await storedOf(redis, prefix, log.id)).toEqual([start, text(1)])
    expect(near.warnings).toEqual([])
    await log.append([done])
  })

  it('shows them at once what Redis has yet to get, where that is wanted', async () => {
    const { prefix, chaos, near, far } = await twoReplicas({ durability: 'fast' })
    const log = await begin(near)
    const there = readEagerly(await found(far.store, log.id))
    const reader = readEagerly(log)
    chaos.hold(true)
    for (let n = 0; n < 20; n++) expect(log.append([text(n)])).toBeUndefined()
    expect(reader.seen).toEqual([start, ...texts(20)])
    expect(there.seen).toEqual([start])
    chaos.hold(false)
    await eventually(() => there.seen.length === 21, soonMs)
    // What has waited goes together.
    expect((await entriesOf(redis, prefix, log.id)).length).toBeLessThan(10)
    expect(await storedOf(redis, prefix, log.id)).toEqual(reader.seen)
    log.append([done])
  })

  it('goes on with Redis after an empty batch', async () => {
    const { near } = await twoReplicas()
    const log = await begin(near)
    await log.append([])
    await log.append([text(1), done])
    expect(near.warnings).toEqual([])
  })

  it.each([
    ['its beginning', 0],
    ['a piece', 1],
    ['its end', 2],
  ])('stores once what it got no word of: %s', async (_, lost) => {
    const { prefix, chaos, near, far } = await twoReplicas()
    const log = near.store.create(newStreamId(), { owner: owner() })
    const reader = readEagerly(log)
    const batches: LogEvent[][] = [[start, text(0)], texts(100, 1), [text(101), done]]
    for (const [n, batch] of batches.entries()) {
      if (n === lost) chaos.cutAfterReply({ when: (request) => request.includes(log.id) })
      await log.append(batch)
      expect(reader.seen).toEqual(batches.slice(0, n + 1).flat())
    }
    expect(chaos.lost).toBe(1)
    const there = await found(far.store, log.id)
    expect((await ended(there)).type).toBe('done')
    expect(await there.history()).toEqual(batches.flat())
    expect(await storedOf(redis, prefix, log.id)).toEqual(batches.flat())
  })

  it.each([
    'durable',
    'fast',
  ] as const)('stores all of it once, %s, however many replies are lost', async (durability) => {
    const { prefix, chaos, near, far } = await twoReplicas({ durability })
    const random = seeded(`lost replies, ${durability}`)
    const logs = await Promise.all(Array.from({ length: 20 }, () => begin(near)))
    chaos.cutAfterReply({ count: 10, probability: 0.05, random: random.next })
    const written = await Promise.all(
      logs.map(async (log) => {
        const all: LogEvent[] = [start]
        for (let batch = 0; batch < 40 || (chaos.lost < 5 && batch < 20_000); batch++) {
          const events = texts(random.between(1, 20), all.length)
          all.push(...events)
          await log.append(events)
          await new Promise(setImmediate)
        }
        all.push(done)
        await log.append([done])
        return all
      }),
    )
    chaos.cutAfterReply({ count: 0 })
    expect(chaos.lost).toBeGreaterThanOrEqual(5)
    for (const [n, log] of logs.entries()) {
      const there = await found(far.store, log.id)
      await ended(there)
      expect(await storedOf(redis, prefix, log.id)).toEqual(written[n])
      expect(await there.history()).toEqual(written[n])
    }
  })

  it('does not mind that Redis forgets its scripts', async () => {
    const { near, far } = await twoReplicas()
    const log = await begin(near)
    const there = readEagerly(await found(far.store, log.id))
    for (let n = 0; n < 3; n++) {
      await redis.command('SCRIPT', 'FLUSH')
      await log.append([text(n)])
    }
    await redis.command('SCRIPT', 'FLUSH')
    expect(await near.store.claim('key', { id: newStreamId(), fingerprint: 'f' })).toBeUndefined()
    await log.append([done])
    await eventually(() => there.seen.length === 5, soonMs)
    expect(near.warnings).toEqual([])
    expect(far.warnings).toEqual([])
  })

  it('goes on while Redis is out of memory, which gets the rest later', async () => {
    const { prefix, near, far } = await twoReplicas()
    const log = await begin(near)
    const there = readEagerly(await found(far.store, log.id))
    const reader = readEagerly(log)
    onTestFinished(() => void redis.command('CONFIG', 'SET', 'maxmemory', '0'))
    await redis.command('CONFIG', 'SET', 'maxmemory', '1')
    await log.append([text(1)])
    expect(log.append([text(2)])).toBeUndefined()
    expect(reader.seen).toEqual([start, text(1), text(2)])
    await expect(near.store.claim('key', { id: newStreamId(), fingerprint: 'f' })).rejects.toMatchObject({
      code: 'store_unavailable',
    })
    const meanwhile = await begin(near)
    // Its owner lives: nobody may take it over.
    const [replica] = (await redis.command('SMEMBERS', redisKeys(prefix).replicas)) as string[]
    await near.store.findLive('x')
    expect(await redis.command('PTTL', redisKeys(prefix).lease(replica ?? ''))).toBeGreaterThan(0)
    expect(there.seen).toEqual([start])
    await redis.command('CONFIG', 'SET', 'maxmemory', '0')
    await eventually(() => there.seen.length === 3, soonMs)
    await log.append([done])
    await eventually(() => there.seen.length === 4, soonMs)
    await found(far.store, meanwhile.id)
    await meanwhile.append([done])
    expect(await storedOf(redis, prefix, log.id)).toEqual([start, text(1), text(2), done])
  })

  it('waits a moment for a frozen Redis, once, and gives it the rest when it wakes', async () => {
    const { prefix, near, far } = await twoReplicas()
    const log = await begin(near)
    const there = readEagerly(await found(far.store, log.id))
    const reader = readEagerly(log)
    onTestFinished(() => redis.thaw())
    redis.freeze()
    const frozenAt = performance.now()
    await log.append([text(1)])
    expect(performance.now() - frozenAt).toBeLessThan(2_500)
    for (let n = 2; n < 10; n++) expect(log.append([text(n)])).toBeUndefined()
    expect(reader.seen).toEqual([start, ...texts(9, 1)])
    const askedAt = performance.now()
    await expect(near.store.find(newStreamId())).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(performance.now() - askedAt).toBeLessThan(2_500)
    redis.thaw()
    await eventually(() => there.seen.length === 10, soonMs)
    await log.append([done])
    await eventually(() => there.seen.length === 11, soonMs)
    expect(await storedOf(redis, prefix, log.id)).toEqual(reader.seen)
  })

  it('catches up with a Redis that is slow all the time', async () => {
    const prefix = newPrefix()
    const near = await testStore({ prefix, url: await slowly(redis.port, 300) })
    const far = await testStore({ prefix, url: redis.url })
    const log = await begin(near)
    const there = readEagerly(await found(far.store, log.id))
    const all: LogEvent[] = [start]
    for (let n = 0; n < 3; n++) {
      const batch = texts(600, n * 600)
      all.push(...batch)
      await log.append(batch)
      await eventually(() => there.seen.length > n * 600 + 1, soonMs)
    }
    await log.append([done])
    await eventually(() => there.seen.length === all.length + 1, soonMs)
    expect(await storedOf(redis, prefix, log.id)).toEqual([...all, done])
  })

  it('goes on beside a Redis that vanishes without a word', async () => {
    const { prefix, chaos, near, far } = await twoReplicas()
    const log = await begin(near)
    const reader = readEagerly(log)
    chaos.blackhole(true)
    const goneAt = performance.now()
    await log.append([text(1)])
    expect(performance.now() - goneAt).toBeLessThan(2_500)
    await log.append([text(2), done])
    expect(reader.seen).toEqual([start, text(1), text(2), done])
    expect(await (await found(near.store, log.id)).history()).toEqual(reader.seen)
    chaos.blackhole(false)
    await ended(await found(far.store, log.id))
    expect(await storedOf(redis, prefix, log.id)).toEqual(reader.seen)
  })
})
