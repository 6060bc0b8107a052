import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { encodeEvent } from '../../../src/core/codec.ts'
import type { LogEvent } from '../../../src/core/events.ts'
import { newStreamId } from '../../../src/core/position.ts'
import type { RedisCommands, Takeover } from '../../../src/log/redis/commands.ts'
import { redisKeys } from '../../../src/log/redis/keys.ts'
import { type Chaos, startChaos } from '../../support/chaos.ts'
import { eventually } from '../../support/client.ts'
import { done, failed, start } from '../../support/logs.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import {
  ended,
  found,
  newPrefix,
  owner,
  readEagerly,
  soonMs,
  storedOf,
  testCommands,
  testStore,
  text,
  texts,
} from '../stores.ts'

let redis: Redis
let chaos: Chaos
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.close())

/** An owner behind a proxy, and another replica that is about to take its stream over. */
async function ownerAndHeir(durability: 'durable' | 'fast' = 'durable') {
  const prefix = newPrefix()
  chaos = await startChaos(redis.port)
  onTestFinished(() => chaos.close())
  const near = await testStore({ prefix, url: chaos.url, durability })
  const signals = owner()
  const log = near.store.create(newStreamId(), { owner: signals })
  await log.append([start])
  await log.append([text(0), text(1)])
  await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 3, soonMs)
  const heir = await testCommands(redis.url, prefix, 'heir')
  await heir.renewLease()
  return { prefix, near, log, signals, heir, reader: readEagerly(log) }
}

/** Takes it over, as if the owner's lease had run out. */
async function takeOver(prefix: string, heir: RedisCommands, id: string): Promise<Takeover> {
  const keys = redisKeys(prefix)
  const replica = String(await redis.command('HGET', keys.meta(id), 'owner'))
  // The owner lives and renews its lease meanwhile.
  return eventually(async () => {
    await redis.command('DEL', keys.lease(replica))
    return heir.takeOver(id, replica)
  }, soonMs)
}

/** What the new owner writes. */
async function append(heir: RedisCommands, { facts, epoch, n }: Takeover, events: readonly LogEvent[]): Promise<void> {
  const answer = await heir.append(facts, {
    epoch,
    first: n + 1,
    last: n + events.length,
    lines: events.map(encodeEvent).join('\n'),
    state: events.at(-1)?.type === 'error' ? 'error' : 'live',
    ttlMs: 60_000,
    plan: '',
    freesKey: false,
    followers: [],
  })
  expect(answer).toBe('ok')
}

describe('an owner whose stream was taken over', () => {
  it('stops, and its readers go on with what the new owner writes', async () => {
    const { prefix, near, log, signals, heir, reader } = await ownerAndHeir()
    const taken = await takeOver(prefix, heir, log.id)
    expect(taken).toMatchObject({ epoch: 2, n: 3, facts: { id: log.id, createdAt: log.createdAt } })
    await log.append([text(2)])
    expect(signals.onFenced).toHaveBeenCalledTimes(1)
    expect(log.shared).toBe(false)
    await log.append([text(3)])
    await log.append([done])
    expect(signals.onFenced).toHaveBeenCalledTimes(1)
    expect(reader.seen).toEqual([start, ...texts(2)])
    await append(heir, taken, [text(100), failed])
    const all = [start, ...texts(2), text(100), failed]
    await eventually(() => reader.seen.length === all.length, soonMs)
    expect(reader.seen).toEqual(all)
    expect(reader.failure).toBeUndefined()
    expect(await storedOf(redis, prefix, log.id)).toEqual(all)
    const there = await found(near.store, log.id)
    expect(await ended(there)).toEqual(failed)
    expect(await there.history()).toEqual(all)
    expect(near.adopted).toEqual([])
  })

  it('stops as well when it finds out at its end', async () => {
    const { prefix, log, signals, heir, reader } = await ownerAndHeir()
    const taken = await takeOver(prefix, heir, log.id)
    await append(heir, taken, [failed])
    await log.append([done])
    expect(signals.onFenced).toHaveBeenCalledTimes(1)
    const all = [start, ...texts(2), failed]
    await eventually(() => reader.seen.length === all.length, soonMs)
    expect(reader.seen).toEqual(all)
    expect(await storedOf(redis, prefix, log.id)).toEqual(all)
  })

  it.each([
    'durable',
    'fast',
  ] as const)('goes on alone when its readers have more than is stored: %s', async (durability) => {
    const { prefix, near, log, signals, heir, reader } = await ownerAndHeir(durability)
    await chaos.refuse(true)
    chaos.cutAll()
    await log.append([text(2)])
    await log.append([text(3)])
    const taken = await takeOver(prefix, heir, log.id)
    await append(heir, taken, [failed])
    await chaos.refuse(false)
    await eventually(
      () =>
        near.store
          .find(newStreamId())
          .then((none) => none === undefined)
          .catch(() => false),
      soonMs,
    )
    await log.append([text(4)])
    await eventually(() => !log.shared, soonMs)
    await log.append([done])
    expect(signals.onFenced).not.toHaveBeenCalled()
    expect(reader.seen).toEqual([start, ...texts(5), done])
    expect(reader.failure).toBeUndefined()
    const far = await testStore({ prefix, url: redis.url })
    const there = await found(far.store, log.id)
    expect(await ended(there)).toEqual(failed)
    expect(await storedOf(redis, prefix, log.id)).toEqual([start, ...texts(2), failed])
    expect(await (await found(near.store, log.id)).history()).toEqual(reader.seen)
  })

  it('tells its readers when the new one goes on from before what they have', async () => {
    const { prefix, log, signals, heir, reader } = await ownerAndHeir()
    await log.append([text(2)])
    // A failover to a copy that lacks the last batch, and a takeover there before the owner has written again.
    const keys = redisKeys(prefix)
    await redis.command('XDEL', keys.log(log.id), '4-0')
    await redis.command('XSETID', keys.log(log.id), '3-0')
    await redis.command('HSET', keys.meta(log.id), 'n', '3')
    const taken = await takeOver(prefix, heir, log.id)
    await append(heir, taken, [text(100), text(101), failed])
    await log.append([text(3)])
    expect(signals.onFenced).toHaveBeenCalledTimes(1)
    await eventually(() => reader.failure, soonMs)
    expect(reader.failure).toMatchObject({ code: 'resume_unavailable' })
    expect(reader.seen).toEqual([start, ...texts(3)])
  })
})
