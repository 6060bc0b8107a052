import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open, type RequestOptions, type StreamResponse } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

/** Who pays, and how much at most, by the numbers of docs/threat-model.md. */
const model = sim({ text: 4 })
const endless = sim({ text: 100_000, delay_ms: 20 })
const price = { input: 1_000, output: 1_000, cache_read: 1_000, cache_write_5m: 1_000, cache_write_1h: 1_000 }
const pricesOf = (...models: string[]) => JSON.stringify(Object.fromEntries(models.map((each) => [each, price])))
const priced = { SLUICE_UPSTREAM__PRICES: pricesOf('claude-sim', model, endless) }
const alice = holder('alice')

let redis: Redis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.close())

const limited = (limits: object, env: Record<string, string> = {}) =>
  startRig({ env: { SLUICE_ACCESS__LIMITS: JSON.stringify(limits), ...env }, logLevel: 'error' })

async function leftOf({ url }: Rig, limit: string, headers: Record<string, string> = {}): Promise<number> {
  const { limits } = JSON.parse((await fetchAll(`${url}/limits`, { headers })).body)
  return limits.find((each: { limit: string }) => each.limit === limit).left
}
const stop = ({ url }: Rig, { headers }: Pick<StreamResponse, 'headers'>) =>
  fetchAll(`${url}/streams/${headers['x-stream-id']}`, { method: 'DELETE' })
const together = <T>(count: number, act: (n: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, n) => act(n)))

describe('A3 spending all', () => {
  const max_tokens = 100
  /** What one of the requests below reserves at most. */
  const reservation = max_tokens + 50

  it.each([
    ['tokens in memory', { tokens_per_day: 1_000 }, 1, false],
    ['dollars in memory', { usd_per_day: 1 }, 1e-3, false],
    ['tokens in Redis', { tokens_per_day: 1_000 }, 1, true],
    ['dollars in Redis', { usd_per_day: 1 }, 1e-3, true],
  ])('A3 two hundred at once at the edge of a budget overspend by one reservation: %s', async (what, limits, unit, shared) => {
    const name = `a3-${what.replaceAll(' ', '-')}`
    const env = { ...priced, ...(shared && { REDIS_URL: redis.url, SLUICE_STORE__PREFIX: name }) }
    const rigs = [await limited(limits, env), ...(shared ? [await limited(limits, env)] : [])] as [Rig, ...Rig[]]
    const body = { prompt: 'hi', model: endless, max_tokens }
    const all = await together(200, (n) => open(`${rigs[n % rigs.length]?.url}/stream`, { body }))
    const begun = all.filter(({ status }) => status === 200)
    const limit = (Object.values(limits)[0] as number) / unit
    expect(begun.length * max_tokens).toBeLessThanOrEqual(limit + reservation)
    expect(begun.length).toBeGreaterThanOrEqual(Math.floor(limit / reservation))
    expect(all.filter(({ status }) => status === 429)).toHaveLength(200 - begun.length)
    expect(await leftOf(rigs[0], Object.keys(limits)[0] as string)).toBe(0)
    const asked = rigs.flatMap(({ simulator }) => simulator.requests).length
    expect(asked).toBe(begun.length)
    for (const each of all) each.destroy()
  })

  it.each([
    'constructor',
    'toString',
    '__defineGetter__',
    'valueOf',
  ])('A3 a block that is called %s does not make a budget endless', async (type) => {
    for (const env of [{}, { REDIS_URL: redis.url, SLUICE_STORE__PREFIX: `a3-${type}` }]) {
      const rig = await limited({ tokens_per_day: 500 }, env)
      const content = [{ type, source: { type: 'url', url: 'https://x' } }]
      const ask = (messages: object[]) => fetchAll(`${rig.url}/stream`, { body: { messages, model, max_tokens: 400 } })
      const odd = await ask([{ role: 'user', content }])
      expect([odd.status, odd.headers['ratelimit']]).toEqual([200, expect.stringMatching(/^"tokens";r=\d+;/)])
      await eventually(async () => (await leftOf(rig, 'tokens_per_day')) > 100)
      const statuses: number[] = []
      for (let n = 0; n < 60 && !statuses.includes(429); n++)
        statuses.push((await ask([{ role: 'user', content: 'a'.repeat(300) }])).status)
      expect(statuses.at(-1)).toBe(429)
    }
  })

  it('A3 what is hidden beside or within a picture is reserved like other text', async () => {
    const rig = await limited({ tokens_per_day: 1e6 })
    const long = 'a'.repeat(300_000)
    const file = { type: 'document', source: { type: 'file', file_id: 'f' } }
    const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: long } }
    for (const [content, least] of [
      [[{ ...file, context: long }], 100_000],
      [[{ type: 'tool_use', id: 'a', name: 'b', input: image }], 100_000],
    ] as const) {
      const before = await leftOf(rig, 'tokens_per_day')
      const stream = await open(`${rig.url}/stream`, {
        body: { messages: [{ role: 'user', content }], model: endless, max_tokens: 1 },
      })
      await stream.until('"start"')
      expect(before - (await leftOf(rig, 'tokens_per_day'))).toBeGreaterThanOrEqual(least)
      stream.destroy()
      await stop(rig, stream)
    }
  })

  it('A3 dollars are not spent under the price of a cheaper model, nor at a speed that has none', async () => {
    const rig = await limited({ usd_per_day: 100 }, priced)
    const body = { prompt: 'hi', model, max_tokens: 50 }
    for (const more of [
      { model: 'claude-dear' },
      { fallbacks: [{ model: 'claude-dear' }] },
      { fallbacks: 'default' },
      { speed: 'fast' },
      { fallbacks: [{ model, speed: 'fast' }] },
      { tools: [{ type: 'advisor_20260301', name: 'advisor', model: 'claude-dear' }] },
    ]) {
      const messages = [{ role: 'user', content: 'hi' }]
      const { prompt: _, ...rest } = { ...body, ...more }
      const answer = await fetchAll(`${rig.url}/v1/messages`, { body: { ...rest, messages } })
      expect([more, answer.status]).toEqual([more, 400])
      expect(answer.body).toMatch(/upstream\.prices/)
    }
    expect(rig.simulator.requests).toEqual([])
    expect(await leftOf(rig, 'usd_per_day')).toBe(100)
    expect((await fetchAll(`${rig.url}/stream`, { body })).status).toBe(200)
  })

  it('A3 a client that changes X-Forwarded-For, its connection and its headers has one budget', async () => {
    const rig = await limited({ requests_per_minute: 3 })
    const statuses = await together(30, async (n) => {
      const headers = {
        'x-forwarded-for': `192.0.2.${n}`,
        'x-real-ip': `192.0.2.${n}`,
        forwarded: `for=192.0.2.${n}`,
        'cf-connecting-ip': `192.0.2.${n}`,
        'user-agent': `agent ${n}`,
        'x-request-id': `r${n}`,
      }
      return (await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model }, headers })).status
    })
    expect(statuses.filter((status) => status === 200)).toHaveLength(3)
    expect(rig.simulator.requests).toHaveLength(3)
  })

  it('A3 everything that asks Claude counts, by whichever route', async () => {
    const rig = await limited({ requests_per_minute: 1 })
    const messages = [{ role: 'user', content: 'hi' }]
    const asks: [string, RequestOptions][] = [
      ['/v1/models', {}],
      ['/v1/models/claude-sim', {}],
      ['/stream?prompt=hi', {}],
      ['/stream', { body: { prompt: 'hi' } }],
      ['/api/chat', { body: { messages } }],
      [
        '/api/chat',
        { body: { id: 'c', messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'hi' }] }] } },
      ],
      ['/ag-ui', { body: { threadId: 't', runId: 'r', messages: [{ id: '1', role: 'user', content: 'hi' }] } }],
      ['/v1/messages', { body: { model, max_tokens: 9, messages } }],
      ['/v1/messages/count_tokens', { body: { model, messages } }],
      ['/v1/chat/completions', { body: { model, messages } }],
    ]
    expect((await fetchAll(`${rig.url}/v1/models`)).status).toBe(200)
    const asked = rig.simulator.requests.length
    for (const [path, options] of asks) {
      expect([path, (await fetchAll(rig.url + path, options)).status]).toEqual([path, 429])
    }
    expect(rig.simulator.requests).toHaveLength(asked)
  })

  it('A3 two hundred at once, of which half hang up at any moment, leave nothing behind', async () => {
    const limits = { concurrent_streams: 20, tokens_per_day: 1e9 }
    const rig = await limited(limits, { SLUICE_STREAMS__GRACE_MS: '0' })
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, rig.simulator.open)
    }, 1)
    const slow = sim({ text: 10, delay_ms: 5, headers_ms: 10 })
    await together(200, async (n) => {
      const stop = new AbortController()
      const timer = n % 2 === 0 ? setTimeout(() => stop.abort(), n % 61) : undefined
      const headers = { 'content-type': 'application/json', ...(n % 5 === 0 && { 'idempotency-key': `k${n % 20}` }) }
      const body = JSON.stringify({ prompt: 'hi', model: slow, max_tokens: 50, on_disconnect: 'cancel' })
      await fetch(`${rig.url}/stream`, { method: 'POST', headers, body, signal: stop.signal })
        .then((answer) => answer.text())
        .catch(() => undefined)
      clearTimeout(timer)
    })
    clearInterval(watch)
    await eventually(() => rig.app.streams.live === 0, 5_000)
    await eventually(async () => (await leftOf(rig, 'concurrent_streams')) === 20)
    // What a run that is being cancelled leaves open at the other end is gone a moment later.
    expect(most).toBeLessThanOrEqual(2 * limits.concurrent_streams)
    const used = 1e9 - (await leftOf(rig, 'tokens_per_day'))
    expect(used).toBeGreaterThan(0)
    expect(used).toBeLessThan(rig.simulator.requests.length * 100)
  })

  it('A3 an idempotency key joins for nothing, and one whose run failed is charged anew', async () => {
    const rig = await limited({ requests_per_minute: 2, concurrent_streams: 2 })
    const failing = sim({ status: 400, error: 'invalid_request_error', fail_first: 1 })
    const ask = () =>
      fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: failing }, headers: { 'idempotency-key': 'k' } })
    expect((await ask()).status).toBe(400)
    expect(await leftOf(rig, 'concurrent_streams')).toBe(2)
    const good = await ask()
    expect(good.status).toBe(200)
    for (let n = 0; n < 5; n++) expect((await ask()).headers['x-stream-id']).toBe(good.headers['x-stream-id'])
    expect(await leftOf(rig, 'requests_per_minute')).toBe(0)
    expect(rig.simulator.requests).toHaveLength(2)
  })
})

describe('A4 hanging up so as not to pay', () => {
  it.each([
    ['before headers', { headers_ms: 60_000 }, undefined],
    ['before the first token', { first_ms: 60_000, text: 5 }, undefined],
    ['after some tokens', { text: 100_000, delay_ms: 5 }, '"text":'],
  ] as const)('A4 whoever leaves %s is charged what he had', async (_, scenario, until) => {
    for (const on_disconnect of ['cancel', 'grace']) {
      const rig = await limited(
        { tokens_per_day: 1e6, concurrent_streams: 1 },
        { SLUICE_STREAMS__GRACE_MS: '50', SLUICE_STREAMS__COMMIT_AFTER_MS: '20' },
      )
      const stream = await open(`${rig.url}/stream`, {
        body: { prompt: 'a'.repeat(3_000), model: sim(scenario), max_tokens: 5_000, on_disconnect },
      })
      await eventually(() => rig.simulator.requests.length === 1)
      if (until) await stream.until(until)
      stream.destroy()
      await eventually(async () => (await leftOf(rig, 'concurrent_streams')) === 1)
      const used = 1e6 - (await leftOf(rig, 'tokens_per_day'))
      // A simulated Claude counts less input than the estimate has, once it counts at all.
      expect(used).toBeGreaterThan(until ? 0 : 999)
      expect(used).toBeLessThan(5_000)
      await eventually(() => rig.simulator.open === 0)
    }
  })
})

describe('A5 asking for too much', () => {
  const caps = {
    SLUICE_ACCESS__MAX_TOKENS: '9000',
    SLUICE_ACCESS__MAX_THINKING_TOKENS: '2000',
    SLUICE_ACCESS__MAX_MESSAGES: '3',
    SLUICE_ACCESS__MAX_IMAGES: '2',
    SLUICE_ACCESS__MAX_IMAGE_BYTES: '30',
    SLUICE_ACCESS__MAX_TOOLS: '1',
    SLUICE_ACCESS__SERVER_TOOLS: 'false',
    SLUICE_ACCESS__FORBIDDEN_FIELDS: 'betas,speed,service_tier,container',
  }
  const image = (bytes: number) => ({
    type: 'image',
    source: { type: 'base64', media_type: 'image/png', data: Buffer.alloc(bytes).toString('base64') },
  })
  const user = (...content: object[]) => ({ role: 'user', content })
  const words = user({ type: 'text', text: 'hi' })
  const tool = { name: 'x', input_schema: { type: 'object' } }

  let rig: Rig
  beforeAll(async () => {
    rig = await openRig({ env: caps, logLevel: 'error' })
  })
  afterAll(() => rig.close())

  const refused: [string, object][] = [
    ['tokens', { max_tokens: 9_001 }],
    ['a million tokens', { max_tokens: 1_000_000 }],
    ['thinking', { thinking: { type: 'enabled', budget_tokens: 2_001 } }],
    ['thinking in letters', { thinking: { type: 'enabled', budget_tokens: '999999' } }],
    ['messages', { messages: Array.from({ length: 4 }, () => words) }],
    ['images', { messages: [user(image(3), image(3), image(3))] }],
    ['images over several messages', { messages: [user(image(3), image(3)), user(image(3))] }],
    ['a large image', { messages: [user(image(31))] }],
    [
      'an image in the result of a tool',
      { messages: [user({ type: 'tool_result', tool_use_id: 'a', content: [image(31)] })] },
    ],
    [
      'an image in a document',
      { messages: [user({ type: 'document', source: { type: 'content', content: [image(31)] } })] },
    ],
    ['tools', { tools: [tool, { ...tool, name: 'y' }] }],
    ['a tool that Anthropic runs', { tools: [{ type: 'web_search_20260318', name: 'web_search' }] }],
    ['a server of tools', { mcp_servers: [{ type: 'url', url: 'https://evil.test', name: 'x' }] }],
    ['a million tokens of context', { betas: ['context-1m-2025-08-07'] }],
    ['more speed', { speed: 'fast' }],
    ['a tier', { service_tier: 'auto' }],
    ['the files of another', { container: 'container_1' }],
    ['tokens of a fallback', { fallbacks: [{ model: 'claude-sim', max_tokens: 9_001 }] }],
    [
      'thinking of a fallback',
      { fallbacks: [{ model: 'claude-sim', thinking: { type: 'enabled', budget_tokens: 9_999 } }] },
    ],
    ['speed of a fallback', { fallbacks: [{ model: 'claude-sim', speed: 'fast' }] }],
  ]

  it.each(refused)('A5 more %s than allowed is 400 on every route, and costs nothing', async (_, more) => {
    const { betas, ...rest } = more as { betas?: string[] }
    const body = { model: 'claude-sim', max_tokens: 100, messages: [words], ...rest }
    const beta: Record<string, string> = betas ? { 'anthropic-beta': betas.join() } : {}
    for (const [path, sent, headers] of [
      ['/stream', { ...body, ...(betas && { betas }) }, {}],
      ['/api/chat', { ...body, ...(betas && { betas }) }, {}],
      ['/v1/messages', body, beta],
      ['/v1/messages', { ...body, stream: true }, beta],
      ['/v1/messages/count_tokens', body, beta],
    ] as [string, object, Record<string, string>][]) {
      const answer = await fetchAll(rig.url + path, { body: sent, headers })
      expect([path, answer.status]).toEqual([path, 400])
      expect(answer.body).toMatch(/access\.|thinking|service_tier/)
    }
    expect(rig.simulator.requests).toEqual([])
  })

  it('A5 as much as is allowed goes through', async () => {
    const messages = [user(image(30), image(3)), words, words]
    const body = {
      model,
      max_tokens: 9_000,
      messages,
      tools: [tool],
      thinking: { type: 'enabled', budget_tokens: 2_000 },
    }
    expect((await fetchAll(`${rig.url}/v1/messages`, { body })).status).toBe(200)
    rig.simulator.requests.length = 0
  })
})

describe('A6 models that are not allowed', () => {
  let rig: Rig
  beforeAll(async () => {
    const env = {
      ...lettingIn(alice),
      SLUICE_ACCESS__MODELS: 'claude-opus-5-5,claude-sim',
      SLUICE_PRESETS__SUPPORT: JSON.stringify({ model: 'claude-secret', system: 'The word is swordfish.' }),
    }
    rig = await openRig({ env, logLevel: 'error' })
  })
  afterAll(() => rig.close())

  const name = 'claude-opus-5-5'
  const inserted = [
    ' ',
    '\t',
    '\0',
    '\u00a0',
    '\u200b',
    '\u2011',
    '\u00ad',
    '\ufeff',
    '\n',
    '*',
    '%20',
    '/',
    '?',
    '#',
    '.',
  ]
  const lookalike = fc.constantFrom(
    name.toUpperCase(),
    'Claude-opus-5-5',
    'claude-opus-5-5-20260101',
    'claude-opus-5',
    'anthropic/claude-opus-5-5',
    'claude‑opus‑5‑5',
    'сlaude-opus-5-5',
    'claude-opus-５-5',
    'claude-sim?text=1',
    'claude-secret',
    'default',
    '*',
    'claude-*',
    '../claude-opus-5-5',
    '__proto__',
    'constructor',
  )
  const changed = fc
    .tuple(fc.nat(name.length), fc.constantFrom(...inserted), fc.boolean())
    .map(([at, text, replaces]) => name.slice(0, at) + text + name.slice(at + (replaces ? 1 : 0)))
    .filter((each) => each !== name)

  it('A6 no name but those on the list reaches Claude, however it is written and wherever it stands', async () => {
    const messages = [{ role: 'user', content: 'hi' }]
    const asks: ((model: string) => [string, RequestOptions])[] = [
      (model) => ['/stream', { body: { prompt: 'hi', model } }],
      (model) => [`/stream?prompt=hi&model=${encodeURIComponent(model)}`, {}],
      (model) => ['/v1/messages', { body: { model, max_tokens: 9, messages } }],
      (model) => ['/v1/messages/count_tokens', { body: { model, messages } }],
      (model) => ['/v1/chat/completions', { body: { model, messages } }],
      (model) => [
        '/ag-ui',
        { body: { threadId: 't', runId: 'r', messages: [{ id: '1', ...messages[0] }], forwardedProps: { model } } },
      ],
      (model) => ['/stream', { body: { prompt: 'hi', fallbacks: [{ model }] } }],
      (model) => ['/stream', { body: { prompt: 'hi', fallbacks: model } }],
      (model) => ['/stream', { body: { prompt: 'hi', tools: [{ type: 'advisor_20260301', name: 'a', model }] } }],
      (model) => [`/v1/models/${encodeURIComponent(model)}`, {}],
    ]
    await fc.assert(
      fc.asyncProperty(fc.oneof(lookalike, changed), fc.constantFrom(...asks), async (each, ask) => {
        const [path, options] = ask(each)
        const { status } = await fetchAll(rig.url + path, { ...options, headers: alice.bearer })
        expect(status === 400 || (status === 404 && path.startsWith('/v1/models'))).toBe(true)
        expect(rig.simulator.requests).toEqual([])
      }),
      { numRuns: 400 },
    )
  })

  it('A6 the names on the list do', async () => {
    for (const model of [name, 'claude-sim']) {
      const { status } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model }, headers: alice.bearer })
      expect([model, status]).toEqual([model, 200])
    }
    rig.simulator.requests.length = 0
  })

  it('A6 a ticket for one preset leads to no model and no other preset, and to no list of them', async () => {
    const { ticket } = JSON.parse(
      (await fetchAll(`${rig.url}/tickets`, { headers: alice.bearer, body: { preset: 'support' } })).body,
    )
    const at = (query: string) => fetchAll(`${rig.url}/stream?prompt=hi&ticket=${ticket}${query}`)
    for (const query of [
      '',
      '&model=claude-sim',
      '&preset=other',
      '&preset=support&model=claude-sim',
      '&preset=support&system=x',
      '&preset=support&max_tokens=99999',
      '&preset=Support',
      '&preset=support&preset=other',
    ]) {
      const answer = await at(query)
      expect([query, answer.status]).toEqual([query, 400])
      expect(answer.body).not.toContain('swordfish')
    }
    expect(rig.simulator.requests).toEqual([])
    const good = await at('&preset=support')
    expect([good.status, rig.simulator.requests.length]).toEqual([200, 1])
    expect(good.body).not.toContain('swordfish')
    rig.simulator.requests.length = 0
  })
})

describe('A22 limits that go when Redis does', () => {
  it('A22 each replica lets in its share, and no more, while Redis is away', async () => {
    await using own = await startRedis()
    const env = { REDIS_URL: own.url, SLUICE_ACCESS__FALLBACK_SHARE: '0.25' }
    const rigs = [await limited({ requests_per_minute: 20 }, env), await limited({ requests_per_minute: 20 }, env)]
    expect((await fetchAll(`${rigs[0]?.url}/limits`)).status).toBe(200)
    await own.kill()
    for (const rig of rigs) {
      const answers = await together(60, () => fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } }))
      const count = (status: number) => answers.filter((each) => each.status === status).length
      expect([count(200), count(429)]).toEqual([5, 55])
      expect(rig.simulator.requests).toHaveLength(5)
    }
  })

  it('A22 a budget that was spent stays spent, with every new connection and principal that comes', async () => {
    await using own = await startRedis()
    const env = {
      REDIS_URL: own.url,
      ...lettingIn(alice, holder('bob')),
      SLUICE_ACCESS__TOTAL_LIMITS: '{"tokens_per_day":10}',
    }
    const rig = await limited({}, env)
    const ask = () => fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model }, headers: alice.bearer })
    expect((await ask()).status).toBe(200)
    await eventually(async () => (await ask()).status === 429)
    await own.kill()
    const answers = await together(50, ask)
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 429))
  })
})
