import { afterAll, beforeAll, describe, it } from 'vitest'
import type { ErrorEvent, LogEvent } from '../../../src/core/events.ts'
import type { LogStore, StreamLog } from '../../../src/core/ports.ts'
import { newStreamId } from '../../../src/core/position.ts'
import { redisKeys } from '../../../src/log/redis/keys.ts'
import { endOrphan } from '../../../src/run/orphan.ts'
import { type Chaos, startChaos } from '../../support/chaos.ts'
import { eventually } from '../../support/client.ts'
import { done, start } from '../../support/logs.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { found, newPrefix, openRedisStore, owner, readEagerly, storedOf, type TestStore, texts } from '../stores.ts'

/** Leases last 5 s, and nobody is judged before Redis has been there for as long. */
const takenMs = 18_000

const redises: Redis[] = []
const proxies: Chaos[] = []
const stores: LogStore[] = []

async function newRedis(): Promise<Redis> {
  const redis = await startRedis({ appendonly: 'always' })
  redises.push(redis)
  return redis
}

async function newChaos({ port }: Redis): Promise<Chaos> {
  const chaos = await startChaos(port)
  proxies.push(chaos)
  return chaos
}

async function newReplica(url: string, prefix: string, adopt?: (log: StreamLog) => void): Promise<TestStore> {
  const replica = await openRedisStore({ url, prefix, ...(adopt && { adopt }) })
  stores.push(replica.store)
  return replica
}

const begin = {
  type: 'message_start',
  message: { usage: { input_tokens: 1, output_tokens: 1 } },
} as unknown as LogEvent

const nameOf = async (redis: Redis, prefix: string, id: string) =>
  String(await redis.command('HGET', redisKeys(prefix).meta(id), 'owner'))

/** What happens takes seconds of waiting, so all of it happens at once. */
describe.concurrent('replicas', { timeout: 60_000 }, () => {
  let shared: Redis
  beforeAll(async () => {
    shared = await newRedis()
  })
  afterAll(async () => {
    await Promise.all(stores.map((store) => store.close()))
    await Promise.all(proxies.map((chaos) => chaos.close()))
    await Promise.all(redises.map((redis) => redis.close()))
  })

  it('take over from one that has died: each stream once, whole, to one end', async ({ expect }) => {
    const prefix = newPrefix()
    const keys = redisKeys(prefix)
    const chaos = await newChaos(shared)
    const adopted: string[] = []
    const adopt = (log: StreamLog) => {
      adopted.push(log.id)
      void endOrphan(log, new Map())
    }
    const near = await newReplica(chaos.url, prefix)
    const far = await newReplica(shared.url, prefix, adopt)
    await newReplica(shared.url, prefix, adopt)
    const streams = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        const key = `key ${n}`
        const id = newStreamId()
        await near.store.claim(key, { id, fingerprint: 'print', alias: `chat ${n}` })
        const log = near.store.create(id, { owner: owner(), key, alias: `chat ${n}` })
        const events = n === 0 ? [start] : [start, begin, ...texts(n * 100)]
        for (let at = 0; at < events.length; at += 17) await log.append(events.slice(at, at + 17))
        // On a busy machine some of it may be late.
        await eventually(async () => (await storedOf(shared, prefix, id)).length === events.length, takenMs)
        return { log, key, events, alias: `chat ${n}` }
      }),
    )
    const unbegun = newStreamId()
    await near.store.claim('never begun', { id: unbegun, fingerprint: 'print' })
    const [first] = streams
    const reader = readEagerly(await found(far.store, first?.log.id ?? ''))
    const dead = await nameOf(shared, prefix, unbegun)
    await chaos.refuse(true)
    chaos.cutAll()
    await shared.command('DEL', keys.lease(dead))
    await eventually(() => adopted.length >= 21, takenMs)
    for (const { log, key, events, alias } of streams) {
      const there = await found(far.store, log.id)
      const end = await eventually(async () => {
        await there.caughtUp()
        return (await there.terminal()) as ErrorEvent | undefined
      }, takenMs)
      expect(end.error.code).toBe('replica_lost')
      expect(await there.history()).toEqual([...events, end])
      expect(there.createdAt).toEqual(log.createdAt)
      expect(await far.store.findLive(alias)).toBeUndefined()
      expect(end.partial).toBe(events.length > 1)
      // Where none of the answer had come, nothing was bought, and the key is free.
      const earlier = await far.store.claim(key, { id: newStreamId(), fingerprint: 'new' })
      expect(earlier?.id).toBe(events.length > 1 ? log.id : undefined)
    }
    expect(adopted.toSorted()).toEqual([...streams.map(({ log }) => log.id), unbegun].toSorted())
    expect(await far.store.claim('never begun', { id: newStreamId(), fingerprint: 'new' })).toBeUndefined()
    await eventually(() => reader.seen.length === (first?.events.length ?? 0) + 1, takenMs)
    expect(reader.failure).toBeUndefined()
    await eventually(async () => (await shared.command('SISMEMBER', keys.replicas, dead)) === 0, takenMs)
  })

  it('let each other come back after Redis was away and every lease has run out', async ({ expect }) => {
    const redis = await newRedis()
    const prefix = newPrefix()
    const keys = redisKeys(prefix)
    const chaos = await newChaos(redis)
    const near = await newReplica(chaos.url, prefix)
    const far = await newReplica(redis.url, prefix)
    const log = near.store.create(newStreamId(), { owner: owner() })
    await log.append([start])
    const reader = readEagerly(await found(far.store, log.id))
    await chaos.refuse(true)
    await redis.kill()
    await log.append(texts(10))
    await redis.start()
    await redis.command('DEL', keys.lease(await nameOf(redis, prefix, log.id)))
    await eventually(
      () =>
        far.store
          .find(newStreamId())
          .then((none) => none === undefined)
          .catch(() => false),
      takenMs,
    )
    // The other is back in time, but not before this one has looked around.
    const backAt = performance.now()
    await eventually(() => performance.now() - backAt > 3_000, takenMs)
    await chaos.refuse(false)
    await eventually(() => reader.seen.length === 11, takenMs)
    await eventually(() => performance.now() - backAt > 6_500, takenMs)
    expect([...near.adopted, ...far.adopted]).toEqual([])
    await log.append([done])
    await eventually(() => reader.seen.length === 12, takenMs)
  })

  it('find what a claim began whose word got lost, and free its key', async ({ expect }) => {
    const prefix = newPrefix()
    const chaos = await newChaos(shared)
    const near = await newReplica(chaos.url, prefix, (log) => void endOrphan(log, new Map()))
    // By now Redis knows the script: the reply that gets lost is not that it does not.
    const another = { id: newStreamId(), fingerprint: 'print' }
    await eventually(
      () =>
        near.store.claim('another key', another).then(
          () => true,
          () => false,
        ),
      takenMs,
    )
    const lost = newStreamId()
    chaos.cutAfterReply({ when: (request) => request.includes(lost) })
    const options = { id: lost, fingerprint: 'print' }
    await expect(near.store.claim('key', options)).rejects.toMatchObject({ code: 'store_unavailable' })
    const again = { id: newStreamId(), fingerprint: 'print' }
    const earlier = await eventually(() => near.store.claim('key', again).catch(() => undefined), takenMs)
    expect(earlier).toEqual(options)
    const reader = readEagerly(await found(near.store, lost))
    await eventually(() => reader.seen.length === 1, takenMs)
    expect(reader.seen).toMatchObject([{ type: 'error', error: { code: 'replica_lost' }, partial: false }])
    expect(await near.store.claim('key', again)).toBeUndefined()
  })
})
