import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { encodeEvent } from '../../../src/core/codec.ts'
import { newStreamId } from '../../../src/core/position.ts'
import { leaseMs, type RedisCommands, type StreamFacts } from '../../../src/log/redis/commands.ts'
import { redisKeys } from '../../../src/log/redis/keys.ts'
import { PlanRoom } from '../../../src/log/redis/plans.ts'
import { Reaper } from '../../../src/log/redis/reaper.ts'
import { startChaos } from '../../support/chaos.ts'
import { eventually } from '../../support/client.ts'
import { done, start } from '../../support/logs.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { newPrefix, owner, readEagerly, soonMs, storedOf, testCommands, testStore, text } from '../stores.ts'

const mebibyte = 1024 * 1024

let redis: Redis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.close())

async function replica(durability: 'durable' | 'fast' = 'durable') {
  const prefix = newPrefix()
  const chaos = await startChaos(redis.port)
  onTestFinished(() => chaos.close())
  const { store } = await testStore({ prefix, url: chaos.url, durability })
  const keys = redisKeys(prefix)
  return {
    prefix,
    chaos,
    keys,
    store,
    planOf: (id: string) => redis.command('GET', keys.plan(id)),
    create: (plan: string | undefined, id = newStreamId()) =>
      store.create(id, { owner: owner(), plan: plan === undefined ? undefined : () => plan }),
  }
}

/** Not in the state that keeps everything else waiting, whatever becomes of the test. */
function fillRedis(full: boolean): Promise<unknown> {
  return redis.command('CONFIG', 'SET', 'maxmemory', full ? '1' : '0')
}

describe('the plan of a run', () => {
  const durability = 'durable'

  it('is there with its first events and gone with its last', async () => {
    const { prefix, keys, create, planOf } = await replica(durability)
    const log = create('{"model":"x","text":"ü😀"}')
    await log.append([start])
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 1, soonMs)
    expect(await planOf(log.id)).toBe('{"model":"x","text":"ü😀"}')
    const [meta, plan] = await Promise.all(
      [keys.meta(log.id), keys.plan(log.id)].map((key) => redis.command('PTTL', key)),
    )
    expect(plan).toBeGreaterThan(60_000)
    expect(Math.abs(Number(plan) - Number(meta))).toBeLessThan(1_000)
    await log.append([text(0)])
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 2, soonMs)
    expect(await planOf(log.id)).toBe('{"model":"x","text":"ü😀"}')
    await log.append([text(1), done])
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 4, soonMs)
    expect(await planOf(log.id)).toBeNull()
  })

  it('leaves nothing behind when its first events are its last', async () => {
    const { prefix, create, planOf } = await replica(durability)
    const log = create('plan')
    await log.append([start, done])
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 2, soonMs)
    expect(await planOf(log.id)).toBeNull()
  })

  it('comes to a Redis that was away as late as its log does', async () => {
    const { prefix, chaos, create, planOf } = await replica(durability)
    const before = create(undefined)
    const log = create('plan')
    await before.append([start])
    await chaos.refuse(true)
    chaos.cutAll()
    await eventually(() => !before.shared, soonMs)
    await log.append([start])
    await log.append([text(0)])
    await chaos.refuse(false)
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 2, soonMs)
    expect(await planOf(log.id)).toBe('plan')
    await Promise.all([before, log].map((each) => each.append([done])))
  })

  it('comes with a claim, and with a batch whose reply got lost', async () => {
    const { prefix, chaos, store, create, planOf } = await replica(durability)
    const known = create(undefined)
    await known.append([start, done])
    await eventually(async () => (await storedOf(redis, prefix, known.id)).length === 2, soonMs)
    const id = newStreamId()
    expect(await store.claim('key', { id, fingerprint: 'print' })).toBeUndefined()
    chaos.cutAfterReply({ when: (request) => request.includes('the plan') })
    const log = store.create(id, { owner: owner(), key: 'key', plan: () => 'the plan' })
    await log.append([start])
    await log.append([text(0)])
    await eventually(async () => (await storedOf(redis, prefix, id)).length === 2, soonMs)
    expect(chaos.lost).toBe(1)
    expect(await planOf(id)).toBe('the plan')
    await log.append([done])
  })
})

it('is not kept where readers may be ahead of Redis', async () => {
  const { prefix, create, planOf } = await replica('fast')
  const log = create('plan')
  await log.append([start])
  await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 1, soonMs)
  expect(await planOf(log.id)).toBeNull()
  await log.append([done])
})

describe('a plan that Redis cannot take', () => {
  it('is sent once: its log gets through without it', async () => {
    const { prefix, create, planOf, store } = await replica('durable')
    onTestFinished(() => void fillRedis(false))
    await eventually(() => store.find(newStreamId()).then(() => true), soonMs)
    await fillRedis(true)
    const log = create('plan')
    const reader = readEagerly(log)
    await log.append([start])
    // By then it has been refused.
    await store.find(newStreamId())
    await fillRedis(false)
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 1, soonMs)
    expect(await planOf(log.id)).toBeNull()
    await log.append([done])
    expect(reader.seen).toEqual([start, done])
  })

  it('by its size is not sent, and its log is', async () => {
    const { prefix, create, planOf } = await replica()
    const [small, large] = [create('x'.repeat(8 * mebibyte)), create('x'.repeat(8 * mebibyte + 1))]
    for (const log of [small, large]) {
      await log.append([start])
      expect(await storedOf(redis, prefix, log.id)).toEqual([start])
    }
    expect(String(await planOf(small.id))).toHaveLength(8 * mebibyte)
    expect(await planOf(large.id)).toBeNull()
    for (const log of [small, large]) await log.append([done])
  })

  it('is one beyond what all live streams of a replica may take up', () => {
    const room = new PlanRoom()
    const full = 'é'.repeat(4 * mebibyte)
    const live = new Set(Array.from({ length: 8 }, newStreamId))
    for (const id of live) expect(room.admit(id, () => full)).toBe(full)
    expect(room.admit('more', () => 'x')).toBe('')
    room.sweep((id) => live.has(id))
    expect(room.admit('more', () => 'x')).toBe('')
    const [gone = ''] = live
    live.delete(gone)
    room.sweep((id) => live.has(id))
    expect(room.admit('more', () => 'x')).toBe('x')
    // Not even alone.
    expect(new PlanRoom().admit('one', () => `${full}x`)).toBe('')
  })
})

describe('a takeover', () => {
  const factsOf = (id: string): StreamFacts => ({ id, principal: '', createdAt: new Date(), key: '', alias: '' })

  function send(commands: RedisCommands, facts: StreamFacts, epoch: number, first: number, options: object = {}) {
    const batch = { lines: encodeEvent(text(first)), state: 'live', ttlMs: 60_000, freesKey: false, followers: [] }
    return commands.append(facts, { epoch, first, last: first, plan: '', ...batch, ...options })
  }

  async function replicas() {
    const prefix = newPrefix()
    const names = ['dead', 'first', 'second'] as const
    const [dead, first, second] = await Promise.all(names.map((name) => testCommands(redis.url, prefix, name)))
    if (!dead || !first || !second) throw new Error('no replicas')
    return { prefix, keys: redisKeys(prefix), dead, first, second }
  }

  it('hands the plan to one replica after the other, and each keeps all of it for another run', async () => {
    const { keys, dead, first, second } = await replicas()
    const facts = { ...factsOf(newStreamId()), alias: keys.alias('chat') }
    const { id } = facts
    const taken = vi.fn()
    await redis.command('SADD', keys.replicas, 'dead', 'first', 'second')
    const reaperOf = (commands: RedisCommands, isAtWork: boolean) =>
      new Reaper(commands, {
        mayTakeOver: () => true,
        isAtWork: () => isAtWork,
        onTakenOver: ({ epoch, n }, history, plan) => taken(epoch, n, history.length, plan),
        onTorn: () => taken('torn'),
      }).look(performance.now() + leaseMs)
    const shared = [keys.meta(id), keys.log(id), keys.plan(id), keys.alias('chat')]
    const shortenLives = () => Promise.all(shared.map((key) => redis.command('PEXPIRE', key, '30000')))
    const lives = async () => (await Promise.all(shared.map((key) => redis.command('PTTL', key)))).map(Number)

    expect(await send(dead, facts, 1, 1, { plan: 'the plan' })).toBe('ok')
    expect(await send(dead, facts, 1, 2)).toBe('ok')
    await first.renewLease()
    await reaperOf(first, true)
    expect(taken.mock.calls).toEqual([[2, 2, 2, 'the plan']])
    await shortenLives()
    expect(await send(first, facts, 2, 3)).toBe('ok')
    for (const life of await lives()) expect(life).toBeGreaterThan(30_000)
    await shortenLives()
    expect(await send(first, facts, 2, 4)).toBe('ok')
    for (const life of await lives()) expect(life).toBeLessThanOrEqual(30_000)

    await first.giveUpLease()
    await reaperOf(second, false)
    expect(taken.mock.calls.slice(1)).toEqual([[3, 4, 4, 'the plan']])
    // Whoever wakes up late changes nothing, not even the plan.
    const standing = { epoch: 3, n: 4, state: 'live' }
    expect(await send(dead, facts, 1, 3, { plan: 'another', state: 'done' })).toEqual(standing)
    expect(await send(first, facts, 2, 5, { plan: 'another', state: 'done' })).toEqual(standing)
    expect(await second.planOf(id)).toBe('the plan')
    expect(await send(second, facts, 3, 5, { state: 'done' })).toBe('ok')
    expect(await second.planOf(id)).toBeUndefined()
    expect(await redis.command('EXISTS', keys.alias('chat'))).toBe(0)
  })

  it('has no plan where Redis was away meanwhile: readers of the dead owner may have had more', async () => {
    const { keys, dead, first } = await replicas()
    await redis.command('SADD', keys.replicas, 'dead', 'first')
    const before = { ...factsOf(newStreamId()), createdAt: new Date(Date.now() - 1_000) }
    const after = factsOf(newStreamId())
    await send(dead, before, 1, 1, { plan: 'the plan' })
    await send(dead, after, 1, 1, { plan: 'the plan' })
    vi.spyOn(first, 'wasAwaySince').mockImplementation((time) => time.getTime() === before.createdAt.getTime())
    const plans = new Map<string, string | undefined>()
    await new Reaper(first, {
      mayTakeOver: () => true,
      isAtWork: () => true,
      onTakenOver: ({ facts }, _, plan) => void plans.set(facts.id, plan),
      onTorn: () => {},
    }).look(performance.now() + leaseMs)
    expect(plans).toEqual(
      new Map([
        [before.id, undefined],
        [after.id, 'the plan'],
      ]),
    )
  })

  it('does without a plan where there is none', async () => {
    const { dead, first } = await replicas()
    const facts = factsOf(newStreamId())
    await send(dead, facts, 1, 1)
    expect(await first.takeOver(facts.id, 'dead')).toMatchObject({ epoch: 2 })
    expect(await first.planOf(facts.id)).toBeUndefined()
  })

  it('is of no use after what is stored has been given up', async () => {
    const { dead } = await replicas()
    const facts = factsOf(newStreamId())
    await send(dead, facts, 1, 1, { plan: 'the plan' })
    await dead.cut(facts.id, 1, 60_000)
    expect(await dead.planOf(facts.id)).toBeUndefined()
  })
})
