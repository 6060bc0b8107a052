import { HttpAgent } from '@ag-ui/client'
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { formats } from '../../src/formats/registry.ts'
import { routeDescriptions } from '../../src/http/descriptions.ts'
import { fetchAll, jsonFrames, open, parseFrames } from '../support/client.ts'
import { serve } from '../support/serve.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

const secret = 'You work for Acme, and the code word is swordfish.'
const model = sim({ text: 5 })
const support = {
  description: 'Answers customers',
  model,
  system: secret,
  max_tokens: 50,
  temperature: 0.5,
  stop_sequences: ['END'],
  betas: ['context-1m-2025-08-07'],
  metadata: { user_id: 'site' },
  tools: [{ type: 'web_search_20260318', name: 'web_search', max_uses: 2 }],
}
const presets = { support, reader: { format: 'text', smooth: 'word', model }, spoken: { smooth: 'line', model } }

function settings(all: Record<string, object>): Record<string, string> {
  const named = ([name, preset]: [string, object]) => [`SLUICE_PRESETS__${name.toUpperCase()}`, JSON.stringify(preset)]
  return Object.fromEntries(Object.entries(all).map(named))
}

let rig: Rig
let confined: Rig
beforeAll(async () => {
  const env = settings(presets)
  rig = await openRig({ env })
  confined = await openRig({ env: { ...env, SLUICE_ACCESS__PRESETS_ONLY: 'true' } })
})
afterAll(async () => {
  for (const each of [rig, confined]) await each.close()
})
beforeEach(() => {
  for (const each of [rig, confined]) each.simulator.requests.length = 0
})

const hi = [{ role: 'user', content: 'hi' }]
const chatMessages = [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'hi' }] }]
const runInput = { threadId: 't', runId: 'r', state: {}, messages: [{ id: '1', ...hi[0] }], tools: [], context: [] }

interface Door {
  readonly path: string
  /** The body of a request in the name of a preset, with more in it. */
  body(preset: string | undefined, more?: object): object
}

/** Every POST that asks Claude something. */
const doors: Record<string, Door> = {
  '/stream': { path: '/stream', body: (preset, more) => ({ prompt: 'hi', preset, ...more }) },
  '/api/chat': { path: '/api/chat', body: (preset, more) => ({ messages: hi, preset, ...more }) },
  useChat: { path: '/api/chat', body: (preset, more) => ({ id: 'c', messages: chatMessages, preset, ...more }) },
  '/ag-ui': { path: '/ag-ui', body: (preset, more) => ({ ...runInput, forwardedProps: { preset, ...more } }) },
  '/v1/messages': {
    path: '/v1/messages',
    body: (model = 'claude-sim', more = {}) => ({ model, max_tokens: 9999, messages: hi, stream: true, ...more }),
  },
  '/v1/messages/count_tokens': {
    path: '/v1/messages/count_tokens',
    body: (model = 'claude-sim', more = {}) => ({ model, messages: hi, ...more }),
  },
  '/v1/chat/completions': {
    path: '/v1/chat/completions',
    body: (model = 'claude-sim', more = {}) => ({ model, max_tokens: 9999, messages: hi, stream: true, ...more }),
  },
}
const names = Object.keys(doors)
const post = (name: string, preset?: string, more?: object, to = rig) => {
  const { path, body } = doors[name] as Door
  return fetchAll(to.url + path, { body: body(preset, more) })
}
const sent = (to = rig) => to.simulator.requests.at(-1)?.body as Record<string, unknown>

/** The sentence of a failure, in whatever shape. */
function refusalIn(body: string): { code?: string; message: string } {
  return (JSON.parse(body) as { error: { code?: string; message: string } }).error
}

describe('a preset named', () => {
  it.each(names)('on %s says what Claude is asked', async (name) => {
    const answer = await post(name, 'support')
    expect(answer.status).toBe(200)
    const { description: _, betas, ...said } = support
    const { max_tokens, temperature, stop_sequences, metadata, ...counted } = said
    const asked = name.endsWith('count_tokens') ? counted : { ...said, stream: true }
    expect(sent()).toEqual({ ...asked, messages: [expect.objectContaining({ role: 'user' })] })
    expect(rig.simulator.requests.at(-1)?.headers['anthropic-beta']).toBe(betas.join())
    expect(rig.simulator.requests).toHaveLength(1)
    expect(answer.body).not.toContain('swordfish')
    if (name.endsWith('count_tokens')) return
    const line = rig.log.find(({ stream }) => stream === answer.headers['x-stream-id'])
    expect(line).toMatchObject({ preset: 'support', model })
  })

  it('on GET says the same, in every format', async () => {
    for (const format of Object.keys(formats)) {
      const answer = await fetchAll(`${rig.url}/stream?prompt=hi&preset=support&format=${format}`)
      expect([format, answer.status, sent()['system']]).toEqual([format, 200, secret])
      expect(answer.body).not.toContain('swordfish')
      const { headers } = answer
      const snapshot = await fetchAll(`${rig.url}/streams/${headers['x-stream-id']}`, {
        headers: { accept: 'application/json' },
      })
      expect(snapshot.body).not.toContain('swordfish')
    }
    expect(JSON.stringify(rig.log)).not.toContain('swordfish')
  })

  it('is the same to Claude by whichever route', async () => {
    const bodies = new Set<string>()
    for (const name of names.filter((each) => !each.endsWith('count_tokens'))) {
      await post(name, 'support')
      const { messages: _, ...rest } = sent()
      bodies.add(JSON.stringify(rest))
    }
    expect(bodies.size).toBe(1)
  })

  it('says how the answer comes, unless the client does', async () => {
    const first = await fetchAll(`${rig.url}/stream?prompt=hi&preset=reader`)
    const plain = await fetchAll(
      `${rig.url}/stream?prompt=hi&model=${encodeURIComponent(model)}&format=text&smooth=word`,
    )
    expect(first.frames.map(({ data }) => data)).toEqual(plain.frames.map(({ data }) => data))
    const chosen = await post('/stream', 'reader', { format: 'json' })
    expect(jsonFrames(chosen.frames).at(-1)).toMatchObject({ type: 'done' })
    for (const format of Object.keys(formats)) expect((await post('/stream', 'spoken', { format })).status).toBe(200)
    const started = await open(`${rig.url}/stream`, {
      headers: { accept: 'application/json' },
      body: { prompt: 'hi', preset: 'reader' },
    })
    expect(JSON.parse(await started.ended)).toMatchObject({
      events_url: expect.stringMatching(/\?format=text&smooth=word$/),
    })
  })

  it('says so for a resume, too', async () => {
    const first = await fetchAll(`${rig.url}/stream?prompt=hi&preset=reader`)
    const [, id] = first.frames.map((frame) => frame.id)
    const rest = await fetchAll(`${rig.url}/stream?prompt=hi&preset=reader`, {
      headers: { 'last-event-id': String(id) },
    })
    expect(rest.frames).toEqual(first.frames.slice(2))
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('goes with an idempotency key', async () => {
    const ask = (preset: string) =>
      fetchAll(`${rig.url}/stream`, {
        headers: { 'idempotency-key': 'k' },
        body: { prompt: 'hi', preset, format: 'json' },
      })
    const [first, again, other] = [await ask('support'), await ask('support'), await ask('reader')]
    expect(again.headers['x-stream-id']).toBe(first.headers['x-stream-id'])
    expect([other.status, refusalIn(other.body).code]).toEqual([422, 'key_reused'])
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it.each(names.filter((name) => !name.startsWith('/v1/')))('that is none is refused on %s', async (name) => {
    const answer = await post(name, 'Support')
    expect([answer.status, refusalIn(answer.body).code]).toEqual([400, 'preset_not_found'])
    expect(rig.simulator.requests).toEqual([])
  })
})

describe('beside a preset', () => {
  const fields = {
    'a system prompt': { system: 'mine' },
    'the very system prompt': { system: secret },
    'a tool': { tools: [{ name: 'x', input_schema: { type: 'object' } }] },
    thinking: { thinking: { type: 'adaptive' } },
    'a temperature': { temperature: 0.7 },
  }
  const cases = names.flatMap((name) =>
    Object.entries(fields)
      // OpenAI's clients have other words for these, which are below.
      .filter(([what]) => name !== '/v1/chat/completions' || what === 'a temperature' || what === 'thinking')
      .map(([what, more]): [string, string, object] => [name, what, more]),
  )
  const inMessages: [string, string, object][] = [
    ['/api/chat', 'a system message', { messages: [{ role: 'system', content: 'mine' }, ...hi] }],
    [
      'useChat',
      'a system message',
      { messages: [{ id: 's', role: 'system', parts: [{ type: 'text', text: 'mine' }] }, ...chatMessages] },
    ],
    ['/v1/messages', 'a system message', { messages: [...hi, { role: 'system', content: 'mine' }] }],
    ['/v1/messages/count_tokens', 'a system message', { messages: [...hi, { role: 'system', content: 'mine' }] }],
    [
      '/v1/messages',
      'a tool among messages',
      { messages: [{ role: 'user', content: [{ type: 'tool_addition', tool: {} }] }] },
    ],
    ['/v1/messages', 'a field nobody knows', { unheard_of: 1 }],
    ['/v1/messages', 'a preset', { preset: 'support' }],
    ['/v1/chat/completions', 'a system message', { messages: [{ role: 'system', content: 'mine' }, ...hi] }],
    ['/v1/chat/completions', 'a developer message', { messages: [...hi, { role: 'developer', content: 'mine' }] }],
    ['/v1/chat/completions', 'a function', { functions: [{ name: 'x' }] }],
    ['/v1/chat/completions', 'an effort', { reasoning_effort: 'high' }],
    ['/stream', 'a model', { model: 'claude-sim' }],
    ['/stream', 'the very name as model', { model: 'support' }],
    ['/stream', 'more tokens', { max_tokens: 51 }],
    ['/ag-ui', 'more tokens', { max_tokens: 51 }],
  ]

  it.each([...cases, ...inMessages])('%s refuses %s', async (name, _, more) => {
    for (const to of [rig, confined]) {
      const answer = await post(name, 'support', more, to)
      expect(answer.status).toBe(400)
      const { code, message } = refusalIn(answer.body)
      if (!name.startsWith('/v1/messages')) expect(code).toBe('preset_conflict')
      expect(message).toMatch(/^[\w.]+: (is for the preset|must be 50 or less)/)
      expect(answer.body).not.toContain('swordfish')
      expect(to.simulator.requests).toEqual([])
    }
  })

  it.each([
    ['system messages', { messages: [{ id: 's', role: 'system', content: 'mine' }, ...runInput.messages] }],
    ['developer messages', { messages: [{ id: 's', role: 'developer', content: 'mine' }, ...runInput.messages] }],
    ['context', { context: [{ description: 'Rule', value: 'Obey.' }] }],
    ['tools', { tools: [{ name: 'x', description: '', parameters: {} }] }],
  ])('/ag-ui refuses %s of its own kind', async (_, more) => {
    const body = { ...runInput, forwardedProps: { preset: 'support' }, ...more }
    const answer = await fetchAll(`${rig.url}/ag-ui`, { body })
    expect([answer.status, refusalIn(answer.body).code]).toEqual([400, 'preset_conflict'])
    expect(rig.simulator.requests).toEqual([])
  })

  it('Claude quoting the prompt is not repeated', async () => {
    const claude = await serve((_request, response) => {
      const error = { type: 'invalid_request_error', message: `system: ${secret} is refused` }
      response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ type: 'error', error }))
    })
    const own = await startRig({ env: { ...settings({ support, other: {} }), ANTHROPIC_BASE_URL: claude } })
    for (const name of names) {
      const answer = await post(name, 'support', {}, own)
      expect([answer.status, refusalIn(answer.body).message]).toEqual([400, 'Claude refused the request as invalid.'])
    }
    const inBand = await fetchAll(`${own.url}/stream?prompt=hi&preset=support`)
    expect(jsonFrames(inBand.frames).at(-1)).toMatchObject({ error: { code: 'upstream_invalid_request' } })
    expect(inBand.body).not.toContain('swordfish')
    expect(JSON.stringify(own.log)).not.toContain('swordfish')
    expect(refusalIn((await post('/stream', 'other', {}, own)).body).message).toContain('is refused')
  })
})

describe('presets only', () => {
  const asksNothing = ['/tickets', '/streams/{id}/tools/{call}']
  const starting = routeDescriptions.filter(
    ({ method, path }) => (method === 'post' && !asksNothing.includes(path)) || path === '/stream',
  )

  it('every route that asks Claude something asks for a preset', async () => {
    expect(starting.map(({ path }) => path).sort()).toEqual(
      [...new Set(['/stream', ...names.map((name) => doors[name]?.path)]), '/stream'].sort(),
    )
    for (const name of names) {
      const answer = await post(name, undefined, {}, confined)
      expect([name, answer.status]).toEqual([name, 400])
      expect(answer.body).toMatch(/preset/)
    }
    const get = await fetchAll(`${confined.url}/stream?prompt=hi`)
    expect([get.status, refusalIn(get.body).code]).toEqual([400, 'preset_required'])
    for (const path of ['/v1/models/claude-sim', '/v1/models/claude-sim?x=1'])
      expect((await fetchAll(confined.url + path)).status).toBe(400)
    expect(confined.simulator.requests).toEqual([])
  })

  it('the models are the presets, and Claude is not asked', async () => {
    const client = new Anthropic({ baseURL: confined.url, apiKey: 'x' })
    const ids: string[] = []
    for await (const each of client.models.list()) ids.push(each.id)
    expect(ids).toEqual(Object.keys(presets))
    expect(await client.models.retrieve('support')).toMatchObject({
      id: 'support',
      display_name: 'Answers customers',
      max_tokens: 50,
    })
    const compatible = new OpenAI({ baseURL: `${confined.url}/v1`, apiKey: 'x' })
    expect((await compatible.models.list()).data.map(({ id }) => id)).toEqual(ids)
    expect(JSON.stringify(await client.models.list())).not.toContain('swordfish')
    expect(confined.simulator.requests).toEqual([])
  })

  it('a default preset is what nobody has to name', async () => {
    const own = await startRig({
      env: { ...settings(presets), SLUICE_ACCESS__PRESETS_ONLY: 'true', SLUICE_ACCESS__DEFAULT_PRESET: 'reader' },
    })
    const first = await fetchAll(`${own.url}/stream?prompt=hi`)
    expect(first.body).not.toContain('"type"')
    const [, id] = first.frames.map((frame) => frame.id)
    const rest = await fetchAll(`${own.url}/stream?prompt=hi`, { headers: { 'last-event-id': String(id) } })
    expect(rest.frames).toEqual(first.frames.slice(2))
    const { status } = await fetchAll(`${own.url}/v1/chat/completions`, { body: { messages: hi } })
    expect([status, sent(own)['model']]).toEqual([200, model])
    expect((await post('/v1/messages', 'claude-sim', {}, own)).status).toBe(400)
  })
})

describe('official clients', () => {
  it("Anthropic's name a preset as their model", async () => {
    const client = new Anthropic({ baseURL: rig.url, apiKey: 'x', maxRetries: 0 })
    const ask = { model: 'support', max_tokens: 1024, messages: [{ role: 'user' as const, content: 'hi' }] }
    expect((await client.messages.create(ask)).type).toBe('message')
    expect((await client.messages.stream(ask).finalMessage()).stop_reason).not.toBeNull()
    expect(sent()).toMatchObject({ system: secret, model, max_tokens: 50 })
    expect(
      (await client.messages.countTokens({ model: 'support', messages: ask.messages })).input_tokens,
    ).toBeGreaterThan(0)
    await expect(client.messages.create({ ...ask, system: 'mine' })).rejects.toThrow(Anthropic.BadRequestError)
    const listed: string[] = []
    for await (const each of client.models.list({ limit: 2 })) listed.push(each.id)
    expect(listed).toEqual([...Object.keys(presets), 'claude-sim', 'claude-sim-2', 'claude-sim-1'])
  })

  it("OpenAI's do", async () => {
    const client = new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'x', maxRetries: 0 })
    const ask = { model: 'support', messages: [{ role: 'user' as const, content: 'hi' }] }
    expect((await client.chat.completions.create(ask)).choices).toHaveLength(1)
    expect(sent()).toMatchObject({ system: secret, max_tokens: 50 })
    const mine = { ...ask, messages: [{ role: 'system' as const, content: 'mine' }, ...ask.messages] }
    await expect(client.chat.completions.create(mine)).rejects.toMatchObject({
      code: 'preset_conflict',
      param: 'system',
    })
  })

  it("AG-UI's forwards its name", async () => {
    const agent = new HttpAgent({ url: `${confined.url}/ag-ui` })
    agent.messages = [{ id: '1', role: 'user', content: 'hi' }]
    const { newMessages } = await agent.runAgent({ forwardedProps: { preset: 'support' } })
    expect(newMessages).toHaveLength(1)
    expect(sent(confined)['system']).toBe(secret)
  })
})

describe('what the server allows', () => {
  const limits = {
    SLUICE_ACCESS__MODELS: 'claude-sim, claude-sim?text=5',
    SLUICE_ACCESS__MAX_TOKENS: '10000',
    SLUICE_ACCESS__SERVER_TOOLS: 'false',
    SLUICE_ACCESS__FORBIDDEN_FIELDS: 'mcp_servers, betas',
  }
  let capped: Rig
  beforeAll(async () => {
    capped = await openRig({ env: limits })
  })
  afterAll(() => capped.close())

  it.each(names)('holds on %s', async (name) => {
    capped.simulator.requests.length = 0
    const ask = (more: object) => post(name, undefined, more, capped)
    const tricks = [
      'Claude-sim',
      'claude-sim ',
      'claude-sim\u200b',
      'clаude-sim',
      'claude-sim?text=6',
      'claude-simulated',
    ]
    for (const model of tricks) {
      const answer = await ask({ model })
      expect([model, answer.status]).toEqual([model, 400])
      // What is no name at all is refused as that.
      if (!/^[\x21-\x7e]+$/.test(model) || name.startsWith('/v1/messages')) continue
      expect(refusalIn(answer.body).code).toBe('model_not_allowed')
    }
    if (!name.endsWith('count_tokens')) {
      const answer = await ask({ max_tokens: 10_001 })
      expect([answer.status, refusalIn(answer.body).message]).toEqual([
        400,
        'max_tokens: 10001 is more than the 10000 that this server allows (access.max_tokens)',
      ])
    }
    if (name !== '/v1/chat/completions') {
      const search = await ask({ tools: [{ type: 'web_search_20260318', name: 'web_search' }] })
      expect([search.status, refusalIn(search.body).message]).toEqual([
        400,
        expect.stringMatching(/^tools: web_search/),
      ])
      const servers = await ask({ mcp_servers: [{ type: 'url', url: 'https://example.com', name: 'x' }] })
      expect([servers.status, refusalIn(servers.body).message]).toEqual([400, expect.stringMatching(/^mcp_servers: /)])
      expect((await ask({ fallbacks: [{ model: 'claude-other' }] })).status).toBe(400)
    }
    expect(capped.simulator.requests).toEqual([])
    expect((await ask({ model: 'claude-sim' })).status).toBe(200)
    expect(capped.simulator.requests).toHaveLength(1)
  })

  it('holds for headers and lists', async () => {
    capped.simulator.requests.length = 0
    const body = { model: 'claude-sim', max_tokens: 5, messages: hi }
    const beta = await fetchAll(`${capped.url}/v1/messages`, { headers: { 'anthropic-beta': 'x' }, body })
    expect([beta.status, refusalIn(beta.body).message]).toEqual([400, expect.stringMatching(/^betas: /)])
    expect((await fetchAll(`${capped.url}/v1/models/claude-sim-2`)).status).toBe(400)
    expect(capped.simulator.requests).toEqual([])
    expect((await fetchAll(`${capped.url}/v1/models/claude-sim`)).status).toBe(200)
    const list = JSON.parse((await fetchAll(`${capped.url}/v1/models`)).body) as { data: { id: string }[] }
    expect(list.data.map(({ id }) => id)).toEqual(['claude-sim'])
  })

  it('is all there is to ask for by default', async () => {
    const search = { tools: [{ type: 'web_search_20260318', name: 'web_search' }], system: 'mine', betas: ['x'] }
    expect((await post('/stream', undefined, { ...search, model: 'claude-sim', max_tokens: 100_000 })).status).toBe(200)
    expect(parseFrames((await post('/v1/messages')).body).at(-1)?.data).toContain('message_stop')
  })
})
