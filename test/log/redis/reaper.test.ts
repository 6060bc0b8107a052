import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { encodeEvent } from '../../../src/core/codec.ts'
import { isTerminal, type LogEvent } from '../../../src/core/events.ts'
import { newStreamId } from '../../../src/core/position.ts'
import { leaseMs, type RedisCommands, type StreamFacts, type Takeover } from '../../../src/log/redis/commands.ts'
import { redisKeys } from '../../../src/log/redis/keys.ts'
import { Reaper } from '../../../src/log/redis/reaper.ts'
import { StoreAway } from '../../../src/redis/link.ts'
import { eventually } from '../../support/client.ts'
import { done, failed, start } from '../../support/logs.ts'
import { seeded } from '../../support/random.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { newPrefix, storedOf, testCommands, text, texts } from '../stores.ts'

let redis: Redis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.close())

const factsOf = (id: string): StreamFacts => ({ id, principal: '', createdAt: new Date(), key: '', alias: '' })

/** Sends a batch as the owner of that epoch would: again, when no word of it came in time. */
async function send(commands: RedisCommands, id: string, epoch: number, first: number, events: readonly LogEvent[]) {
  for (;;) {
    try {
      return await sendOnce(commands, id, epoch, first, events)
    } catch (error) {
      if (!(error instanceof StoreAway)) throw error
    }
  }
}

function sendOnce(commands: RedisCommands, id: string, epoch: number, first: number, events: readonly LogEvent[]) {
  const end = events.at(-1)
  return commands.append(factsOf(id), {
    epoch,
    first,
    last: first + events.length - 1,
    lines: events.map(encodeEvent).join('\n'),
    state: end && isTerminal(end) ? end.type : 'live',
    ttlMs: 60_000,
    plan: '',
    freesKey: false,
    followers: [],
  })
}

async function twoReplicas(isAtWork = (_: string) => false, mayTakeOver = () => true) {
  const prefix = newPrefix()
  const dead = await testCommands(redis.url, prefix, 'dead')
  const living = await testCommands(redis.url, prefix, 'living')
  const taken: { readonly taken: Takeover; readonly history: readonly LogEvent[] }[] = []
  const onTorn = vi.fn()
  const reaper = new Reaper(living, {
    mayTakeOver,
    isAtWork,
    onTakenOver: (takeover, history) => void taken.push({ taken: takeover, history }),
    onTorn,
  })
  await redis.command('SADD', redisKeys(prefix).replicas, 'dead', 'living')
  /** A look at a time when Redis has been there for long enough. */
  const look = () => reaper.look(performance.now() + leaseMs)
  return { prefix, keys: redisKeys(prefix), dead, living, reaper, look, taken, onTorn }
}

describe('the reaper', () => {
  it('takes over what a dead replica had, with all there is of it, and forgets the replica', async () => {
    const { dead, look, taken, onTorn, living, keys } = await twoReplicas()
    const ids = Array.from({ length: 70 }, newStreamId)
    const histories = new Map(ids.map((id, n) => [id, [start, ...texts(n * 2)]]))
    for (const [id, history] of histories) {
      await Promise.all(history.map((event, at) => send(dead, id, 1, at + 1, [event])))
    }
    await look()
    expect(new Map(taken.map(({ taken, history }) => [taken.facts.id, history]))).toEqual(histories)
    expect(taken).toHaveLength(70)
    expect(new Set(taken.map(({ taken }) => taken.epoch))).toEqual(new Set([2]))
    expect((await living.streamsOf('living')).toSorted()).toEqual(ids.toSorted())
    expect(await living.otherReplicas()).toEqual(['dead'])
    await look()
    expect(await living.otherReplicas()).toEqual([])
    expect(await redis.command('EXISTS', keys.owned('dead'))).toBe(0)
    expect(taken).toHaveLength(70)
    expect(onTorn).not.toHaveBeenCalled()
  })

  it('takes over nothing while its process is about to end', async () => {
    let ends = true
    const { dead, look, taken } = await twoReplicas(undefined, () => !ends)
    await send(dead, newStreamId(), 1, 1, [start])
    await look()
    expect(taken).toEqual([])
    ends = false
    await look()
    expect(taken).toHaveLength(1)
  })

  it('leaves alone who lives, what has ended, and everybody for a while after an outage', async () => {
    const { dead, reaper, look, taken } = await twoReplicas()
    const [live, ended] = [newStreamId(), newStreamId()]
    await send(dead, live, 1, 1, [start])
    await send(dead, ended, 1, 1, [start, done])
    await reaper.look(performance.now())
    expect(taken).toEqual([])
    await dead.renewLease()
    await look()
    expect(taken).toEqual([])
    await dead.giveUpLease()
    await look()
    expect(taken.map(({ taken }) => taken.facts.id)).toEqual([live])
  })

  it('takes nothing from a replica that has renewed its lease in the same moment', async () => {
    const { dead, living } = await twoReplicas()
    const id = newStreamId()
    await send(dead, id, 1, 1, [start])
    await dead.renewLease()
    expect(await living.takeOver(id, 'dead')).toBeUndefined()
    expect(await dead.streamsOf('dead')).toEqual([id])
    await dead.giveUpLease()
    expect(await living.takeOver(id, 'dead')).toMatchObject({ epoch: 2, n: 1 })
    expect(await living.takeOver(id, 'dead')).toBeUndefined()
  })

  it.each(['done', 'cut'])('finds nothing after a stream is %s, not even from its owner', async (state) => {
    const { prefix, dead, living } = await twoReplicas()
    const id = newStreamId()
    await send(dead, id, 1, 1, [start])
    if (state === 'done') await send(dead, id, 1, 2, [done])
    else await dead.cut(id, 1, 60_000)
    const stored = await storedOf(redis, prefix, id)
    expect(await send(dead, id, 1, stored.length + 1, [failed])).toEqual({ epoch: 1, n: stored.length, state })
    expect(await storedOf(redis, prefix, id)).toEqual(stored)
    expect(await living.takeOver(id, 'dead')).toBeUndefined()
    // Nor does what was cut under another epoch change what there is.
    await living.cut(id, 2, 60_000)
    expect(await living.read(id, 0)).toMatchObject({ epoch: 1, n: stored.length, state })
  })

  it('never forgets a replica that has come back meanwhile', async () => {
    const { dead, living } = await twoReplicas()
    // Between its last look at the lease and the forgetting.
    await dead.renewLease()
    await living.forgetReplica('dead')
    await dead.renewLease()
    expect(await living.otherReplicas()).toEqual(['dead'])
  })

  it('finds what its own replica began without knowing, and waits for what is just being begun', async () => {
    const working = new Set<string>()
    const { living, look, taken, keys } = await twoReplicas((id) => working.has(id))
    const [begun, lost] = [newStreamId(), newStreamId()]
    const claim = (id: string, key: string) =>
      living.claim({ ...factsOf(id), key: keys.key(key), alias: keys.alias(key) }, 'print', 60_000, 60_000)
    expect(await claim(begun, 'a')).toBeUndefined()
    expect(await claim(lost, 'b')).toBeUndefined()
    await look()
    working.add(begun)
    for (let n = 0; n < 3; n++) await look()
    expect(taken).toEqual([])
    await look()
    expect(taken).toMatchObject([{ taken: { epoch: 2, n: 0, facts: { id: lost, key: keys.key('b') } }, history: [] }])
    expect(taken[0]?.taken.facts.alias).toBe(keys.alias('b'))
    working.add(lost)
    for (let n = 0; n < 6; n++) await look()
    expect(taken).toHaveLength(1)
  })

  it.each<[string, (keys: ReturnType<typeof redisKeys>, id: string) => string[]]>([
    ['events are gone', (keys, id) => ['DEL', keys.log(id)]],
    ['the last are gone', (keys, id) => ['XDEL', keys.log(id), '6-0']],
    ['the first are gone', (keys, id) => ['XDEL', keys.log(id), '2-0']],
    ['some in the middle are gone', (keys, id) => ['XDEL', keys.log(id), '4-0']],
    ['some cannot be read', (keys, id) => ['XADD', keys.log(id), '7-0', 'e', 'not an event']],
  ])('gives up a stream of which %s, and no other', async (_, harm) => {
    const { dead, look, taken, onTorn, keys } = await twoReplicas()
    const [torn, whole] = [newStreamId(), newStreamId()]
    for (const id of [torn, whole]) {
      await send(dead, id, 1, 1, [start, text(0)])
      await send(dead, id, 1, 3, texts(2, 1))
      await send(dead, id, 1, 5, texts(2, 3))
    }
    const [name = '', ...args] = harm(keys, torn)
    await redis.command(name, ...args)
    if (name === 'XADD') await redis.command('HSET', keys.meta(torn), 'n', '7')
    await look()
    expect(taken.map(({ taken, history }) => [taken.facts.id, history.length])).toEqual([[whole, 6]])
    expect(onTorn.mock.calls.map(([{ facts }]) => facts.id)).toEqual([torn])
  })
})

describe('an owner and two who take over', () => {
  const races = 2_000
  const atOnce = 100

  it('leave one history with one end, however they race', { timeout: 60_000 }, async () => {
    const prefix = newPrefix()
    const [owner, ...takers] = await Promise.all(
      ['owner', 'first', 'second'].map((replica) => testCommands(redis.url, prefix, replica)),
    )
    const random = seeded('races')
    let fenced = 0
    const pause = async (most: number) => {
      for (let n = random.between(0, most); n > 0; n--) await new Promise(setImmediate)
    }

    async function write(id: string): Promise<void> {
      const events = [start, ...texts(random.between(0, 8)), done]
      for (let at = 0; at < events.length; ) {
        const batch = events.slice(at, at + random.between(1, 3))
        const sends = random.chance(0.3) ? 2 : 1
        const answers = await Promise.all(
          Array.from({ length: sends }, () => send(owner as RedisCommands, id, 1, at + 1, batch)),
        )
        if (answers.some((answer) => answer !== 'ok' && answer?.epoch !== 1)) {
          fenced++
          return
        }
        expect(answers.filter((answer) => answer === 'ok').length).toBeLessThanOrEqual(1)
        at += batch.length
        // What comes late finds that it was there before.
        if (random.chance(0.2)) expect(await send(owner as RedisCommands, id, 1, at, batch.slice(-1))).not.toBe('ok')
        await pause(3)
      }
    }

    async function takeOver(id: string, taker: RedisCommands): Promise<void> {
      await pause(30)
      const now = await taker.read(id, 0)
      const taken = now && (await taker.takeOver(id, now.owner))
      if (!taken) return
      await pause(2)
      for (let n = random.between(1, 2); n > 0; n--) await send(taker, id, taken.epoch, taken.n + 1, [failed])
    }

    for (let race = 0; race < races; race += atOnce) {
      const ids = Array.from({ length: atOnce }, newStreamId)
      await Promise.all(ids.flatMap((id) => [write(id), ...takers.map((taker) => takeOver(id, taker))]))
      await Promise.all(ids.map((id) => expectOneEnd(owner as RedisCommands, id)))
    }
    expect(fenced).toBeGreaterThan(races / 20)
    expect(fenced).toBeLessThan(races)
    const [id] = (await redis.command('KEYS', `${prefix}*:log`)) as string[]
    expect(await storedOf(redis, prefix, /\{(.*)\}/.exec(id ?? '')?.[1] ?? '')).not.toHaveLength(0)
  })

  /** Contiguous, and nothing after its only terminal event; whoever took it over last may have died before that. */
  async function expectOneEnd(commands: RedisCommands, id: string): Promise<void> {
    const reading = await eventually(() => commands.read(id, 0))
    let length = 0
    const events = reading.batches.flatMap(({ last, events }) => {
      length += events.length
      expect(last).toBe(length)
      return events
    })
    expect(reading.n).toBe(length)
    const terminals = events.filter(isTerminal)
    expect(terminals).toHaveLength(1)
    expect(events.at(-1)).toEqual(terminals[0])
    expect(reading.state).toBe(terminals[0]?.type)
    expect(events.slice(0, -1)).toEqual([start, ...texts(length)].slice(0, length - 1))
  }
})
