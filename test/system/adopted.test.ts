import { afterAll, beforeAll, describe, it } from 'vitest'
import type { LogStore, OrphanLog, OwnerSignals } from '../../src/core/ports.ts'
import { newStreamId } from '../../src/core/position.ts'
import { redisKeys } from '../../src/log/redis/keys.ts'
import type { RedisStoreOptions } from '../../src/log/redis/options.ts'
import { ended, found, newPrefix, openRedisStore, readEagerly, stopped, storedOf, text, texts } from '../log/stores.ts'
import { type Chaos, startChaos } from '../support/chaos.ts'
import { eventually } from '../support/client.ts'
import { done, failed, start } from '../support/logs.ts'
import { type Redis, startRedis } from '../support/redis.ts'

/** Nobody is judged before Redis has been there for as long as a lease lasts, 5 s. */
const takenMs = 18_000

interface Replica {
  readonly store: LogStore
  readonly chaos: Chaos
  /** What it has been given, by stream. */
  readonly orphans: Map<string, { readonly log: OrphanLog; readonly plan: string | undefined }>
  /** Has Redis take it for dead, which it does not notice. */
  die(): Promise<void>
}

/** A run as far as its log knows it. Vitest forgets what its own mocks have heard whenever another test begins. */
class HeardRun implements OwnerSignals {
  readonly counts: number[] = []
  stops = 0
  fenced = 0
  readonly #end: () => void | Promise<void>

  /** @param end what it does when it is stopped for the first time */
  constructor(end: () => void | Promise<void> = () => {}) {
    this.#end = end
  }

  onReaders(count: number): void {
    this.counts.push(count)
  }

  async onStop(): Promise<void> {
    if (this.stops++ === 0) await this.#end()
  }

  async onDecision(): Promise<boolean> {
    return false
  }

  onFenced(): void {
    this.fenced++
  }
}

/** What happens takes seconds of waiting, so all of it happens at once. */
describe.concurrent.for(['durable', 'fast'] as const)('a log that outlives its replica, %s', {
  timeout: 60_000,
}, (durability) => {
  const planThere = durability === 'durable' ? 'the plan' : undefined

  let redis: Redis
  const toClose: { close(): Promise<void> }[] = []
  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(async () => {
    for (const each of toClose) await each.close()
    await redis.close()
  })

  async function newReplica(prefix: string, settings: Partial<RedisStoreOptions> = {}): Promise<Replica> {
    const chaos = await startChaos(redis.port)
    const orphans: Replica['orphans'] = new Map()
    const keys = redisKeys(prefix)
    const before = new Set((await redis.command('SMEMBERS', keys.replicas)) as string[])
    const { store } = await openRedisStore({
      prefix,
      durability,
      url: chaos.url,
      mayTakeOver: () => true,
      adopt: (log, plan) => void orphans.set(log.id, { log, plan }),
      ...settings,
    })
    toClose.push(store, chaos)
    const name = await eventually(async () => {
      const now = (await redis.command('SMEMBERS', keys.replicas)) as string[]
      return now.find((each) => !before.has(each))
    }, takenMs)
    return {
      store,
      chaos,
      orphans,
      async die() {
        await chaos.refuse(true)
        chaos.cutAll()
        await redis.command('DEL', keys.lease(name))
      },
    }
  }

  /** A log of 1 + 10 events with a plan, all of it stored. */
  async function begin(prefix: string, { store }: Replica) {
    const run = new HeardRun()
    const log = store.create(newStreamId(), { owner: run, principal: 'alice', plan: () => 'the plan' })
    await log.append([start])
    await log.append(texts(10))
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 11, takenMs)
    return { log, run }
  }

  it('outlives the next one too', async ({ expect }) => {
    const prefix = newPrefix()
    const [near, second] = [await newReplica(prefix), await newReplica(prefix)]
    const { log } = await begin(prefix, near)
    await near.die()
    const adopted = await eventually(() => second.orphans.get(log.id)?.log, takenMs)
    const run = new HeardRun()
    adopted.own(run)
    await adopted.append(texts(5, 10))
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === 16, takenMs)
    const last = await newReplica(prefix)
    await second.die()
    const { log: again, plan } = await eventually(() => last.orphans.get(log.id), takenMs)
    expect(plan).toBe(planThere)
    expect([adopted.principal, again.principal]).toEqual(['alice', 'alice'])
    again.own(new HeardRun())
    await again.append(texts(5, 15))
    await again.append([done])
    const all = [start, ...texts(20), done]
    expect(await again.history()).toEqual(all)
    await eventually(async () => (await storedOf(redis, prefix, log.id)).length === all.length, takenMs)
    await second.chaos.refuse(false)
    await eventually(() => adopted.shared, takenMs)
    await adopted.append([text(-1)])
    await eventually(() => !adopted.shared, takenMs)
    if (durability === 'durable') expect(run.fenced).toBe(1)
    expect(await storedOf(redis, prefix, log.id)).toEqual(all)
  })

  it('is written on by another one, as long as it takes, for readers everywhere', async ({ expect }) => {
    const prefix = newPrefix()
    const [near, heir, third] = [await newReplica(prefix), await newReplica(prefix), await newReplica(prefix)]
    const { log, run: former } = await begin(prefix, near)
    const readers = [
      readEagerly(log),
      readEagerly(await found(heir.store, log.id)),
      readEagerly(await found(third.store, log.id)),
    ]
    await near.die()
    const [adopter, orphan] = await eventually(
      () => [heir, third].map((each) => [each, each.orphans.get(log.id)] as const).find(([, taken]) => taken),
      takenMs,
    )
    if (!orphan) throw new Error('nobody took it over')
    expect(orphan.plan).toBe(planThere)
    expect(orphan.log.createdAt).toEqual(log.createdAt)
    expect(await orphan.log.history()).toEqual([start, ...texts(10)])
    expect(await found(adopter.store, log.id)).toBe(orphan.log)

    const run = new HeardRun()
    orphan.log.own(run)
    // Those at its own replica as well as those at the other.
    await eventually(() => run.counts.at(-1) === 2, takenMs)
    const late = readEagerly(orphan.log)
    expect(run.counts.at(-1)).toBe(3)
    for (let n = 10; n < 1_000; n += 5) await orphan.log.append(texts(5, n))
    const all = [start, ...texts(1_000)]
    expect(late.seen).toEqual(all)
    await eventually(() => readers.slice(1).every(({ seen }) => seen.length === all.length), takenMs)
    expect(await storedOf(redis, prefix, log.id)).toEqual(all)
    // A word, then another, each as it comes.
    for (let n = 1_000; n < 1_003; n++) {
      await orphan.log.append([text(n)])
      await eventually(() => readers.slice(1).every(({ seen }) => seen.length === n + 2), takenMs)
    }
    late.close()
    expect(run.counts.at(-1)).toBe(2)

    // The first owner wakes up, and finds that it is none.
    await near.chaos.refuse(false)
    await eventually(() => log.shared, takenMs)
    await log.append([text(-1)])
    await eventually(() => !log.shared, takenMs)
    // Unless its readers have had more at once, which is theirs then.
    if (durability === 'durable') expect(former.fenced).toBe(1)
    await log.append([failed])
    await orphan.log.append([text(1_003)])
    await orphan.log.append([done])
    const whole = [start, ...texts(1_004), done]
    const following = durability === 'durable' ? readers : readers.slice(1)
    await eventually(() => following.every(({ seen }) => seen.length === whole.length), takenMs)
    for (const { seen, failure } of following) {
      expect(seen).toEqual(whole)
      expect(failure).toBeUndefined()
    }
    expect(await storedOf(redis, prefix, log.id)).toEqual(whole)
    expect(await redis.command('EXISTS', redisKeys(prefix).plan(log.id))).toBe(0)
    expect(run.fenced).toBe(0)
    expect([...heir.orphans.keys(), ...third.orphans.keys()]).toEqual([log.id])
  })

  it('has what came before its new run told to that', async ({ expect }) => {
    const prefix = newPrefix()
    const [near, heir] = [await newReplica(prefix), await newReplica(prefix)]
    const logs = await Promise.all(Array.from({ length: 3 }, () => begin(prefix, near)))
    await near.die()
    const [stopping, read, unowned] = await eventually(
      () => heir.orphans.size === 3 && logs.map(({ log }) => heir.orphans.get(log.id)?.log),
      takenMs,
    )
    if (!stopping || !read || !unowned) throw new Error('not all of them were taken over')

    const third = await newReplica(prefix)
    readEagerly(read)
    readEagerly(read)
    const reader = new HeardRun()
    read.own(reader)
    expect(reader.counts).toEqual([2])

    const stops = [stopping.stop(), (await found(third.store, stopping.id)).stop()]
    const stopper = new HeardRun(() => stopping.append([stopped]))
    stopping.own(stopper)
    await Promise.all(stops)
    expect(stopper.stops).toBeGreaterThan(0)
    expect(await ended(stopping)).toEqual(stopped)

    // Brought to its end by nobody in particular.
    const stop = unowned.stop()
    await unowned.append([failed])
    await stop
    await unowned.stop()
    await read.append([done])
  })
})
