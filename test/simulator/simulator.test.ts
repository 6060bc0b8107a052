import type { ClientRequest, IncomingMessage } from 'node:http'
import Anthropic from '@anthropic-ai/sdk'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { formats } from '../../src/formats/registry.ts'
import { type SeenRequest, Simulator } from '../../src/simulator/server.ts'
import { eventually, fetchAll, open, type StreamResponse } from '../support/client.ts'
import { decode, fold, parse } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'
import { sim } from '../support/sluice.ts'

let simulator: Simulator
beforeAll(async () => {
  simulator = await Simulator.start()
})
afterAll(() => simulator.close())

type Fields = Record<string, unknown>
const headers = { 'x-api-key': 'any' }
const ask = (model: string, more: Fields = {}) => ({
  model,
  max_tokens: 1_000,
  stream: true,
  messages: [{ role: 'user', content: 'hi' }],
  ...more,
})

const url = () => `${simulator.url}/v1/messages`
const post = (scenario: Record<string, string | number>, more?: Fields) =>
  fetchAll(url(), { headers, body: ask(sim(scenario), more) })

async function begin(scenario: Record<string, string | number>): Promise<StreamResponse> {
  const response = await open(url(), { headers, body: ask(sim(scenario)) })
  onTestFinished(() => response.destroy())
  return response
}

/** A response that is to be broken off: the request hears of it, too, and must not be alone with that. */
async function beginBroken(scenario: Record<string, string | number>): Promise<StreamResponse> {
  const response = await begin(scenario)
  const { req } = response.message as IncomingMessage & { req: ClientRequest }
  req.on('error', () => {})
  return response
}

const lastSeen = () => simulator.requests.at(-1) as SeenRequest
const dataOf = (body: string): Fields[] => parse(body).map(({ data }) => JSON.parse(data))
const typesOf = (body: string) => dataOf(body).map((event) => event['type'])
const textOf = (body: string) =>
  dataOf(body)
    .map((event) => (event['delta'] as Fields | undefined)?.['text'] ?? '')
    .join('')

describe('a request', () => {
  it.each([{ 'x-api-key': 'any' }, { authorization: 'Bearer any' }])('is let in with %j', async (headers) => {
    const { status, headers: answered } = await fetchAll(url(), { headers, body: ask('claude-sim') })
    expect(status).toBe(200)
    expect(answered).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'request-id': expect.stringMatching(/^req_sim_\d+$/),
    })
  })

  it.each([{}, { 'x-api-key': '' }, { authorization: 'Basic any' }])('is refused with %j', async (headers) => {
    const { status, body } = await fetchAll(url(), { headers, body: ask('claude-sim') })
    expect([status, JSON.parse(body).error.type]).toEqual([401, 'authentication_error'])
  })

  it.each<[string, Fields]>([
    ['without a model', { model: undefined }],
    ['without max_tokens', { max_tokens: undefined }],
    ['without messages', { messages: [] }],
    ['with an unknown scenario', { model: 'claude-sim?nonsense=1' }],
    ['with a wrong value', { model: 'claude-sim?text=-1' }],
  ])('is refused %s', async (_, fields) => {
    const { status, body } = await fetchAll(url(), { headers, body: ask('claude-sim', fields) })
    expect([status, JSON.parse(body).error.type]).toEqual([400, 'invalid_request_error'])
  })

  it('is refused on other routes, with other methods and for unknown recordings', async () => {
    expect((await fetchAll(`${simulator.url}/v1/nonsense`, { headers, body: {} })).status).toBe(404)
    expect((await fetchAll(url(), { headers })).status).toBe(405)
    expect((await post({ recording: 'nonsense' })).status).toBe(404)
  })

  it('is kept for tests to look at', async () => {
    const body = ask(sim({ text: 1 }), { metadata: { user_id: 'u' } })
    await fetchAll(`${url()}?beta=true`, { headers: { ...headers, 'anthropic-beta': 'b' }, body })
    expect(lastSeen()).toMatchObject({ method: 'POST', path: '/v1/messages', body, headers: { 'anthropic-beta': 'b' } })
    await eventually(() => lastSeen().finished)
    expect(lastSeen().abortedAt).toBeUndefined()
  })
})

describe('an answer', () => {
  it('is framed the way Anthropic does it', async () => {
    const { body } = await post({ text: 3, thinking: 2 })
    for (const frame of body.split('\n\n').slice(0, -1)) {
      const [, name, data] = /^event: (\w+)\ndata: (\{.*\})$/.exec(frame) ?? []
      expect(JSON.parse(data ?? '').type).toBe(name)
    }
    expect(body).toMatch(/ +\}\n/)
    const thinking = ['content_block_start', ...Array(3).fill('content_block_delta'), 'content_block_stop']
    const text = thinking
    const around = [
      ['message_start', 'ping'],
      ['message_delta', 'message_stop'],
    ] as const
    expect(typesOf(body)).toEqual([...around[0], ...thinking, ...text, ...around[1]])
  })

  it('says the same every time, and has as many deltas as were asked for', async () => {
    const [first, second] = await Promise.all([post({ text: 300 }), post({ text: 300 })])
    expect(textOf(first.body)).toBe(textOf(second.body))
    expect(textOf(first.body)).toMatch(/🌊.*水門/s)
    const deltas = dataOf(first.body).filter((event) => event['type'] === 'content_block_delta')
    expect(deltas).toHaveLength(300)
    expect((dataOf(first.body).at(-2) as Fields)['usage']).toEqual({ output_tokens: 300 })
  })

  it.each([...recordings])('replays %s byte for byte', async (recording, bytes) => {
    const bodies = await Promise.all([
      post({ recording }),
      post({ recording, per_write: 1 }),
      post({ recording, split: 997 }),
    ])
    for (const { body } of bodies) expect(Buffer.from(body).equals(bytes)).toBe(true)
  })

  it.each(
    [...recordings].filter(([, bytes]) => bytes.length < 10_000),
  )('replays %s in single bytes', async (recording, bytes) => {
    const { body } = await post({ recording, split: 1 })
    expect(Buffer.from(body).equals(bytes)).toBe(true)
  })

  it('ends at max_tokens', async () => {
    const { body } = await post({ text: 50 }, { max_tokens: 5 })
    const [delta] = dataOf(body).filter((event) => event['type'] === 'message_delta')
    expect(delta).toMatchObject({ delta: { stop_reason: 'max_tokens' }, usage: { output_tokens: 5 } })
  })

  it('calls no tool any more once it has ended at max_tokens', async () => {
    const { body } = await post({ text: 50, tool: 'weather' }, { max_tokens: 5 })
    expect(body).not.toContain('tool_use')
    expect(body).toContain('"stop_reason":"max_tokens"')
  })

  const weather = { name: 'weather', input_schema: { type: 'object' } }
  const input = { location: 'Zürich', unit: 'celsius', days: 3 }

  it('calls a tool that the prompt names, and no other', async () => {
    const tools = [{ name: 'other' }, weather]
    const { body } = await post({ text: 2 }, { tools, messages: [{ role: 'user', content: 'Use weather, please.' }] })
    expect(expectedOf(Buffer.from(body))).toMatchObject({ stopReason: 'tool_use', tools: [{ name: 'weather', input }] })
    const unasked = await post({ text: 2 }, { tools })
    expect(expectedOf(Buffer.from(unasked.body))).toMatchObject({ stopReason: 'end_turn', tools: [] })
  })

  it.each([
    ['plain text', '9 °C', '9 °C'],
    ['blocks', [{ type: 'text', text: '9 °C' }], '[{"type":"text","text":"9 °C"}]'],
  ])('quotes the result of a tool that came as %s, and calls none again', async (_, content, quoted) => {
    const messages = [
      { role: 'user', content: 'Use weather, please.' },
      { role: 'assistant', content: [{ type: 'tool_use', id: 'toolu_1', name: 'weather', input: {} }] },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 'toolu_1', content },
          { type: 'text', text: 'weather' },
        ],
      },
    ]
    const { body } = await post({}, { tools: [weather], messages })
    expect(textOf(body)).toContain(`The tool said: ${quoted}\n\n`)
    expect(expectedOf(Buffer.from(body))).toMatchObject({ stopReason: 'end_turn', tools: [] })
  })

  it.each([
    ['a picture in an error', { content: [{ type: 'image' }], is_error: true }, 'all content must be type'],
    ['an error without a word', { content: '', is_error: true }, 'content cannot be empty'],
    ['a blank in a result', { content: [{ type: 'text', text: ' ' }] }, 'must contain non-whitespace text'],
    ['a file in a citation', { citations: [{ file_id: null }] }, 'Extra inputs are not permitted'],
  ])('refuses %s, as Claude does', async (_, part, why) => {
    const said = 'citations' in part ? [{ type: 'text', text: 'x', ...part }] : []
    const result = { type: 'tool_result', tool_use_id: 'toolu_1', content: 'x', ...part }
    const messages = [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: [...said, { type: 'tool_use', id: 'toolu_1', name: 'weather', input: {} }] },
      { role: 'user', content: ['citations' in part ? { ...result, citations: undefined } : result] },
    ]
    const { status, body } = await fetchAll(`${simulator.url}/v1/messages`, {
      headers: { 'x-api-key': 'any' },
      body: { model: 'claude-sim', max_tokens: 9, tools: [weather], messages },
    })
    expect([status, body]).toEqual([400, expect.stringContaining(why)])
  })

  it('is one message without streaming', async () => {
    const { headers: answered, body } = await post({ text: 3, thinking: 2 }, { stream: false })
    const streamed = await post({ text: 3, thinking: 2 })
    expect(answered['content-type']).toBe('application/json')
    expect(JSON.parse(body)).toMatchObject({
      type: 'message',
      role: 'assistant',
      stop_reason: 'end_turn',
      usage: { output_tokens: 5 },
      content: [{ type: 'thinking' }, { type: 'text', text: textOf(streamed.body) }],
    })
  })

  it('has the input of its tool without streaming, too', async () => {
    const { body } = await post({ text: 1, tool: 'weather' }, { stream: false })
    expect(JSON.parse(body).content.at(-1)).toEqual({
      type: 'tool_use',
      id: expect.any(String),
      name: 'weather',
      input,
    })
  })

  it('has deltas of the size asked for, with the time in front', async () => {
    const { body } = await post({ text: 4, bytes: 100, stamp: 1 })
    for (const event of dataOf(body).filter((event) => event['type'] === 'content_block_delta')) {
      expect((event['delta'] as Fields)['text']).toMatch(/^@\d+;.{100}$/)
    }
  })

  it('is streamed by the official SDK', async () => {
    const client = new Anthropic({ apiKey: 'any', baseURL: simulator.url, maxRetries: 0 })
    const message = await client.messages
      .stream({
        model: sim({ text: 40, thinking: 3, tool: 'weather', split: 50 }),
        max_tokens: 100,
        messages: [{ role: 'user', content: 'hi' }],
      })
      .finalMessage()
    expect(message).toMatchObject({ role: 'assistant', stop_reason: 'tool_use', usage: { output_tokens: 55 } })
    expect(message.content.map((block) => block.type)).toEqual(['thinking', 'text', 'tool_use'])
    expect(message.content[2]).toMatchObject({ name: 'weather', input })
  })

  const ended = [...recordings].filter(([, bytes]) => expectedOf(bytes).whole && bytes.toString().endsWith('\n\n'))
  it.each(ended)('of %s is read by the official SDK', async (recording, bytes) => {
    const client = new Anthropic({ apiKey: 'any', baseURL: simulator.url, maxRetries: 0 })
    const stream = client.beta.messages.stream({
      model: sim({ recording }),
      max_tokens: 1,
      messages: [{ role: 'user', content: 'hi' }],
    })
    const { content, stop_reason } = await stream.finalMessage()
    const expected = expectedOf(bytes)
    expect(content.map((block) => (block.type === 'text' ? block.text : '')).join('')).toBe(expected.text)
    expect(stop_reason).toBe(expected.stopReason)
  })
})

describe('a fault', () => {
  it.each([
    [{ status: 400 }, 400, 'invalid_request_error'],
    [{ status: 429, retry_after: '7' }, 429, 'rate_limit_error'],
    [{ status: 503 }, 503, 'api_error'],
    [{ status: 529 }, 529, 'overloaded_error'],
    [{ status: 400, error: 'billing_error' }, 400, 'billing_error'],
  ])('%j is an answer with that status', async (scenario, status, type) => {
    const answer = await post(scenario)
    expect([answer.status, JSON.parse(answer.body).error.type]).toEqual([status, type])
    expect(answer.headers['retry-after']).toBe('retry_after' in scenario ? '7' : undefined)
  })

  it('has the message and the code that it is given', async () => {
    const { body } = await post({ status: 429, error_code: 'enforced_spend_limit_reached', message: 'No more.' })
    expect(JSON.parse(body)).toMatchObject({
      type: 'error',
      error: { message: 'No more.', details: { error_code: 'enforced_spend_limit_reached' } },
    })
  })

  it('location redirects', async () => {
    const { status, headers: answered } = await post({ status: 302, location: 'http://example.com/' })
    expect([status, answered['location']]).toEqual([302, 'http://example.com/'])
  })

  it('encoding claims one', async () => {
    expect((await post({ encoding: 'gzip' })).headers['content-encoding']).toBe('gzip')
  })

  it('error_at sends an error there, and ends', async () => {
    for (const at of [0, 1, 4]) {
      const { body } = await post({ text: 9, error_at: at, error: 'api_error' })
      const events = dataOf(body)
      expect(events).toHaveLength(at + 1)
      expect(events.at(-1)).toMatchObject({ type: 'error', error: { type: 'api_error' } })
      expect(body).toContain('event: error\n')
    }
  })

  it('end_at ends before that event, reset_at breaks off there', async () => {
    expect(dataOf((await post({ text: 9, end_at: 4 })).body)).toHaveLength(4)
    await eventually(() => lastSeen().finished)
    const reset = await beginBroken({ text: 9, reset_at: 4 })
    expect(dataOf(await reset.ended)).toHaveLength(4)
    expect([reset.message.complete, lastSeen().finished]).toEqual([false, false])
  })

  const [recording, bytes] = [...recordings][3] as [string, Buffer]
  it.each([
    0,
    1,
    100,
    777,
    bytes.length - 1,
    bytes.length,
  ])('end_at_byte and reset_at_byte stop at byte %i', async (at) => {
    const ended = await begin({ recording, end_at_byte: at })
    expect(Buffer.from(await ended.ended).equals(bytes.subarray(0, at))).toBe(true)
    expect(ended.message.complete).toBe(true)
    const reset = await beginBroken({ recording, reset_at_byte: at })
    expect(Buffer.from(await reset.ended).equals(bytes.subarray(0, at))).toBe(true)
    expect(reset.message.complete).toBe(false)
  })

  it('junk_at breaks the JSON of one event', async () => {
    const { body } = await post({ text: 9, junk_at: 4 })
    const valid = parse(body).map(({ data }) => {
      try {
        return Boolean(JSON.parse(data))
      } catch {
        return false
      }
    })
    expect(valid.indexOf(false)).toBe(4)
    expect(valid.lastIndexOf(false)).toBe(4)
  })

  it('unknown_at inserts what no SDK knows, and changes nothing else', async () => {
    const [plain, odd] = [await post({ text: 9 }), await post({ text: 9, unknown_at: 4 })]
    expect(textOf(odd.body)).toBe(textOf(plain.body))
    const inserted = dataOf(odd.body).slice(4, 8)
    expect(inserted[0]).toMatchObject({ type: 'weather_report' })
    expect(inserted.slice(1).map((event) => event['index'])).toEqual([900, 900, 900])
    expect(fold(formats.json, decode(odd.body) as never)).toContain('"hologram"')
  })

  it.each([
    ['crlf', '\r\n'],
    ['cr', '\r'],
    ['lf', '\n'],
  ])('lines=%s ends every line that way', async (lines, lineEnd) => {
    const { body } = await post({ recording, lines })
    expect(body).toBe(bytes.toString().replaceAll('\n', lineEnd))
  })

  it('silence_at stays open and silent, and sees the client hang up', async () => {
    const response = await begin({ text: 9, silence_at: 4 })
    await response.until(/(data: [\s\S]*){4}/)
    expect(dataOf(response.body)).toHaveLength(4)
    expect([simulator.open, lastSeen().abortedAt]).toEqual([expect.any(Number), undefined])
    const before = performance.now()
    response.destroy()
    expect(await eventually(() => lastSeen().abortedAt)).toBeGreaterThanOrEqual(before)
    expect(lastSeen().finished).toBe(false)
  })

  it('pings_at sends nothing but pings from there on', async () => {
    const response = await begin({ text: 9, pings_at: 3, ping_ms: 5 })
    await response.until(/(event: ping[\s\S]*){6}/)
    expect(new Set(typesOf(response.body).slice(3))).toEqual(new Set(['ping']))
  })

  it('endless_line_at sends a line that never ends', async () => {
    const response = await begin({ text: 9, endless_line_at: 2 })
    await response.until('x'.repeat(200_000))
    expect(response.body.split('\n\n')).toHaveLength(3)
    expect(response.body.split('\n\n')[2]).not.toContain('\n')
  })

  it('refuse breaks off before the headers', async () => {
    await expect(post({ refuse: 1 })).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  it('fail_first fails so often, then no more', async () => {
    const scenario = { status: 529, fail_first: 2, text: 1, delay_ms: 1 }
    const statuses = []
    for (let n = 0; n < 4; n++) statuses.push((await post(scenario)).status)
    expect(statuses).toEqual([529, 529, 200, 200])
  })

  it('headers_ms and first_ms let wait, with pings, and delay_ms paces', async () => {
    const begun = performance.now()
    const response = await begin({ text: 3, headers_ms: 30, first_ms: 40, ping_ms: 10, delay_ms: 10 })
    expect(performance.now() - begun).toBeGreaterThanOrEqual(29)
    const types = typesOf(await response.ended)
    expect(performance.now() - begun).toBeGreaterThanOrEqual(95)
    expect(types.slice(0, 4)).toEqual(['ping', 'ping', 'ping', 'message_start'])
  })

  it('is forgotten about a client that hangs up before the headers, which is seen', async () => {
    const { open: before } = simulator
    const gone = new AbortController()
    const answer = fetch(url(), {
      method: 'POST',
      headers,
      body: JSON.stringify(ask(sim({ headers_ms: 60_000 }))),
      signal: gone.signal,
    })
    const refused = expect(answer).rejects.toThrow()
    await eventually(
      () => (lastSeen().body as Fields)['model'] === sim({ headers_ms: 60_000 }) && simulator.open > before,
    )
    gone.abort()
    await refused
    expect(await eventually(() => lastSeen().abortedAt)).toBeGreaterThan(0)
    expect(simulator.open).toBe(before)
  })
})

it('applies its defaults to models that say nothing, and no more', async () => {
  const other = await Simulator.start({ defaults: { text: 2, delay_ms: 1 } })
  onTestFinished(() => other.close())
  const texts = async (model: string) =>
    dataOf((await fetchAll(`${other.url}/v1/messages`, { headers, body: ask(model) })).body).filter(
      (event) => event['type'] === 'content_block_delta',
    ).length
  expect([await texts('claude-sim'), await texts(sim({ text: 4 }))]).toEqual([2, 4])
})

it('tells how many requests it has had', async () => {
  const { body } = await fetchAll(`${simulator.url}/stats`)
  expect(JSON.parse(body)).toEqual({ requests: simulator.requests.length, open: simulator.open })
})
