import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, fetchAll, jsonFrames, open, parseFrames, type RequestOptions } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

let redis: Redis
let first: Rig
let second: Rig
beforeAll(async () => {
  redis = await startRedis()
  first = await openRig({ env: { REDIS_URL: redis.url } })
  second = await openRig({ env: { REDIS_URL: redis.url, ANTHROPIC_BASE_URL: first.simulator.url } })
})
afterAll(async () => {
  for (const each of [second, first, redis]) await each.close()
})

/** A request under a key, and the failures that its clients understand. */
interface Route {
  readonly name: string
  ask(base: string, key: string, model: string, prompt?: string): [url: string, options: RequestOptions]
  failure(code: string): unknown
}

const own = (code: string) => ({ error: { code, retryable: expect.any(Boolean), request_id: expect.any(String) } })
const anthropics = (code: string) => ({
  type: 'error',
  error: {
    type: code === 'store_unavailable' ? 'api_error' : 'invalid_request_error',
    message: expect.any(String),
  },
  request_id: expect.any(String),
})
const openais = (code: string) => ({ error: { code, type: expect.any(String), message: expect.any(String) } })

type Body = (model: string, prompt: string) => object

function post(name: string, path: string, body: Body, failure: Route['failure'] = own): Route {
  const ask: Route['ask'] = (base, key, model, prompt = 'hi') => [
    base + path,
    { body: body(model, prompt), headers: { 'idempotency-key': key } },
  ]
  return { name, failure, ask }
}

const messages = (content: string) => [{ role: 'user', content }]
const plain: Body = (model, prompt) => ({ prompt, model })
const chat: Body = (model, text) => ({ messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text }] }], model })
const agent: Body = (model, content) => ({
  ...{ threadId: 't1', runId: 'r1', state: {}, tools: [], context: [], forwardedProps: { model } },
  messages: [{ id: 'm1', role: 'user', content }],
})
const api =
  (extra: object): Body =>
  (model, prompt) => ({ model, max_tokens: 500, messages: messages(prompt), ...extra })

const routes: Route[] = [
  post('POST /stream', '/stream', plain),
  post('POST /api/chat', '/api/chat', plain),
  post('POST /api/chat of useChat', '/api/chat', chat),
  post('POST /ag-ui', '/ag-ui', agent),
  post('POST /v1/messages, streamed', '/v1/messages', api({ stream: true }), anthropics),
  post('POST /v1/messages, whole', '/v1/messages', api({}), anthropics),
  post('POST /v1/chat/completions, streamed', '/v1/chat/completions', api({ stream: true }), openais),
  post('POST /v1/chat/completions, whole', '/v1/chat/completions', api({}), openais),
  {
    name: 'GET /stream',
    failure: own,
    ask: (base, key, model, prompt = 'hi') => [`${base}/stream?${new URLSearchParams({ prompt, model, key })}`, {}],
  },
]

const stream = routes[0] as Route
let keys = 0
const newKey = () => `key-${++keys}`

/** How often Claude was asked for this model. */
const calls = (model: string) =>
  first.simulator.requests.filter(({ body }) => (body as { model: string }).model === model).length

const endOf = (body: string) => expectWholeJsonStream(parseFrames(body))
/** No two tests share one, so that each can count its calls. */
const answer = (text: number) => sim({ text, delay_ms: 10, message: newKey() })

describe.each(routes)('$name', ({ ask, failure }) => {
  it('joins what its key has begun, while it runs and when it is finished, on either replica', async () => {
    const [key, model] = [newKey(), answer(20)]
    const running = open(...ask(first.url, key, model))
    await eventually(() => calls(model) === 1, 10_000)
    const joined = await fetchAll(...ask(second.url, key, model))
    const whole = await (await running).ended
    expect([joined.status, joined.body]).toEqual([200, whole])
    expect(whole.length).toBeGreaterThan(100)
    for (const { url } of [first, second]) expect((await fetchAll(...ask(url, key, model))).body).toBe(whole)
    expect(calls(model)).toBe(1)
  })

  it('refuses another request under the same key, and what is no key', async () => {
    const [key, model] = [newKey(), answer(2)]
    expect((await fetchAll(...ask(first.url, key, model))).status).toBe(200)
    for (const { url } of [first, second]) {
      const reused = await fetchAll(...ask(url, key, model, 'something else'))
      expect([url, reused.status]).toEqual([url, 422])
      expect(JSON.parse(reused.body)).toMatchObject(failure('key_reused') as object)
    }
    for (const malformed of ['two words', 'x'.repeat(256), 'clé']) {
      const refused = await fetchAll(...ask(first.url, malformed, model))
      expect([malformed, refused.status]).toEqual([malformed, 400])
      expect(JSON.parse(refused.body)).toMatchObject(failure('invalid_request') as object)
    }
    expect(calls(model)).toBe(1)
  })

  it('may ask again after a failure before any content', async () => {
    const key = newKey()
    const model = sim({ text: 3, fail_first: 1, status: 529, error: 'overloaded_error', message: key })
    const failed = await fetchAll(...ask(first.url, key, model))
    expect(failed.body).toContain('verloaded')
    const again = await fetchAll(...ask(second.url, key, model))
    expect([again.status, calls(model)]).toEqual([200, 2])
    expect(again.body).toContain('sluice')
  })
})

it('fifty requests at once under one key, on both replicas, are one call and one answer', async () => {
  const [key, model] = [newKey(), answer(30)]
  const asked = Array.from({ length: 50 }, (_, n) => fetchAll(...stream.ask((n % 2 ? first : second).url, key, model)))
  const answers = await Promise.all(asked)
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
  expect(new Set(answers.map(({ headers }) => headers['x-stream-id'])).size).toBe(1)
  expect(new Set(answers.map(({ body }) => body)).size).toBe(1)
  expect(endOf(answers[0]?.body ?? '')).toMatchObject({ type: 'done' })
  expect(calls(model)).toBe(1)
})

it('a stream that is started for others to read is started once', async () => {
  const [key, model] = [newKey(), answer(5)]
  const create = async ({ url }: Rig) => {
    const [path, { body, headers }] = stream.ask(url, key, model)
    const created = await fetchAll(path, { body, headers: { ...headers, accept: 'application/json' } })
    return [created.status, JSON.parse(created.body).id, created.headers.location]
  }
  const [one, two] = await Promise.all([create(first), create(second)])
  expect(two).toEqual(one)
  expect(one?.[0]).toBe(201)
  expect(endOf((await fetchAll(second.url + one?.[2])).body)).toMatchObject({ type: 'done' })
  expect(await create(second)).toEqual(one)
  expect(calls(model)).toBe(1)
})

it.each([
  ['an answer that broke off', { text: 9, end_at: 6 }, 'upstream_truncated'],
  ['a cancelled answer', { text: 900, delay_ms: 10 }, 'stop'],
])('%s keeps its key: what was bought is given again, as it is', async (_, scenario, reason) => {
  const [key, model] = [newKey(), sim({ ...scenario, message: newKey() })]
  const begun = await open(...stream.ask(first.url, key, model))
  await begun.until('"text"')
  if (reason === 'stop') await fetchAll(`${second.url}/streams/${begun.headers['x-stream-id']}`, { method: 'DELETE' })
  const body = await begun.ended
  expect(JSON.stringify(endOf(body))).toContain(`"${reason}"`)
  for (const { url } of [first, second]) expect((await fetchAll(...stream.ask(url, key, model))).body).toBe(body)
  expect(calls(model)).toBe(1)
})

describe('a key outlives its stream', () => {
  it('410 when the replica that is asked cannot have the stream any more (Redis)', async () => {
    const [key, model] = [newKey(), answer(2)]
    const { headers } = await fetchAll(...stream.ask(first.url, key, model))
    for (const name of [`sluice:1:{${headers['x-stream-id']}}`, `sluice:1:{${headers['x-stream-id']}}:log`]) {
      expect(await redis.command('DEL', name)).toBe(1)
    }
    const gone = await fetchAll(...stream.ask(second.url, key, model))
    expect([gone.status, JSON.parse(gone.body).error.code, calls(model)]).toEqual([410, 'resume_unavailable', 1])
  })

  it('410 when there was no room for the stream, and a new stream when the key is over (memory)', async () => {
    const env = { SLUICE_STREAMS__MAX_TOTAL_BYTES: '20000', SLUICE_STREAMS__KEY_TTL_MS: '2000' }
    const rig = await startRig({ env })
    const [key, model] = [newKey(), sim({ text: 20, bytes: 400 })]
    const { body } = await fetchAll(...stream.ask(rig.url, key, model))
    for (let n = 0; n < 3; n++) await fetchAll(...stream.ask(rig.url, newKey(), model))
    const gone = await fetchAll(...stream.ask(rig.url, key, model))
    expect([gone.status, JSON.parse(gone.body).error.code]).toEqual([410, 'resume_unavailable'])
    expect(rig.simulator.requests).toHaveLength(4)
    const anew = await eventually(async () => {
      const again = await fetchAll(...stream.ask(rig.url, key, model))
      return again.status === 200 && again
    }, 6_000)
    expect(anew.headers['x-stream-id']).not.toBe(jsonFrames(parseFrames(body))[0]?.['stream'])
    expect(rig.simulator.requests).toHaveLength(5)
  })
})

it('without Redis nobody can tell, so a key is refused for now; without one all is as ever', async () => {
  await using mortal = await startRedis()
  const rig = await startRig({ env: { REDIS_URL: mortal.url } })
  await mortal.kill()
  for (const { name, ask, failure } of routes) {
    const model = answer(2)
    const refused = await fetchAll(...ask(rig.url, newKey(), model))
    expect([name, refused.status, refused.headers['retry-after']]).toEqual([name, 503, '1'])
    expect(JSON.parse(refused.body)).toMatchObject(failure('store_unavailable') as object)
    const [url, { body }] = ask(rig.url, '', model)
    const served = await fetchAll(url.replace('&key=', ''), { body })
    expect([name, served.status]).toEqual([name, 200])
    expect(served.body).toContain('sluice')
  }
  expect(rig.simulator.requests).toHaveLength(routes.length)
})

it('a stream that begins while Redis is away says that others do not know of it', async () => {
  await using mortal = await startRedis()
  const rig = await startRig({ env: { REDIS_URL: mortal.url } })
  const begin = () => fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: answer(2) } })
  const before = await begin()
  await mortal.kill()
  const meanwhile = await begin()
  expect([before, meanwhile].map(({ headers }) => headers['x-resumable'])).toEqual([undefined, 'false'])
  expect(meanwhile.body.endsWith('data: [DONE]\n\n')).toBe(true)
})
