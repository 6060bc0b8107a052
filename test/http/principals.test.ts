import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newStreamId } from '../../src/core/position.ts'
import { formats } from '../../src/formats/registry.ts'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open, parseFrames, type RequestOptions, type StreamResponse } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'

const [alice, bob] = [holder('alice'), holder('bob')]
/** Another key of hers. */
const alices = holder('alice')

let redis: Redis
let alone: Rig
let first: Rig
let second: Rig
beforeAll(async () => {
  const env = lettingIn(alice, alices, bob)
  redis = await startRedis()
  alone = await openRig({ env })
  first = await openRig({ env: { ...env, REDIS_URL: redis.url } })
  second = await openRig({ env: { ...env, REDIS_URL: redis.url, ANTHROPIC_BASE_URL: first.simulator.url } })
})
afterAll(async () => {
  for (const each of [alone, second, first, redis]) await each.close()
})

const places = [
  { place: 'in memory', near: () => alone, far: () => alone },
  { place: 'in Redis', near: () => first, far: () => first },
  { place: 'on another replica', near: () => first, far: () => second },
]

const idOf = ({ headers }: StreamResponse) => String(headers['x-stream-id'])
const endless = sim({ text: 100_000, delay_ms: 10 })
const chatBody = (id: string, model: string) => ({
  id,
  messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'hi' }] }],
  model,
})

/** Every way to ask for a stream or a chat. */
function probesOf(id: string, chat: string): readonly [path: string, options: RequestOptions][] {
  const position = (n: number) => ({ 'last-event-id': `${id}.${n}` })
  const asEventSource = { accept: 'text/event-stream' }
  const perFormat = Object.keys(formats).flatMap((format): [string, RequestOptions][] => [
    [`/streams/${id}?format=${format}`, {}],
    [`/streams/${id}?format=${format}&after=1`, {}],
    [`/streams/${id}?format=${format}`, { headers: { ...position(2), ...asEventSource } }],
    [`/stream?prompt=hi&format=${format}`, { headers: { ...position(1), ...asEventSource } }],
  ])
  return [
    ...perFormat,
    [`/streams/${id}`, { headers: { accept: 'application/json' } }],
    [`/streams/${id}?after=999999`, {}],
    [`/streams/${id}?after=x`, {}],
    [`/streams/${id}?smooth=word`, {}],
    [`/stream`, { headers: position(999_999) }],
    [`/streams/${id}`, { method: 'DELETE' }],
    [`/api/chat/${chat}/stream`, {}],
    [`/api/chat/${chat}/stream?smooth=word`, {}],
  ]
}

/** All of an answer but what is of each request alone. */
async function answerOf(url: string, { headers, ...options }: RequestOptions) {
  const answer = await fetchAll(url, { ...options, headers: { ...headers, ...bob.bearer, 'x-request-id': 'probe' } })
  const { date: _, ...rest } = answer.headers
  return { status: answer.status, headers: rest, body: answer.body }
}

describe.each(places)("another's stream $place", ({ near, far }) => {
  async function expectHidden(id: string, chat: string): Promise<void> {
    const unknown = probesOf(newStreamId(), 'no-such-chat')
    for (const [n, [path, options]] of probesOf(id, chat).entries()) {
      const [other = '', asked = {}] = unknown[n] ?? []
      const answer = await answerOf(far().url + path, options)
      expect([path, answer]).toEqual([path, await answerOf(far().url + other, asked)])
      if (path.startsWith('/api/chat/')) expect([answer.status, answer.body]).toEqual([204, ''])
      else expect([path, answer.status, JSON.parse(answer.body).error.code]).toEqual([path, 404, 'stream_not_found'])
    }
  }

  it('is as one that is not there, live and ended, by every route and in every format', async () => {
    const chat = `chat-${newStreamId()}`
    const stream = await open(`${near().url}/api/chat`, { body: chatBody(chat, endless), headers: alice.bearer })
    await stream.until('text-delta')
    const id = idOf(stream)
    await expectHidden(id, chat)
    // Nothing of that has done anything to it.
    const had = stream.body.length
    await eventually(() => stream.body.length > had, 5_000)
    const stopped = await fetchAll(`${far().url}/streams/${id}`, { method: 'DELETE', headers: alice.bearer })
    expect(JSON.parse(stopped.body)).toEqual({ id, status: 'cancelled' })
    await stream.ended
    await expectHidden(id, chat)
  })

  it('is there for each key of its principal, by every route', async () => {
    const chat = `chat-${newStreamId()}`
    const stream = await open(`${near().url}/api/chat`, { body: chatBody(chat, endless), headers: alice.bearer })
    await stream.until('text-delta')
    for (const [path, { method, headers }] of probesOf(idOf(stream), chat)) {
      if (method === 'DELETE' || /after=(x|9)/.test(path) || headers?.['last-event-id']?.endsWith('999999')) continue
      const reader = await open(far().url + path, { headers: { ...headers, ...alices.bearer } })
      const sound = /smooth/.test(path) && !path.startsWith('/api') ? [200, 400] : [200]
      expect([path, sound.includes(reader.status)]).toEqual([path, true])
      reader.destroy()
    }
    const url = `${far().url}/streams/${idOf(stream)}`
    expect((await fetchAll(url, { method: 'DELETE', headers: alices.bearer })).status).toBe(200)
  })

  it('is not joined by the same key, on any route, nor is the key known to be used', async () => {
    const model = sim({ text: 5 })
    const messages = [{ role: 'user', content: 'hi' }]
    const user = { id: 'm1', role: 'user', content: 'hi' }
    const asks: [string, object][] = [
      ['/stream', { prompt: 'hi', model }],
      ['/api/chat', chatBody('chat', model)],
      ['/v1/messages', { model, max_tokens: 50, messages, stream: true }],
      ['/v1/chat/completions', { model, messages, stream: true }],
      ['/ag-ui', { threadId: 't', runId: 'r', messages: [user], forwardedProps: { model } }],
    ]
    for (const [path, body] of asks) {
      const key = { 'idempotency-key': newStreamId() }
      const ask = ({ url }: Rig, headers: Record<string, string>, more: object = {}) =>
        fetchAll(url + path, { headers: { ...key, ...headers }, body: { ...body, ...more } })
      const hers = await ask(near(), alice.bearer)
      const his = await ask(far(), bob.bearer)
      expect([path, hers.status, his.status]).toEqual([path, 200, 200])
      expect(his.headers['x-stream-id']).not.toBe(hers.headers['x-stream-id'])
      const again = await ask(far(), alices.bearer)
      expect([path, again.headers['x-stream-id']]).toEqual([path, hers.headers['x-stream-id']])
      expect(again.body).toBe(hers.body)
      const carol = await ask(near(), bob.bearer)
      expect(carol.headers['x-stream-id']).toBe(his.headers['x-stream-id'])
    }
  })

  it('is not found by the name of its chat, which two principals may both use', async () => {
    const chat = `chat-${newStreamId()}`
    const [hers, his] = await Promise.all(
      [alice, bob].map(async ({ bearer }) => {
        const stream = await open(`${near().url}/api/chat`, { body: chatBody(chat, endless), headers: bearer })
        await stream.until('text-delta')
        return stream
      }),
    )
    for (const [holder, stream] of [
      [alice, hers],
      [bob, his],
    ] as const) {
      const resumed = await open(`${far().url}/api/chat/${chat}/stream`, { headers: holder.bearer })
      expect(resumed.headers['x-stream-id']).toBe(stream?.headers['x-stream-id'])
      resumed.destroy()
      await fetchAll(`${far().url}/streams/${resumed.headers['x-stream-id']}`, {
        method: 'DELETE',
        headers: holder.bearer,
      })
    }
  })
})

it("a key of a query is its principal's, too", async () => {
  const ask = (headers: Record<string, string>, prompt: string) =>
    fetchAll(`${alone.url}/stream?prompt=${prompt}&key=same&model=claude-sim`, { headers })
  const [hers, his] = [await ask(alice.bearer, 'hi'), await ask(bob.bearer, 'other')]
  expect(parseFrames(his.body).length).toBeGreaterThan(2)
  expect(his.headers['x-stream-id']).not.toBe(hers.headers['x-stream-id'])
  expect((await ask(alice.bearer, 'other')).body).toContain('key_reused')
})
