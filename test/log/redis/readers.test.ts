import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { Turns } from '../../../src/core/at-once.ts'
import { newStreamId } from '../../../src/core/position.ts'
import { memoryStore } from '../../../src/log/memory.ts'
import { FollowedLog } from '../../../src/log/redis/followed.ts'
import { OwnedLog } from '../../../src/log/redis/owned.ts'
import type { State } from '../../../src/log/redis/states.ts'
import { startChaos } from '../../support/chaos.ts'
import { eventually } from '../../support/client.ts'
import { done, nobody, start } from '../../support/logs.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { newPrefix, owner, readEagerly, soonMs, testCommands, testStore, text } from '../stores.ts'

let redis: Redis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.close())

const times = { retentionMs: 60_000, keyTtlMs: 60_000, lifeMs: 60_000 }
/** Says nothing for so long, and a replica has no readers, in milliseconds. */
const silent = 5_001

/** A log without the store around it, so that its clock is the test's. */
async function owned() {
  const commands = await testCommands(redis.url, newPrefix(), 'owner')
  const signals = owner()
  const id = newStreamId()
  const states: State[] = []
  const stored: string[] = []
  const memory = memoryStore({ ...times, maxBytes: 1e9 }).create(id, {
    owner: { ...owner(), onReaders: () => log.tellReaders() },
  })
  const log: OwnedLog = new OwnedLog(memory, commands, {
    ...times,
    facts: { id, principal: '', createdAt: memory.createdAt, key: '', alias: '' },
    epoch: 1,
    durable: true,
    turns: new Turns(1),
    onStateChange: (state) => void states.push(state),
    onStored: () => void stored.push(id),
  })
  log.own(signals)
  await log.append([start])
  return { log, counts: signals.counts, states, stored, commands }
}

describe('an owner', () => {
  it('counts the readers of all replicas, each as it last said', async () => {
    const { log, counts } = await owned()
    const now = performance.now()
    expect(log.onReadersElsewhere('b', 2, now)).toBe(true)
    expect(log.onReadersElsewhere('b', 2, now)).toBe(false)
    expect(log.onReadersElsewhere('c', 0, now)).toBe(false)
    expect(log.onReadersElsewhere('c', 1, now)).toBe(true)
    const cursor = log.cursor(nobody)
    log.onReadersElsewhere('b', 0, now)
    cursor.close()
    expect(counts).toEqual([2, 3, 4, 2, 1])
    // For the first time again: it needs the bell.
    expect(log.onReadersElsewhere('b', 1, now)).toBe(true)
    await log.append([done])
    log.onReadersElsewhere('b', 0, now)
    expect(counts).toEqual([2, 3, 4, 2, 1, 2])
  })

  it('takes those of a replica that has fallen silent for gone', async () => {
    const { log, counts, commands } = await owned()
    const now = performance.now() + silent
    log.onReadersElsewhere('b', 2, now)
    log.onReadersElsewhere('c', 1, now)
    log.expireReaders(now + silent - 100, true)
    expect(counts).toEqual([2, 3])
    log.onReadersElsewhere('c', 1, now + silent - 100)
    expect(commands.up).toBe(true)
    log.expireReaders(now + silent, true)
    expect(counts).toEqual([2, 3, 1])
    log.expireReaders(now + silent, true)
    expect(counts).toEqual([2, 3, 1])
  })

  it('waits for those it could not hear while Redis was away', async () => {
    const { log, counts } = await owned()
    const upAt = performance.now()
    // Last heard of long before Redis came back.
    log.onReadersElsewhere('b', 1, upAt - 60_000)
    log.expireReaders(upAt + 1_000, false)
    expect(counts).toEqual([1])
    log.expireReaders(upAt + silent, true)
    expect(counts).toEqual([1, 0])
  })

  it('counts readers that are about to come back through another replica', async () => {
    const { log, counts } = await owned()
    const cursor = log.cursor(nobody)
    log.expectReaders()
    cursor.close()
    expect(counts).toEqual([1, 2, 1])
    log.expireReaders(performance.now(), true)
    expect(counts).toEqual([1, 2, 1])
    log.onReadersElsewhere('b', 1, performance.now() + silent)
    log.expireReaders(performance.now() + silent, true)
    expect(counts).toEqual([1, 2, 1, 2, 1])
  })

  it('is done with a log that Redis has to its end', async () => {
    const { log, states, stored } = await owned()
    expect(log.isOver(performance.now())).toBe(false)
    await log.append([text(1), done])
    expect(stored).toEqual([log.id])
    expect(states).toEqual([])
    expect(log.isOver(performance.now())).toBe(true)
  })
})

describe('a follower', () => {
  async function followed() {
    const prefix = newPrefix()
    const near = await testStore({ prefix, url: redis.url })
    const log = near.store.create(newStreamId(), { owner: owner() })
    await log.append([start])
    onTestFinished(() => log.append([done]))
    const chaos = await startChaos(redis.port)
    onTestFinished(() => chaos.close())
    const commands = await testCommands(chaos.url, prefix, 'follower')
    const reading = await commands.read(log.id, 0)
    if (!reading) throw new Error('nothing to follow')
    return { log, chaos, commands, there: new FollowedLog(log.id, reading, commands) }
  }

  it('finds what no bell has told it of', async () => {
    const { log, there } = await followed()
    const reader = readEagerly(there)
    expect(reader.seen).toEqual([start])
    await log.append([text(1)])
    // It is no replica: its inbox is nobody's.
    expect(there.sweep(performance.now())).toBe(true)
    await eventually(() => reader.seen.length === 2, soonMs)
    expect(reader.seen).toEqual([start, text(1)])
  })

  it('is kept while somebody reads it, and a while longer', async () => {
    const { there } = await followed()
    const cursor = there.cursor(nobody)
    const later = performance.now() + 20_000
    expect(there.sweep(later)).toBe(true)
    cursor.close()
    expect(there.sweep(later + 4_000)).toBe(true)
    expect(there.sweep(later + 6_000)).toBe(false)
  })

  it('tells its readers when Redis stays away', async () => {
    const { chaos, commands, there } = await followed()
    const reader = readEagerly(there)
    await chaos.refuse(true)
    chaos.cutAll()
    await eventually(() => !commands.up, soonMs)
    there.sweep(performance.now() + 29_000)
    expect(reader.failure).toBeUndefined()
    there.sweep(performance.now() + 31_000)
    expect(reader.failure).toMatchObject({ name: 'SluiceError', code: 'store_unavailable' })
    expect(reader.seen).toEqual([start])
  })
})
