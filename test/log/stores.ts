import { type Mock, onTestFinished, vi } from 'vitest'
import { decodeEvent } from '../../src/core/codec.ts'
import { Delta } from '../../src/core/delta.ts'
import type { CancelledEvent, LogEvent, TerminalEvent } from '../../src/core/events.ts'
import type { Cursor, LogStore, OwnerSignals, StreamLog } from '../../src/core/ports.ts'
import { Sweep } from '../../src/core/sweep.ts'
import { memoryStore } from '../../src/log/memory.ts'
import { RedisCommands } from '../../src/log/redis/commands.ts'
import { redisKeys } from '../../src/log/redis/keys.ts'
import type { RedisStoreOptions } from '../../src/log/redis/options.ts'
import { logScripts } from '../../src/log/redis/scripts.ts'
import { redisStore } from '../../src/log/redis/store.ts'
import { RedisLink } from '../../src/redis/link.ts'
import { eventually } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'

export const text = (n: number): LogEvent => new Delta('text', 0, String(n))

/** Text events that number themselves, the first of them `from`. */
export const texts = (count: number, from = 0): LogEvent[] => Array.from({ length: count }, (_, n) => text(from + n))

export const stopped: CancelledEvent = { type: 'cancelled', by: 'stop', usage: { input_tokens: 0, output_tokens: 0 } }

/** A run as far as its log knows it: what it has heard. */
export interface Owner extends OwnerSignals {
  readonly counts: number[]
  readonly onStop: Mock<() => Promise<void>>
  readonly onDecision: Mock<OwnerSignals['onDecision']>
  readonly onFenced: Mock<() => void>
}

export function owner(onStop: () => void | Promise<void> = () => {}): Owner {
  const counts: number[] = []
  return {
    counts,
    onReaders: (count) => void counts.push(count),
    onStop: vi.fn(async () => onStop()),
    onDecision: vi.fn(async () => true),
    onFenced: vi.fn(),
  }
}

export function readAll(cursor: Cursor, limit = 512): LogEvent[] {
  const events: LogEvent[] = []
  for (let next = cursor.next(limit); next.length > 0; next = cursor.next(limit)) events.push(...next)
  return events
}

/** A reader that takes everything as soon as it can. */
export interface Eager {
  readonly seen: LogEvent[]
  /** What the log threw, if it did. */
  readonly failure: unknown
  close(): void
}

export function readEagerly(log: StreamLog): Eager {
  const seen: LogEvent[] = []
  let failure: unknown
  const take = () => {
    try {
      for (let next = cursor.next(512); next.length > 0; next = cursor.next(512)) seen.push(...next)
    } catch (error) {
      failure = error
    }
  }
  const cursor = log.cursor({ wake: take })
  take()
  return {
    seen,
    get failure() {
      return failure
    },
    close: () => cursor.close(),
  }
}

/** For what happens on another replica, on a machine that has other things to do, in milliseconds. */
export const soonMs = 8_000

/** Waits until the store can find it. */
export async function found(store: LogStore, id: string): Promise<StreamLog> {
  return eventually(() => store.find(id), soonMs)
}

/** Waits for the end, which a log of another replica that has no readers here must be asked for. */
export async function ended(log: StreamLog): Promise<TerminalEvent> {
  return eventually(async () => {
    await log.caughtUp()
    return log.terminal()
  }, soonMs)
}

export interface TestStore {
  readonly store: LogStore
  readonly adopted: StreamLog[]
  readonly warnings: string[]
}

let prefixes = 0

/** Of names in Redis that no other test uses. */
export const newPrefix = (): string => `test-${process.pid}-${++prefixes}`

export type StoreSettings = Partial<RedisStoreOptions> & { readonly url: string }

/** The caller closes it. */
export async function openRedisStore({ url, ...settings }: StoreSettings): Promise<TestStore> {
  const adopted: StreamLog[] = []
  const warnings: string[] = []
  const log = { info() {}, warn: (fields: object) => void warnings.push(JSON.stringify(fields)) }
  const store = await redisStore({
    prefix: newPrefix(),
    durability: 'durable',
    retentionMs: 60_000,
    keyTtlMs: 60_000,
    maxBytes: 1e9,
    maxLifeMs: 60_000,
    link: new RedisLink({ url, timeoutMs: 1_000, scripts: logScripts, sweep: new Sweep(), log }),
    log,
    mayTakeOver: () => true,
    adopt: (log) => void adopted.push(log),
    ...settings,
  })
  return { store, adopted, warnings }
}

/** Closes at the end of the test. */
export async function testStore(settings: StoreSettings): Promise<TestStore> {
  const opened = await openRedisStore(settings)
  onTestFinished(() => opened.store.close())
  return opened
}

/** Redis as a replica of that name sees it, without a store. */
export async function testCommands(url: string, prefix: string, replica: string): Promise<RedisCommands> {
  const link = new RedisLink({
    url,
    timeoutMs: 2_000,
    scripts: logScripts,
    sweep: new Sweep(),
    log: { info() {}, warn() {} },
  })
  onTestFinished(() => link.close())
  await eventually(() => link.upSince !== undefined, 5_000)
  return new RedisCommands(replica, prefix, link)
}

export interface Times {
  readonly retentionMs: number
  readonly keyTtlMs: number
}

/** Where streams are written and where they are read: the same store, or two replicas of one Redis. */
export interface Replicas {
  readonly writer: LogStore
  readonly reader: LogStore
}

export interface Place {
  readonly name: string
  readonly elsewhere: boolean
  /** As many as a test of properties has time for here. */
  readonly trials: number
  open(times: Times): Promise<Replicas>
}

/** Every way to have a store, for what is the same in all of them. The caller closes them. */
export function storePlaces(): { readonly places: readonly Place[]; close(): Promise<void> } {
  let redis: Promise<Redis> | undefined
  const stores: LogStore[] = []

  async function inRedis(times: Times, durability: 'durable' | 'fast', prefix = newPrefix()): Promise<LogStore> {
    redis ??= startRedis()
    const { store } = await openRedisStore({ ...times, durability, prefix, url: (await redis).url })
    stores.push(store)
    return store
  }

  const alone = (store: LogStore): Replicas => ({ writer: store, reader: store })
  const places: Place[] = [
    {
      name: 'in memory',
      elsewhere: false,
      trials: 60,
      async open(times) {
        const store = memoryStore({ ...times, maxBytes: 1e9 })
        stores.push(store)
        return alone(store)
      },
    },
    {
      name: 'in Redis, durable',
      elsewhere: false,
      trials: 25,
      open: async (times) => alone(await inRedis(times, 'durable')),
    },
    {
      name: 'in Redis, fast',
      elsewhere: false,
      trials: 25,
      open: async (times) => alone(await inRedis(times, 'fast')),
    },
    {
      name: 'in Redis, on another replica',
      elsewhere: true,
      trials: 20,
      async open(times) {
        const prefix = newPrefix()
        return { writer: await inRedis(times, 'durable', prefix), reader: await inRedis(times, 'durable', prefix) }
      },
    },
  ]
  return {
    places,
    async close() {
      await Promise.all(stores.map((store) => store.close()))
      await (await redis)?.close()
    },
  }
}

/** What Redis holds of a log, entry by entry. */
export async function entriesOf(redis: Redis, prefix: string, id: string): Promise<{ id: string; lines: string[] }[]> {
  const entries = (await redis.command('XRANGE', redisKeys(prefix).log(id), '-', '+')) as [string, [string, string]][]
  return entries.map(([entry, [, lines]]) => ({ id: entry, lines: lines.split('\n') }))
}

/** All events that Redis holds of a log, each where its number says: it throws where there is a gap or a repetition. */
export async function storedOf(redis: Redis, prefix: string, id: string): Promise<LogEvent[]> {
  const events: LogEvent[] = []
  for (const entry of await entriesOf(redis, prefix, id)) {
    events.push(...entry.lines.map(decodeEvent))
    if (entry.id !== `${events.length}-0`) throw new Error(`entry ${entry.id} ends with event ${events.length}`)
  }
  return events
}
