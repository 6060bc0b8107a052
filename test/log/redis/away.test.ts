import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { SluiceError } from '../../../src/core/errors.ts'
import type { StreamLog } from '../../../src/core/ports.ts'
import { newStreamId } from '../../../src/core/position.ts'
import { redisKeys } from '../../../src/log/redis/keys.ts'
import { eventually } from '../../support/client.ts'
import { done, start } from '../../support/logs.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import {
  type Eager,
  ended,
  found,
  newPrefix,
  owner,
  readEagerly,
  soonMs,
  storedOf,
  type TestStore,
  testStore,
  text,
  texts,
} from '../stores.ts'

async function twoReplicas({ url }: Redis) {
  const prefix = newPrefix()
  const near = await testStore({ prefix, url })
  const far = await testStore({ prefix, url })
  return { prefix, near, far, keys: redisKeys(prefix) }
}

/** A log of 1 + 10 + 10 events, with a reader on both replicas. */
async function beginWithReaders(near: TestStore, far: TestStore) {
  const log = near.store.create(newStreamId(), { owner: owner() })
  await log.append([start])
  await log.append(texts(10))
  await log.append(texts(10, 10))
  const there = await found(far.store, log.id)
  const [here, elsewhere] = [readEagerly(log), readEagerly(there)]
  await eventually(() => elsewhere.seen.length === 21, soonMs)
  return { log, there, here, elsewhere }
}

/** The owner goes on for those it has; who reads elsewhere is told that the rest is not there. */
async function expectApart(
  log: StreamLog,
  here: Eager,
  elsewhere: Eager,
  whileLive: () => Promise<unknown> = async () => {},
): Promise<void> {
  await log.append([text(20)])
  await eventually(() => elsewhere.failure, soonMs)
  expect(elsewhere.failure).toBeInstanceOf(SluiceError)
  expect(elsewhere.failure).toMatchObject({ code: 'resume_unavailable' })
  expect(elsewhere.seen).toEqual([start, ...texts(20)])
  await eventually(() => !log.shared, soonMs)
  expect(log.append([text(21)])).toBeUndefined()
  await whileLive()
  expect(log.append([done])).toBeUndefined()
  expect(here.seen).toEqual([start, ...texts(22), done])
  expect(here.failure).toBeUndefined()
}

describe('a Redis that dies', () => {
  it('gets what it lacks when it comes back with its data', async () => {
    await using redis = await startRedis({ appendonly: 'always' })
    const { prefix, near, far } = await twoReplicas(redis)
    const { log, there, here, elsewhere } = await beginWithReaders(near, far)
    await redis.kill()
    const diedAt = performance.now()
    await log.append([text(20)])
    for (let n = 21; n < 2_000; n++) await log.append([text(n)])
    expect(performance.now() - diedAt).toBeLessThan(2_000)
    expect(here.seen).toEqual([start, ...texts(2_000)])
    expect(log.shared).toBe(false)
    expect(elsewhere.seen).toHaveLength(21)
    expect(elsewhere.failure).toBeUndefined()

    // What only Redis can tell is refused for now, and in words that a client is told.
    const unavailable = { name: 'SluiceError', code: 'store_unavailable' }
    await expect(far.store.find(newStreamId())).rejects.toMatchObject(unavailable)
    await expect(far.store.find(log.id)).rejects.toMatchObject(unavailable)
    await expect(far.store.findLive('chat')).rejects.toMatchObject(unavailable)
    await expect(far.store.claim('key', { id: newStreamId(), fingerprint: 'f' })).rejects.toMatchObject(unavailable)
    expect((await near.store.find(log.id))?.id).toBe(log.id)

    const meanwhile = near.store.create(newStreamId(), { owner: owner() })
    await meanwhile.append([start])
    await meanwhile.append([text(1), done])
    await redis.start()
    await eventually(() => elsewhere.seen.length === 2_001, soonMs)
    expect(elsewhere.seen).toEqual(here.seen)
    // The owner has heard as much when it has heard this.
    await near.store.find(newStreamId())
    const appended = log.append([done])
    expect(appended).toBeInstanceOf(Promise)
    await appended
    expect((await ended(there)).type).toBe('done')
    expect(await storedOf(redis, prefix, log.id)).toEqual(here.seen)
    expect(await (await found(far.store, meanwhile.id)).history()).toEqual([start, text(1), done])
    expect([...near.adopted, ...far.adopted]).toEqual([])
  })

  it('and comes back empty is left by the streams it had', async () => {
    await using redis = await startRedis()
    const { near, far, keys } = await twoReplicas(redis)
    const { log, here, elsewhere } = await beginWithReaders(near, far)
    await redis.kill()
    await redis.start()
    await expectApart(log, here, elsewhere)
    expect(await far.store.find(newStreamId())).toBeUndefined()
    // New ones are there again, and replicas know of each other.
    const next = near.store.create(newStreamId(), { owner: owner() })
    await eventually(() => near.store.find(newStreamId()).then((log) => log === undefined), soonMs)
    await next.append([start])
    expect(await (await found(far.store, next.id)).history()).toEqual([start])
    await next.append([done])
    await eventually(async () => (await redis.command('SCARD', keys.replicas)) === 2, soonMs)
    expect(await redis.command('EXISTS', keys.meta(log.id), keys.log(log.id))).toBe(0)
    expect(await (await found(near.store, log.id)).history()).toEqual(here.seen)
  })
})

describe('a follower', () => {
  it.each(['caughtUp', 'stop'] as const)('that cannot ask Redis says so in words for clients: %s', async (what) => {
    await using redis = await startRedis()
    const { near, far } = await twoReplicas(redis)
    const { log, there } = await beginWithReaders(near, far)
    await redis.kill()
    await eventually(() => !there.shared, soonMs)
    await expect(there[what]()).rejects.toMatchObject({ name: 'SluiceError', code: 'store_unavailable' })
    await log.append([done])
  })
})

describe('a Redis that loses something', () => {
  let redis: Redis
  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(() => redis.close())

  it('all of it', async () => {
    const { near, far, keys } = await twoReplicas(redis)
    const { log, here, elsewhere } = await beginWithReaders(near, far)
    await redis.command('FLUSHALL')
    await expectApart(log, here, elsewhere)
    const next = near.store.create(newStreamId(), { owner: owner() })
    await next.append([start])
    await found(far.store, next.id)
    await next.append([done])
    expect(await redis.command('EXISTS', keys.meta(log.id), keys.log(log.id))).toBe(0)
  })

  it('the last of it, as at a failover', async () => {
    const { prefix, near, far, keys } = await twoReplicas(redis)
    const { log, here, elsewhere } = await beginWithReaders(near, far)
    await redis.command('XDEL', keys.log(log.id), '21-0')
    await redis.command('HSET', keys.meta(log.id), 'n', '11')
    await expectApart(log, here, elsewhere, () =>
      eventually(async () => (await redis.command('HGET', keys.meta(log.id), 'state')) === 'cut', soonMs),
    )
    // Never other events under numbers that somebody has seen.
    expect(await storedOf(redis, prefix, log.id)).toEqual([start, ...texts(10)])
    expect(await redis.command('PTTL', keys.meta(log.id))).toBeLessThanOrEqual(60_000)
    const [near2] = (await redis.command('HMGET', keys.meta(log.id), 'owner')) as string[]
    expect(await redis.command('SMEMBERS', keys.owned(near2 ?? ''))).toEqual([])
    const late = await testStore({ prefix, url: redis.url })
    const reader = readEagerly(await found(late.store, log.id))
    expect(reader.seen).toEqual([start, ...texts(10)])
    expect(reader.failure).toMatchObject({ code: 'resume_unavailable' })
    await expect((await found(late.store, log.id)).caughtUp()).rejects.toMatchObject({ code: 'resume_unavailable' })
  })

  it('the events, as by eviction', async () => {
    const { prefix, near, far, keys } = await twoReplicas(redis)
    const { log, elsewhere } = await beginWithReaders(near, far)
    await redis.command('DEL', keys.log(log.id))
    const late = await testStore({ prefix, url: redis.url })
    const finding = late.store.find(log.id)
    const outcome = await Promise.race([
      finding.then((found) => found?.caughtUp()).catch((error) => error),
      eventually(() => false, 3_000).catch(() => 'it never came to an answer'),
    ])
    expect(outcome).toMatchObject({ code: 'resume_unavailable' })
    expect(elsewhere.seen).toHaveLength(21)
    await log.append([done])
  })

  it('something in the middle, as by a trim', async () => {
    const { prefix, near, far, keys } = await twoReplicas(redis)
    const { log } = await beginWithReaders(near, far)
    await redis.command('XDEL', keys.log(log.id), '11-0')
    const late = await testStore({ prefix, url: redis.url })
    const reader = readEagerly(await found(late.store, log.id))
    expect(reader.failure).toMatchObject({ code: 'resume_unavailable' })
    expect(reader.seen).toEqual([start])
    await log.append([done])
  })

  it('what makes it readable', async () => {
    const { near, far, keys } = await twoReplicas(redis)
    const { log, here, elsewhere } = await beginWithReaders(near, far)
    onTestFinished(() => log.append([done]))
    await redis.command('XADD', keys.log(log.id), '22-0', 'e', 'not an event')
    await redis.command('HSET', keys.meta(log.id), 'n', '22')
    await eventually(() => elsewhere.failure, soonMs)
    expect(elsewhere.failure).toMatchObject({ name: 'SluiceError', code: 'internal' })
    expect(elsewhere.seen).toEqual(here.seen)
    expect(here.failure).toBeUndefined()
  })
})
