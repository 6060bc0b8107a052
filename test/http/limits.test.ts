import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, jsonFrames, open, type RequestOptions } from '../support/client.ts'
import { startRedis } from '../support/redis.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

const endless = sim({ text: 100_000, delay_ms: 10 })
const priced = sim({ text: 4 })
const price = { input: 1_000, output: 1_000, cache_read: 0, cache_write_5m: 0, cache_write_1h: 0 }
const prices = JSON.stringify({ 'claude-sim': price, [priced]: price, [endless]: price })

const limited = (limits: object, more: Record<string, string> = {}) =>
  startRig({ env: { SLUICE_ACCESS__LIMITS: JSON.stringify(limits), ...more } })

const ask = ({ url }: Rig, options: RequestOptions & { readonly ask?: object } = {}) =>
  fetchAll(`${url}/stream`, { body: { prompt: 'hi', model: priced, max_tokens: 50, ...options.ask }, ...options })

const begin = ({ url }: Rig, more: object = {}, options: RequestOptions = {}) =>
  open(`${url}/stream`, { body: { prompt: 'hi', model: endless, max_tokens: 50, ...more }, ...options })

interface Look {
  readonly limits: readonly { readonly limit: string; readonly allowed: number; readonly left: number }[]
}

async function leftOf({ url }: Rig, limit: string, headers: Record<string, string> = {}): Promise<number | undefined> {
  const { limits } = JSON.parse((await fetchAll(`${url}/limits`, { headers })).body) as Look
  return limits.find((each) => each.limit === limit)?.left
}

const codeOf = ({ body }: { readonly body: string }) => JSON.parse(body).error.code

describe('a limit', () => {
  it.each<[string, object, number, string, boolean, RegExp]>([
    ['requests', { requests_per_minute: 2 }, 2, 'rate_limited', true, /^(29|30)$/],
    ['tokens', { tokens_per_day: 1 }, 1, 'token_budget_exhausted', false, /^\d{1,5}$/],
    ['dollars', { usd_per_day: 0.000_001 }, 1, 'spend_limit_reached', false, /^\d{1,5}$/],
  ])('of %s refuses before Claude has heard of it, and says when', async (_, limits, count, code, retryable, after) => {
    const rig = await limited(limits, { SLUICE_UPSTREAM__PRICES: prices })
    for (let n = 0; n < count; n++) expect((await ask(rig)).status).toBe(200)
    const refused = await ask(rig)
    expect(refused.status).toBe(429)
    expect(JSON.parse(refused.body).error).toMatchObject({ code, retryable })
    expect(refused.headers['retry-after']).toMatch(after)
    expect(rig.simulator.requests).toHaveLength(count)
    // EventSource has no other way to hear of it than the status.
    const query = new URLSearchParams({ prompt: 'hi', model: priced })
    expect((await fetchAll(`${rig.url}/stream?${query}`)).status).toBe(429)
  })

  it('of streams is free again when a run has ended, and not when its reader has left', async () => {
    const rig = await limited({ concurrent_streams: 1 })
    const first = await begin(rig, { on_disconnect: 'finish' })
    await first.until('"text"')
    first.destroy()
    await first.ended
    const refused = await ask(rig)
    expect([refused.status, codeOf(refused), refused.headers['retry-after']]).toEqual([
      429,
      'too_many_concurrent_streams',
      '2',
    ])
    await fetchAll(`${rig.url}/streams/${first.headers['x-stream-id']}`, { method: 'DELETE' })
    expect((await ask(rig)).status).toBe(200)
  })

  it('of today is for the running ones first, and what they leave for others', async () => {
    const rig = await limited({ tokens_per_day: 400 })
    const first = await begin(rig, { max_tokens: 5_000 })
    await first.until('"text"')
    const refused = await ask(rig)
    expect(JSON.parse(refused.body).error).toMatchObject({ code: 'budget_reserved', retryable: true })
    first.destroy()
    await fetchAll(`${rig.url}/streams/${first.headers['x-stream-id']}`, { method: 'DELETE' })
    expect((await ask(rig)).status).toBe(200)
  })

  it("is each principal's own, whatever others use, and each address's where nobody has a name", async () => {
    const [alice, bob] = [holder('alice'), holder('bob')]
    const rig = await limited({ requests_per_minute: 1 }, lettingIn(alice, bob))
    for (const { bearer } of [alice, bob]) {
      expect((await ask(rig, { headers: bearer })).status).toBe(200)
      expect((await ask(rig, { headers: bearer })).status).toBe(429)
    }
    const open = await limited({ requests_per_minute: 1 }, { SLUICE_SERVER__TRUSTED_PROXIES: '127.0.0.1' })
    const from = async (address: string) => (await ask(open, { headers: { 'x-forwarded-for': address } })).status
    expect([await from('192.0.2.1'), await from('192.0.2.1'), await from('192.0.2.2')]).toEqual([200, 429, 200])
    expect([await from('2001:db8::1'), await from('2001:db8::2'), await from('2001:db8:0:1::1')]).toEqual([
      200, 429, 200,
    ])
  })

  it('of all together says so, and shows nobody how much others have used', async () => {
    const rig = await startRig({ env: { SLUICE_ACCESS__TOTAL_LIMITS: '{"concurrent_streams":1}' } })
    const first = await begin(rig)
    const refused = await ask(rig)
    expect(JSON.parse(refused.body).error).toMatchObject({
      code: 'too_many_concurrent_streams',
      message: expect.stringMatching(/all clients together/),
    })
    expect([refused.headers['ratelimit'], first.headers['ratelimit-policy']]).toEqual([undefined, undefined])
    expect(JSON.parse((await fetchAll(`${rig.url}/limits`)).body)).toEqual({ limits: [] })
    first.destroy()
  })

  it('lets two hundred at once overspend by one reservation', async () => {
    const rig = await limited({ tokens_per_day: 300 })
    const all = await Promise.all(Array.from({ length: 200 }, () => begin(rig, { max_tokens: 100 })))
    // Each reserves 100 and its input.
    const begun = all.filter(({ status }) => status === 200)
    expect(begun).toHaveLength(3)
    for (const each of all) each.destroy()
  })

  it('of dollars refuses a model without a price', async () => {
    const rig = await limited({ usd_per_day: 1 }, { SLUICE_UPSTREAM__PRICES: prices })
    const refused = await ask(rig, { ask: { model: sim({ text: 5 }) } })
    expect([refused.status, codeOf(refused)]).toEqual([400, 'model_without_price'])
    expect(rig.simulator.requests).toHaveLength(0)
  })
})

describe('what is charged', () => {
  it('is what was seen of a stream, whatever its end was', async () => {
    const rig = await limited({ tokens_per_day: 1e6 })
    const charged = async (body: object, end?: (id: string) => Promise<unknown>): Promise<[number, number]> => {
      const before = (await leftOf(rig, 'tokens_per_day')) ?? 0
      const stream = await open(`${rig.url}/stream`, { body: { prompt: 'hi', max_tokens: 5_000, ...body } })
      if (end) {
        await stream.until('"text":')
        await end(String(stream.headers['x-stream-id']))
      }
      const last = jsonFrames(
        (await stream.ended)
          .split('\n\n')
          .filter((frame) => frame.includes('data: {'))
          .map((frame) => ({ data: frame.slice(frame.indexOf('{')) })),
      ).at(-1) as { usage?: { input_tokens: number; output_tokens: number } }
      const { input_tokens = 0, output_tokens = 0 } = last?.usage ?? {}
      return [before - ((await leftOf(rig, 'tokens_per_day')) ?? 0), input_tokens + output_tokens]
    }
    const stop = (id: string) => fetchAll(`${rig.url}/streams/${id}`, { method: 'DELETE' })
    for (const [scenario, end] of [
      [{ text: 20 }],
      [{ text: 100_000, delay_ms: 5 }, stop],
      [{ text: 20, error_at: 10 }],
      [{ text: 20, end_at: 10 }],
    ] as const) {
      const [fell, told] = await charged({ model: sim(scenario) }, end)
      expect([scenario, fell > 0, fell]).toEqual([scenario, true, told])
    }
    const refused = await charged({ model: sim({ status: 400, error: 'invalid_request_error' }) })
    expect(refused).toEqual([0, 0])
  })

  it('is all requests of an answer that is gone on with', async () => {
    const rig = await limited({ tokens_per_day: 1e6 }, { SLUICE_RECOVERY__MAX_ATTEMPTS: '1' })
    const { frames } = await ask(rig, { ask: { model: sim({ text: 20, end_at: 12 }), max_tokens: 500 } })
    const done = jsonFrames(frames).at(-1) as { usage: { input_tokens: number; output_tokens: number } }
    expect(rig.simulator.requests).toHaveLength(2)
    const used = 1e6 - ((await leftOf(rig, 'tokens_per_day')) ?? 0)
    expect(used).toBe(done.usage.input_tokens + done.usage.output_tokens)
  })

  it('is the input of whoever hangs up before Claude has said a word', async () => {
    const rig = await limited({ tokens_per_day: 1e6, concurrent_streams: 1 })
    const body = { prompt: 'a'.repeat(30_000), model: sim({ text: 5, headers_ms: 60_000 }), on_disconnect: 'cancel' }
    const controller = new AbortController()
    const headers = { 'content-type': 'application/json' }
    const asked = fetch(`${rig.url}/stream`, {
      method: 'POST',
      body: JSON.stringify(body),
      headers,
      signal: controller.signal,
    })
    await eventually(() => rig.simulator.requests.length === 1)
    controller.abort()
    await expect(asked).rejects.toThrow()
    await eventually(async () => (await leftOf(rig, 'concurrent_streams')) === 1)
    const used = 1e6 - ((await leftOf(rig, 'tokens_per_day')) ?? 0)
    expect(used).toBeGreaterThanOrEqual(10_000)
    expect(used).toBeLessThan(10_100)
  })

  it('is nothing to whoever joins by a key, and joins are let in when nothing is left', async () => {
    const rig = await limited({ requests_per_minute: 1, tokens_per_day: 10, concurrent_streams: 1 })
    const headers = { 'idempotency-key': 'once' }
    const first = await begin(rig, {}, { headers })
    await first.until('"text"')
    const again = await begin(rig, {}, { headers })
    expect([again.status, again.headers['x-stream-id']]).toEqual([200, first.headers['x-stream-id']])
    expect((await begin(rig, { prompt: 'other' }, { headers })).status).toBe(422)
    expect((await begin(rig, {}, { headers: { 'idempotency-key': 'other' } })).status).toBe(429)
    // A key that was refused can be used later.
    await fetchAll(`${rig.url}/streams/${first.headers['x-stream-id']}`, { method: 'DELETE' })
    expect(await leftOf(rig, 'concurrent_streams')).toBe(1)
    for (const each of [first, again]) each.destroy()
  })

  it('is nothing for what is refused, before or after', async () => {
    const rig = await limited({ requests_per_minute: 2, concurrent_streams: 5 }, { SLUICE_STREAMS__MAX_STREAMS: '1' })
    expect((await ask(rig, { ask: { max_tokens: 'many' } })).status).toBe(400)
    const first = await begin(rig)
    expect((await ask(rig)).status).toBe(503)
    expect(await leftOf(rig, 'requests_per_minute')).toBe(1)
    first.destroy()
  })
})

describe('a client', () => {
  it('is told its limits on streams and on refusals, by headers that pages may read', async () => {
    const origin = 'https://app.example.com'
    const limits = { requests_per_minute: 2, concurrent_streams: 3, tokens_per_day: 1_000, usd_per_day: 0.5 }
    const more = { CORS_ORIGINS: origin, SLUICE_UPSTREAM__PRICES: prices }
    const rig = await limited(limits, more)
    const first = await ask(rig, { headers: { origin } })
    const policy =
      '"requests";q=2;w=60, "streams";q=3;qu="concurrent-requests", ' +
      '"tokens";q=1000;qu="tokens";w=86400, "spend";q=500000;qu="microdollars";w=86400'
    expect(first.headers['ratelimit-policy']).toBe(policy)
    expect(first.headers['ratelimit']).toMatch(
      /^"requests";r=1;t=30, "streams";r=2, "tokens";r=\d+;t=\d+, "spend";r=\d+;t=\d+$/,
    )
    expect(first.headers['access-control-expose-headers']).toMatch(/RateLimit, RateLimit-Policy/)
    await ask(rig)
    const refused = await ask(rig, { headers: { origin } })
    expect([refused.status, refused.headers['ratelimit-policy']]).toEqual([429, policy])
    expect(refused.headers['ratelimit']).toMatch(/^"requests";r=0;t=(59|60), "streams";r=3,/)
    const look = await fetchAll(`${rig.url}/limits`)
    expect([look.headers['ratelimit-policy'], look.headers['cache-control']]).toEqual([policy, 'no-store'])
    expect(JSON.parse(look.body)).toEqual({
      limits: [
        { limit: 'requests_per_minute', allowed: 2, left: 0, resets_in_s: expect.any(Number) },
        { limit: 'concurrent_streams', allowed: 3, left: 3, resets_in_s: null },
        { limit: 'tokens_per_day', allowed: 1_000, left: expect.any(Number), resets_in_s: expect.any(Number) },
        { limit: 'usd_per_day', allowed: 0.5, left: expect.any(Number), resets_in_s: expect.any(Number) },
      ],
    })
  })

  it('is told nothing where nothing is limited', async () => {
    const rig = await startRig()
    const { headers } = await ask(rig)
    expect([headers['ratelimit'], headers['ratelimit-policy']]).toEqual([undefined, undefined])
    expect(JSON.parse((await fetchAll(`${rig.url}/limits`)).body)).toEqual({ limits: [] })
  })

  it('of Anthropic counts tokens as requests, and knows what may be tried again', async () => {
    const rig = await limited({ requests_per_minute: 2, tokens_per_day: 1 })
    const client = new Anthropic({ apiKey: 'unused', baseURL: rig.url, logLevel: 'off' })
    const messages = [{ role: 'user' as const, content: 'hi' }]
    const counted = await client.messages.countTokens({ model: 'claude-sim', messages }).withResponse()
    expect(counted.response.headers.get('ratelimit')).toMatch(/^"requests";r=1;/)
    await client.messages.create({ model: priced, max_tokens: 50, messages })
    let asked = 0
    const counting: typeof fetch = (...args) => {
      asked++
      return fetch(...args)
    }
    const patient = client.withOptions({ fetch: counting, maxRetries: 2 })
    const budget = await patient.messages.create({ model: priced, max_tokens: 50, messages }).catch((error) => error)
    expect([budget.status, budget.error.error.type, asked]).toEqual([429, 'rate_limit_error', 1])
    const minute = await client
      .withOptions({ maxRetries: 0 })
      .messages.countTokens({ model: 'claude-sim', messages })
      .catch((error) => error)
    expect([minute.status, minute.headers.get('x-should-retry')]).toEqual([429, 'true'])
  })

  it('of OpenAI does not try a day again, either', async () => {
    const rig = await limited({ tokens_per_day: 1 })
    let asked = 0
    const counting: typeof fetch = (...args) => {
      asked++
      return fetch(...args)
    }
    const client = new OpenAI({ apiKey: 'unused', baseURL: `${rig.url}/v1`, fetch: counting, maxRetries: 2 })
    const messages = [{ role: 'user' as const, content: 'hi' }]
    await client.chat.completions.create({ model: priced, messages })
    const error = await client.chat.completions.create({ model: priced, messages }).catch((thrown) => thrown)
    expect([error.status, error.type, error.code, asked]).toEqual([
      429,
      'insufficient_quota',
      'token_budget_exhausted',
      2,
    ])
  })
})

it('is one limit for all replicas, and goes on as a share of it when Redis dies', async () => {
  await using redis = await startRedis()
  const env = { REDIS_URL: redis.url, SLUICE_ACCESS__FALLBACK_SHARE: '0.5' }
  const [one, other] = [await limited({ concurrent_streams: 2 }, env), await limited({ concurrent_streams: 2 }, env)]
  const streams = [await begin(one), await begin(other)]
  expect(streams.map(({ status }) => status)).toEqual([200, 200])
  expect([codeOf(await ask(one)), codeOf(await ask(other))]).toEqual([
    'too_many_concurrent_streams',
    'too_many_concurrent_streams',
  ])
  for (const stream of streams) stream.destroy()
  const stop = async ({ url }: Rig, id: unknown) => fetchAll(`${url}/streams/${id}`, { method: 'DELETE' })
  await stop(one, streams[0]?.headers['x-stream-id'])
  await stop(other, streams[1]?.headers['x-stream-id'])
  await eventually(async () => (await leftOf(one, 'concurrent_streams')) === 2)
  await redis.kill()
  const alone = await begin(one)
  expect([alone.status, (await ask(one)).status]).toEqual([200, 429])
  expect(one.log).toContainEqual(expect.objectContaining({ share: 0.5 }))
  await redis.start()
  await eventually(async () => (await leftOf(other, 'concurrent_streams')) === 1, 8_000)
  alone.destroy()
})
