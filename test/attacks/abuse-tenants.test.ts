import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newStreamId } from '../../src/core/position.ts'
import { formats } from '../../src/formats/registry.ts'
import { limitKeys } from '../../src/limits/redis/keys.ts'
import { redisKeys } from '../../src/log/redis/keys.ts'
import { nameOf } from '../../src/run/names.ts'
import { type Holder, holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open, type RequestOptions, type StreamResponse } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

/** What one client may know of another, by the numbers of docs/threat-model.md. */
const [alice, bob] = [holder('alice'), holder('bob')]
const endless = sim({ text: 100_000, delay_ms: 10 })
const long = sim({ text: 40, bytes: 60_000 })
const secret = { TICKETS_SECRET: 'a'.repeat(32) }
const idOf = ({ headers }: Pick<StreamResponse, 'headers'>) => String(headers['x-stream-id'])

let redis: Redis
let alone: Rig
let near: Rig
let far: Rig
beforeAll(async () => {
  redis = await startRedis()
  const env = { ...lettingIn(alice, bob), ...secret }
  alone = await openRig({ env, logLevel: 'error' })
  near = await openRig({ env: { ...env, REDIS_URL: redis.url }, logLevel: 'error' })
  far = await openRig({
    env: { ...env, REDIS_URL: redis.url, ANTHROPIC_BASE_URL: near.simulator.url },
    logLevel: 'error',
  })
})
afterAll(async () => {
  for (const each of [alone, far, near, redis]) await each.close()
})

interface Names {
  readonly id: string
  readonly chat: string
  readonly key: string
}

/** Every way to ask for something that is there already: by id, position, chat, key and ticket, to read and to stop. */
function probesOf({ id, chat, key }: Names, ticket: string): [path: string, options: RequestOptions][] {
  const at = (n: number) => ({ headers: { 'last-event-id': `${id}.${n}` } })
  return [
    ...Object.keys(formats).flatMap((format): [string, RequestOptions][] => [
      [`/streams/${id}?format=${format}`, {}],
      [`/streams/${id}?format=${format}`, at(3)],
      [`/stream?prompt=hi&format=${format}`, at(1)],
    ]),
    [`/streams/${id}?after=2`, {}],
    [`/streams/${id}?after=999999999`, {}],
    [`/streams/${id}`, { headers: { accept: 'application/json' } }],
    [`/streams/${id}`, { method: 'DELETE' }],
    [`/streams/${id}?ticket=${ticket}`, {}],
    [`/streams/${id}?ticket=${ticket}`, { headers: { accept: 'application/json' } }],
    [`/stream?prompt=hi&ticket=${ticket}`, at(1)],
    [`/streams/${id}/tools/toolu_1`, { body: { decision: 'approve' } }],
    [`/streams/${id}/tools/toolu_1`, { body: { decision: 'nonsense' } }],
    ['/tickets', { body: { stream: id } }],
    ['/tickets', { body: { stream: id, principal: 'bob' } }],
    [`/api/chat/${chat}/stream`, {}],
    [`/api/chat/${chat}/stream?ticket=${ticket}`, {}],
    [`/self-test/${id}`, {}],
    [`/streams/${key}`, {}],
  ]
}

/** All of an answer but what is of each request alone, as bob gets it. */
async function bobGets({ url }: Rig, [path, options]: [string, RequestOptions]) {
  const headers = { ...options.headers, ...bob.bearer, 'x-request-id': 'probe' }
  const answer = await fetchAll(url + path, { ...options, headers })
  const { date: _, ...rest } = answer.headers
  return { status: answer.status, headers: rest, body: answer.body }
}

const ticketOf = async ({ bearer }: Holder, { url }: Rig) =>
  JSON.parse((await fetchAll(`${url}/tickets`, { headers: bearer, body: {} })).body).ticket as string

async function expectHidden(at: Rig, names: Names): Promise<void> {
  const ticket = await ticketOf(bob, at)
  const nobodys = { id: newStreamId(), chat: `c${newStreamId()}`, key: newStreamId() }
  const unknown = probesOf(nobodys, ticket)
  for (const [n, probe] of probesOf(names, ticket).entries()) {
    const answer = await bobGets(at, probe)
    expect([probe[0], answer]).toEqual([probe[0], await bobGets(at, unknown[n] as [string, RequestOptions])])
    expect([probe[0], [404, 204].includes(answer.status)]).toEqual([probe[0], true])
    for (const name of Object.values(names)) expect(JSON.stringify(answer)).not.toContain(name)
  }
}

/** A stream of alice's, with a name of every kind. */
async function begin(at: Rig, model: string): Promise<{ stream: StreamResponse; names: Names }> {
  const [chat, key] = [`c${newStreamId()}`, newStreamId()]
  const stream = await open(`${at.url}/api/chat`, {
    headers: { ...alice.bearer, 'idempotency-key': key },
    body: {
      id: chat,
      model,
      max_tokens: 100_000,
      messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'hi' }] }],
    },
  })
  await stream.until('text-delta')
  return { stream, names: { id: idOf(stream), chat, key } }
}

describe("A18 another's stream", () => {
  it.each([
    ['in memory', (): [Rig, Rig] => [alone, alone]],
    ['in Redis', (): [Rig, Rig] => [near, near]],
    ['on another replica', (): [Rig, Rig] => [near, far]],
  ])('A18 is by every name and route as one that was never there, live and ended, %s', async (_, rigs) => {
    const [owner, other] = rigs()
    const { stream, names } = await begin(owner, endless)
    // Somebody may read it there already.
    const reader = await open(`${other.url}/streams/${names.id}`, { headers: alice.bearer })
    await reader.until('"text"')
    await expectHidden(other, names)
    const had = stream.body.length
    await eventually(() => stream.body.length > had)
    const stopped = await fetchAll(`${other.url}/streams/${names.id}`, { method: 'DELETE', headers: alice.bearer })
    expect(stopped.status).toBe(200)
    await Promise.all([stream.ended, reader.ended])
    await expectHidden(other, names)
  })

  it('A18 is not joined by its key, and its key is free to others', async () => {
    const { stream, names } = await begin(near, endless)
    for (const at of [near, far]) {
      const his = await open(`${at.url}/stream`, {
        headers: { ...bob.bearer, 'idempotency-key': names.key },
        body: { prompt: 'other', model: endless },
      })
      expect(his.status).toBe(200)
      expect(idOf(his)).not.toBe(names.id)
      await fetchAll(`${at.url}/streams/${idOf(his)}`, { method: 'DELETE', headers: bob.bearer })
    }
    await fetchAll(`${near.url}/streams/${names.id}`, { method: 'DELETE', headers: alice.bearer })
    await stream.ended
  })

  it('A18 is looked for as long as one that was never there, and nothing of it is read', async () => {
    const whole = await fetchAll(`${near.url}/stream`, {
      headers: alice.bearer,
      body: { prompt: 'hi', model: long, max_tokens: 100_000 },
    })
    expect(whole.body.length).toBeGreaterThan(2e6)
    const timeOf = async (id: string) => {
      const started = performance.now()
      expect((await fetchAll(`${far.url}/streams/${id}`, { headers: bob.bearer })).status).toBe(404)
      return performance.now() - started
    }
    const reads = async () =>
      /cmdstat_xrange:calls=(\d+)/.exec(String(await redis.command('INFO', 'commandstats')))?.[1] ?? '0'
    const before = await reads()
    const [foreign, unknown]: [number[], number[]] = [[], []]
    for (let n = 0; n < 40; n++) {
      foreign.push(await timeOf(idOf(whole)))
      unknown.push(await timeOf(newStreamId()))
    }
    expect(await reads()).toBe(before)
    const median = (all: number[]) => all.sort((a, b) => a - b)[20] as number
    expect(median(foreign)).toBeLessThan(2 * median(unknown) + 1)
    expect(median(unknown)).toBeLessThan(2 * median(foreign) + 1)
  })

  it('A18 is not told by what cannot be known while Redis is away', async () => {
    await using own = await startRedis()
    const rig = await startRig({ env: { ...lettingIn(alice, bob), REDIS_URL: own.url }, logLevel: 'error' })
    const stream = await open(`${rig.url}/stream`, { headers: alice.bearer, body: { prompt: 'hi', model: endless } })
    await stream.until('"text"')
    await own.kill()
    for (const method of ['GET', 'DELETE']) {
      const ask = (id: string) => bobGets(rig, [`/streams/${id}`, { method }])
      expect(await ask(idOf(stream))).toEqual(await ask(newStreamId()))
    }
    // It is hers all the same.
    const hers = await open(`${rig.url}/streams/${idOf(stream)}`, { headers: alice.bearer })
    expect(hers.status).toBe(200)
    for (const each of [hers, stream]) each.destroy()
  })

  it('A18 a self-test is whose it is, though clients choose its id', async () => {
    const ask = (path: string, { bearer }: Holder) => fetchAll(alone.url + path, { headers: bearer })
    await ask('/self-test?id=chosen-by-her&frames=1&interval_ms=5', alice)
    expect((await ask('/self-test/chosen-by-her', alice)).body).toContain('"sent"')
    expect((await ask('/self-test/chosen-by-her', bob)).status).toBe(404)
  })
})

describe('A19 names of two that are one', () => {
  const visible = fc.string({
    unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCodePoint(code)),
    minLength: 1,
    maxLength: 12,
  })
  /** Names that are made to collide: of the same few pieces, cut at different places. */
  const tricky = fc
    .array(
      fc.constantFrom('a', 'b', ':', '{', '}', '/', '|', ',', '.', '%20', '\\', '"', 'total', 'address', 'principal'),
      {
        minLength: 1,
        maxLength: 4,
      },
    )
    .map((parts) => parts.join(''))
  const principal = fc.oneof(visible, tricky)
  /** Chats may hold blanks, and anything else. */
  const chat = fc.oneof(
    visible,
    tricky,
    fc.string({ minLength: 1, maxLength: 20 }),
    fc.tuple(tricky, tricky).map((all) => all.join(' ')),
  )
  const pairs = fc.uniqueArray(fc.tuple(principal, chat), {
    minLength: 2,
    maxLength: 30,
    selector: ([who, name]) => JSON.stringify([who, name]),
  })

  it('A19 no two principals or names share a key in Redis, an alias, or a name in memory', () => {
    const keys = redisKeys('p')
    fc.assert(
      fc.property(pairs, (all) => {
        const names = all.map(([who, name]) => nameOf(who, name))
        expect(new Set(names).size).toBe(all.length)
        const stored = names.flatMap((name) => [
          keys.key(name),
          keys.alias(name),
          keys.meta(name),
          keys.log(name),
          keys.plan(name),
        ])
        expect(new Set(stored).size).toBe(5 * all.length)
      }),
      { numRuns: 500 },
    )
  })

  it('A19 no two principals share an account, nor has one that of an address or of all', () => {
    const { account } = limitKeys('p')
    fc.assert(
      fc.property(fc.uniqueArray(principal, { minLength: 1, maxLength: 30 }), (all) => {
        const names = [...all.map((each) => `principal ${each}`), ...all.map((each) => `address ${each}`), 'total']
        expect(new Set(names.flatMap(account)).size).toBe(2 * names.length)
      }),
      { numRuns: 500 },
    )
  })

  it('A19 names that look like those of others give nobody what is theirs', async () => {
    const people = ['a', 'a:b', 'a%20b', 'a|k', 'total', 'address', 'A'].map((name) => holder(name))
    const rig = await startRig({ env: lettingIn(...people), logLevel: 'error' })
    const keys = ['k', 'b:k', 'a:k', 'k|k']
    const ids = await Promise.all(
      people.flatMap(({ bearer }) =>
        keys.map(async (key) => {
          const headers = { ...bearer, 'idempotency-key': key }
          const body = { prompt: `hi ${key}`, model: 'claude-sim' }
          const [first, again] = [
            await fetchAll(`${rig.url}/stream`, { headers, body }),
            await fetchAll(`${rig.url}/stream`, { headers, body }),
          ]
          expect(idOf(again)).toBe(idOf(first))
          return idOf(first)
        }),
      ),
    )
    expect(new Set(ids).size).toBe(people.length * keys.length)
    expect(rig.simulator.requests).toHaveLength(ids.length)
  })
})
