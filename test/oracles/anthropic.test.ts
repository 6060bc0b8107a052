import { once } from 'node:events'
import { request } from 'node:http'
import Anthropic, { APIError, APIUserAbortError } from '@anthropic-ai/sdk'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, fetchAll, open, parseFrames } from '../support/client.ts'
import { expectedOf, parseRecording, recordings } from '../support/recordings.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

let rig: Rig
beforeAll(async () => {
  // The SDK drops an event without a blank line behind it, Sluice does not; here both get one.
  const ended = [...recordings].map(([name, bytes]) => [name, Buffer.concat([bytes, Buffer.from('\n\n')])] as const)
  rig = await openRig({ simulator: { recordings: new Map(ended) } })
})
afterAll(() => rig.close())

// biome-ignore lint/suspicious/noExplicitAny: the oracle reads raw JSON, unlike the code it judges
type Json = any

const clientAt = (baseURL: string) => new Anthropic({ apiKey: 'client-key', baseURL, maxRetries: 0, logLevel: 'off' })
const viaSluice = (at = rig) => clientAt(at.url)
const direct = () => clientAt(rig.simulator.url)
const ask = (model: string, more: object = {}): Anthropic.MessageCreateParamsNonStreaming => ({
  model,
  max_tokens: 1_000,
  messages: [{ role: 'user', content: 'hi' }],
  ...more,
})
const lastSeen = (at = rig): Json => at.simulator.requests.at(-1)

interface Heard {
  readonly events: Json[]
  /** What the iterator threw. */
  readonly error?: Json
}

async function listen(client: Anthropic, model: string, more: object = {}): Promise<Heard> {
  const events: Json[] = []
  try {
    for await (const event of await client.messages.create({ ...ask(model, more), stream: true })) events.push(event)
    return { events }
  } catch (error) {
    return { events, error }
  }
}

const failureOf = (promise: Promise<unknown>): Promise<Json> =>
  promise.then(
    () => expect.unreachable('it did not fail'),
    (error: unknown) => error,
  )
/** What of an error does not depend on who answered. */
const essence = (error: Json) => error && { name: error.constructor.name, status: error.status, type: error.type }

describe.each([...recordings.keys()])('the SDK with %s', (name) => {
  const model = sim({ recording: name })
  const expected = expectedOf(recordings.get(name) as Buffer)
  const { whole } = expected
  const itWhen = (condition: boolean) => (condition ? it : () => {})

  it('iterates over the same events as without Sluice', async () => {
    const [ours, theirs] = [await listen(viaSluice(), model), await listen(direct(), model)]
    expect(ours.events).toEqual(theirs.events)
    expect(ours.events.length).toBeGreaterThan(1)
    expect(essence(ours.error)).toEqual(essence(theirs.error))
  })

  it('reads events under their names, each with an id', async () => {
    const { body } = await fetchAll(`${rig.url}/v1/messages`, { body: { ...ask(model), stream: true } })
    const frames = parseFrames(body)
    const recorded = parseRecording(recordings.get(name) as Buffer).filter(
      ({ type }) => type !== 'ping' && type !== 'error',
    )
    const content = frames.filter(({ event }) => event !== 'error')
    expect(content.map(({ data }) => JSON.parse(data ?? ''))).toEqual(recorded)
    expect(content.map(({ event }) => event)).toEqual(recorded.map(({ type }) => type))
    expect(frames.every(({ id }) => id !== undefined)).toBe(true)
    expect(body).not.toContain('[DONE]')
  })

  itWhen(whole)('makes the same message of them', async () => {
    const ours = await viaSluice().messages.stream(ask(model)).finalMessage()
    expect(ours).toEqual(await direct().messages.stream(ask(model)).finalMessage())
    // Only the beta stream knows the tools of MCP servers.
    const beta = await viaSluice().beta.messages.stream(ask(model)).finalMessage()
    expect(beta).toEqual(await direct().beta.messages.stream(ask(model)).finalMessage())
    const blocks: Json[] = beta.content
    const of = (type: string) => blocks.filter((block) => block.type === type)
    expect(of('text').flatMap((block) => block.citations ?? [])).toEqual(expected.citations)
    expect(of('thinking').map((block) => block.signature)).toEqual(expected.signatures)
    const calls = blocks.filter(({ type }) => /tool_use$/.test(type))
    expect(calls.map(({ id, name, input }) => ({ id, name, input }))).toEqual(expected.tools)
    expect(ours.stop_reason).toBe(expected.stopReason)
    expect(ours.usage).toMatchObject(expected.usage)
  })

  itWhen(whole)('gets the same message without streaming', async () => {
    const ours = await viaSluice().messages.create(ask(model))
    expect(ours).toEqual(await direct().messages.create(ask(model)))
    const { parsed_output: _, ...streamed }: Json = await direct().beta.messages.stream(ask(model)).finalMessage()
    expect(ours).toEqual(streamed)
    expect(lastSeen().body.stream ?? false).toBe(true)
  })

  itWhen(!whole)('fails in the same way', async () => {
    const failed = await failureOf(viaSluice().messages.stream(ask(model)).finalMessage())
    const theirs = await failureOf(direct().messages.stream(ask(model)).finalMessage())
    expect(essence(failed)).toEqual(essence(theirs))
    const unstreamed = await failureOf(viaSluice().messages.create(ask(model)))
    expect(essence(unstreamed)).toEqual({ name: 'OverloadedError', status: 529, type: 'overloaded_error' })
  })
})

describe('what goes to Claude', () => {
  it('is the body as the client wrote it, unknown fields and their order included', async () => {
    const body = {
      zeta: { b: [1, null, { c: 'ü\u2028' }], a: false },
      system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral', ttl: '1h' } }],
      ...ask('claude-sim?text=1'),
      temperature: 0.5,
      metadata: { user_id: 'u' },
      tools: [{ input_schema: { type: 'object', properties: { z: {}, a: {} } }, name: 'x', later: 1 }],
      context_management: { edits: [] },
    }
    await listen(viaSluice(), body.model, body)
    const { stream, ...seen } = lastSeen().body
    expect(stream).toBe(true)
    const { model, max_tokens, messages, ...rest } = body
    expect(JSON.stringify(seen)).toBe(JSON.stringify({ model, max_tokens, messages, ...rest }))
  })

  it('has the betas and the version of the client', async () => {
    const betas = ['context-1m-2025-08-07', 'some-beta-2026-01-01']
    const headers = { 'anthropic-version': '2023-06-01' }
    await viaSluice().beta.messages.create({ ...ask('claude-sim?text=1'), betas }, { headers })
    expect(lastSeen().headers).toMatchObject({ 'anthropic-beta': betas.join(','), 'anthropic-version': '2023-06-01' })
    await listen(viaSluice(), 'claude-sim?text=1')
    expect(lastSeen().headers['anthropic-version']).toBe('2026-10-21')
    expect(lastSeen().headers).not.toHaveProperty('anthropic-beta')
  })

  it('has no key of the client’s, in whichever header it comes', async () => {
    const clients = [
      viaSluice(),
      new Anthropic({ authToken: 'client-key', apiKey: null, baseURL: rig.url }),
      new Anthropic({
        apiKey: 'x',
        baseURL: rig.url,
        defaultHeaders: { 'x-api-key': 'client-key', authorization: null },
      }),
    ]
    for (const client of clients) {
      await client.messages.create(ask('claude-sim?text=1'))
      expect(JSON.stringify(lastSeen().headers)).not.toContain('client-key')
      expect(JSON.stringify(lastSeen().headers)).toContain('test-key')
    }
  })

  it('is what Claude Code and LangChain send, too', async () => {
    const body = {
      ...ask(sim({ text: 3 })),
      stream: true,
      system: [
        { type: 'text', text: 'You are Claude Code.', cache_control: { type: 'ephemeral' } },
        { type: 'text', text: 'Be brief.' },
      ],
      messages: [{ role: 'user', content: [{ type: 'text', text: 'hi', cache_control: { type: 'ephemeral' } }] }],
      thinking: { type: 'enabled', budget_tokens: 1024 },
      metadata: { user_id: 'user_1_account__session_2' },
      mcp_servers: [],
    }
    const headers = {
      'x-api-key': 'client-key',
      'anthropic-version': '2023-06-01',
      'anthropic-beta': 'claude-code-20250219, interleaved-thinking-2025-05-14',
      'anthropic-dangerous-direct-browser-access': 'true',
      'user-agent': 'claude-cli/2.0.0 (external, cli)',
      'x-app': 'cli',
      cookie: 'session=1',
    }
    const { status, frames } = await fetchAll(`${rig.url}/v1/messages?beta=true`, { body, headers })
    expect(status).toBe(200)
    expect(frames.at(-1)?.event).toBe('message_stop')
    const seen = lastSeen()
    expect(seen.body).toEqual(body)
    expect(seen.headers['anthropic-beta']).toBe('claude-code-20250219,interleaved-thinking-2025-05-14')
    expect(seen.headers).not.toHaveProperty('x-app')
    expect(seen.headers).not.toHaveProperty('cookie')
    expect(seen.headers['user-agent']).not.toContain('claude-cli')
  })

  it('is nothing when the body has in it what belongs into a header', async () => {
    const count = rig.simulator.requests.length
    for (const more of [{ betas: 'x' }, { version: 'x\r\ny: z' }, { user_profile_id: 1 }, { workspace_id: {} }]) {
      const { status, body } = await fetchAll(`${rig.url}/v1/messages`, { body: ask('claude-sim', more) })
      expect(status).toBe(400)
      expect(JSON.parse(body).error).toMatchObject({
        type: 'invalid_request_error',
        message: expect.stringContaining('header'),
      })
    }
    expect(rig.simulator.requests).toHaveLength(count)
  })
})

describe('what comes from Claude', () => {
  it('is passed on when nobody knows it yet', async () => {
    const model = sim({ recording: 'vercel-ai__text', unknown_at: 3 })
    const [ours, theirs] = [await listen(viaSluice(), model), await listen(direct(), model)]
    expect(ours.events).toEqual(theirs.events)
    expect(ours.events.map(({ type }) => type)).toContain('weather_report')
    expect(ours.events).toContainEqual({
      type: 'content_block_delta',
      index: 900,
      delta: { type: 'voxel_delta', voxels: 64, colour: 'blue' },
    })
  })

  it('comes with an id for the request', async () => {
    const { request_id, response } = await viaSluice().messages.create(ask('claude-sim?text=1')).withResponse()
    expect(request_id).toMatch(/^req_/)
    expect(response.headers.get('x-request-id')).toBe(request_id)
  })

  it('is kept alive with pings that have no id', async () => {
    const idle = await startRig({ env: { SLUICE_STREAMS__HEARTBEAT_MS: '20' } })
    const model = sim({ text: 2, delay_ms: 150 })
    const { frames } = await fetchAll(`${idle.url}/v1/messages`, { body: { ...ask(model), stream: true } })
    const pings = frames.filter(({ event }) => event === 'ping')
    expect(pings.length).toBeGreaterThan(2)
    for (const ping of pings) expect(ping).toEqual({ event: 'ping', data: '{"type": "ping"}' })
    const { events } = await listen(viaSluice(idle), model)
    expect(events.map(({ type }) => type)).not.toContain('ping')
    expect(events).toHaveLength(7)
  })
})

describe('errors before the stream', () => {
  const same = [400, 404, 413, 429, 504, 529]
  it.each(same)('with status %i are what they are without Sluice', async (status) => {
    const model = sim({ status })
    for (const stream of [true, false]) {
      const ours = await failureOf(viaSluice().messages.create({ ...ask(model), stream }))
      const theirs = await failureOf(direct().messages.create({ ...ask(model), stream }))
      expect(essence(ours)).toEqual(essence(theirs))
      expect(ours.requestID).toMatch(/^req_/)
      expect(ours.error).toMatchObject({ type: 'error', error: { message: expect.any(String) } })
    }
  })

  it.each([
    [401, 'InternalServerError', 502, 'api_error'],
    [402, 'PaymentRequiredError', 402, 'billing_error'],
    [403, 'InternalServerError', 502, 'api_error'],
    [409, 'BadRequestError', 400, 'invalid_request_error'],
    [422, 'BadRequestError', 400, 'invalid_request_error'],
    [500, 'InternalServerError', 502, 'api_error'],
    [503, 'OverloadedError', 529, 'overloaded_error'],
  ])('with status %i are %s %i', async (upstream, name, status, type) => {
    const error = await failureOf(viaSluice().messages.create(ask(sim({ status: upstream }))))
    expect(essence(error)).toEqual({ name, status, type })
  })

  it('tell how long to wait, and the SDK waits and asks again', async () => {
    const error = await failureOf(viaSluice().messages.create(ask(sim({ status: 429, retry_after: '7' }))))
    expect(error.headers.get('retry-after')).toBe('7')
    expect(error.headers.get('x-should-retry')).toBe('true')
    const model = sim({ status: 429, retry_after: '1', fail_first: 1, text: 1 })
    const patient = new Anthropic({ apiKey: 'x', baseURL: rig.url, maxRetries: 1 })
    expect((await patient.messages.create(ask(model))).stop_reason).toBe('end_turn')
  })

  it('are not retried by the SDK where that cannot help', async () => {
    const count = rig.simulator.requests.length
    const patient = new Anthropic({ apiKey: 'x', baseURL: rig.url, maxRetries: 2 })
    await failureOf(patient.messages.create(ask(sim({ status: 401 }))))
    expect(rig.simulator.requests).toHaveLength(count + 1)
  })

  it.each([
    [{ messages: [] }, 'messages'],
    [{ max_tokens: 'many' }, 'max_tokens'],
    [{ model: '' }, 'model'],
  ])('of our own have the same shape: %j', async (more, field) => {
    const error = await failureOf(viaSluice().messages.create(ask('claude-sim', more)))
    expect(essence(error)).toEqual({ name: 'BadRequestError', status: 400, type: 'invalid_request_error' })
    expect(error.apiMessage).toContain(field)
    expect(error.error.request_id).toBe(error.requestID)
  })
})

describe('errors in the stream', () => {
  it('end it with an overload behind the events before it', async () => {
    const model = sim({ recording: 'vercel-ai__text', error_at: 6 })
    const [ours, theirs] = [await listen(viaSluice(), model), await listen(direct(), model)]
    expect(ours.events).toEqual(theirs.events)
    expect(ours.error).toBeInstanceOf(APIError)
    expect(essence(ours.error)).toEqual(essence(theirs.error))
    expect(ours.error.type).toBe('overloaded_error')
  })

  it.each([
    { end_at: 6 },
    { reset_at: 6 },
    { junk_at: 6 },
  ])('are told where the SDK would see none: %j', async (fault) => {
    const model = sim({ recording: 'vercel-ai__text', ...fault } as Record<string, string | number>)
    const { events, error } = await listen(viaSluice(), model)
    expect(error).toBeInstanceOf(APIError)
    expect(error.type).toBe('api_error')
    expect(events).toEqual((await listen(direct(), sim({ recording: 'vercel-ai__text', end_at: 6 }))).events)
  })

  it('are told when the stream is stopped from elsewhere', async () => {
    const slow = await open(`${rig.url}/v1/messages`, { body: { ...ask(sim({ delay_ms: 20 })), stream: true } })
    await slow.until('text_delta')
    await fetchAll(`${rig.url}/streams/${slow.headers['x-stream-id']}`, { method: 'DELETE' })
    const last = parseFrames(await slow.ended).at(-1)
    expect(last?.event).toBe('error')
    expect(JSON.parse(last?.data ?? '')).toMatchObject({ type: 'error', error: { type: 'api_error' } })
  })
})

describe('an abort', () => {
  it('cancels upstream at once, while it streams', async () => {
    const stream = viaSluice().messages.stream(ask(sim({ text: 500, delay_ms: 10 })))
    const texts: string[] = []
    stream.on('text', (text) => void texts.push(text))
    await eventually(() => texts.length > 2)
    const seen = lastSeen()
    const at = performance.now()
    stream.abort()
    await expect(stream.done()).rejects.toBeInstanceOf(APIUserAbortError)
    expect((await eventually(() => seen.abortedAt)) - at).toBeLessThan(500)
  })

  it.each([true, false])('cancels upstream before it has answered (stream: %s)', async (stream) => {
    const { signal, abort } = abortable()
    const count = rig.simulator.requests.length
    const asked = viaSluice().messages.create({ ...ask(sim({ headers_ms: 5_000 })), stream }, { signal })
    await eventually(() => rig.simulator.requests.length > count)
    const seen = lastSeen()
    abort()
    expect(await failureOf(asked)).toBeInstanceOf(APIUserAbortError)
    await eventually(() => seen.abortedAt)
  })

  function abortable() {
    const controller = new AbortController()
    return { signal: controller.signal, abort: () => controller.abort() }
  }
})

describe('the other routes', () => {
  it('count tokens as without Sluice', async () => {
    const { max_tokens: _, ...body } = ask('claude-sim')
    const ours = await viaSluice().messages.countTokens(body)
    expect(ours).toEqual(await direct().messages.countTokens(body))
    expect(ours.input_tokens).toBeGreaterThan(1)
    await viaSluice().beta.messages.countTokens({ ...body, betas: ['some-beta-2026-01-01'] })
    expect(lastSeen()).toMatchObject({ path: '/v1/messages/count_tokens', body })
    expect(lastSeen().headers['anthropic-beta']).toContain('some-beta-2026-01-01')
  })

  it('list models as without Sluice, page by page', async () => {
    const all = async (client: Anthropic) => {
      const models: Json[] = []
      for await (const model of client.models.list({ limit: 2, lifecycle: ['active'] })) models.push(model)
      return models
    }
    const ours = await all(viaSluice())
    expect(lastSeen().query).toBe('limit=2&lifecycle%5B%5D=active&after_id=claude-sim-2')
    expect(ours).toEqual(await all(direct()))
    expect(ours.map(({ id }) => id)).toEqual(['claude-sim', 'claude-sim-2', 'claude-sim-1'])
    expect((await viaSluice().beta.models.list()).data).toHaveLength(3)
  })

  it('describe a model, and do not know what there is not', async () => {
    expect(await viaSluice().models.retrieve('claude-sim')).toEqual(await direct().models.retrieve('claude-sim'))
    const [ours, theirs] = [viaSluice(), direct()].map((client) => failureOf(client.models.retrieve('claude-x')))
    expect(essence(await ours)).toEqual(essence(await theirs))
    expect((await ours).status).toBe(404)
    const count = rig.simulator.requests.length
    expect(await statusOf('/v1/models/%2e%2e')).toBe(400)
    expect(rig.simulator.requests).toHaveLength(count)
  })

  /** A URL would lose its dots before it is sent. */
  async function statusOf(path: string): Promise<number | undefined> {
    const { hostname, port } = new URL(rig.url)
    const [response] = await once(request({ hostname, port, path, agent: false }).end(), 'response')
    response.resume()
    return response.statusCode
  }

  it.each([
    { 'anthropic-beta': 'b'.repeat(5_000) },
    { 'anthropic-version': 'latest' },
  ])('refuse a dialect that they cannot pass on', async (headers) => {
    const error = await failureOf(viaSluice().messages.create(ask('claude-sim'), { headers } as Json))
    expect(essence(error)).toEqual({ name: 'BadRequestError', status: 400, type: 'invalid_request_error' })
  })

  it('answer failures in Anthropic’s shape', async () => {
    const error = await failureOf(viaSluice().messages.countTokens({ model: '', messages: [] }))
    expect(essence(error)).toEqual({ name: 'BadRequestError', status: 400, type: 'invalid_request_error' })
  })
})
