import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, fetchAll, jsonFrames, open, parseFrames } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig()
})
afterAll(() => rig.close())

const slow = sim({ text: 400, delay_ms: 5 })
const quick = sim({ text: 5 })

function get(path: string, query: Record<string, string>, headers: Record<string, string> = {}) {
  return open(`${rig.url}${path}?${new URLSearchParams(query)}`, { headers })
}

function calls(model: string): number {
  return rig.simulator.requests.filter((seen) => (seen.body as { model: string }).model === model).length
}

describe('GET /stream', () => {
  it('streams at once, with the headers that keep proxies from buffering', async () => {
    const stream = await get('/stream', { prompt: 'hi', model: quick }, { connection: 'keep-alive' })
    expect(stream.status).toBe(200)
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      connection: 'keep-alive',
    })
    expect(stream.headers['x-stream-id']).toMatch(/^s_[\w-]{22}$/)
    expect(stream.headers['x-request-id']).toMatch(/^req_/)
    expect(stream.headers['content-length']).toBeUndefined()
    expectWholeJsonStream(parseFrames(await stream.ended))
  })

  it('sends the start frame before upstream has answered', async () => {
    const model = sim({ text: 3, headers_ms: 300 })
    const stream = await get('/stream', { prompt: 'hi', model })
    await stream.until('"type":"start"')
    const [start] = jsonFrames(parseFrames(stream.body))
    expect(start).toEqual({ type: 'start', stream: stream.headers['x-stream-id'], model, format_version: 1 })
    expect(stream.body).not.toContain('"type":"text"')
    expectWholeJsonStream(parseFrames(await stream.ended))
  })

  it('tells upstream failures in the stream, as EventSource takes any status but 200 for final', async () => {
    const { status, frames } = await fetchAll(
      `${rig.url}/stream?prompt=hi&model=${encodeURIComponent(sim({ status: 529 }))}`,
    )
    expect(status).toBe(200)
    expect(expectWholeJsonStream(frames)).toMatchObject({
      type: 'error',
      partial: false,
      error: { code: 'upstream_overloaded' },
    })
  })

  it('attaches when it comes with a Last-Event-ID, and never asks Claude again', async () => {
    const model = sim({ text: 7, delay_ms: 1 })
    const first = await get('/stream', { prompt: 'hi', model })
    const whole = parseFrames(await first.ended)
    const id = whole[3]?.id as string
    const again = await fetchAll(`${rig.url}/stream?prompt=hi&model=${encodeURIComponent(model)}`, {
      headers: { 'last-event-id': id },
    })
    expect(again.frames).toEqual(whole.slice(4))
    const last = whole.at(-2)?.id as string
    const finished = await fetchAll(`${rig.url}/stream?prompt=hi`, { headers: { 'last-event-id': last } })
    expect(finished.status).toBe(204)
    expect(calls(model)).toBe(1)
  })

  it.each([
    ['no prompt', {}, 'prompt'],
    ['an unknown parameter', { prompt: 'hi', promt: 'x' }, 'promt'],
    ['an unknown format', { prompt: 'hi', format: 'xml' }, 'format'],
    ['max_tokens that is no number', { prompt: 'hi', max_tokens: '1e3' }, 'max_tokens'],
  ])('refuses %s by name', async (_, query, named) => {
    const answer = await fetchAll(`${rig.url}/stream?${new URLSearchParams(query as Record<string, string>)}`)
    expect(answer.status).toBe(400)
    expect(JSON.parse(answer.body).error).toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining(named),
    })
  })

  it('passes system, model and max_tokens on', async () => {
    const model = sim({ text: 2, stamp: 0 })
    await fetchAll(
      `${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model, system: 'be brief', max_tokens: '77' })}`,
    )
    const seen = rig.simulator.requests.find((each) => (each.body as { model: string }).model === model)
    expect(seen?.body).toEqual({
      model,
      max_tokens: 77,
      system: 'be brief',
      messages: [{ role: 'user', content: 'hi' }],
      stream: true,
    })
  })

  it('does not start a run for HEAD', async () => {
    const before = rig.simulator.requests.length
    const answer = await fetchAll(`${rig.url}/stream?prompt=hi`, { method: 'HEAD' })
    expect(answer.status).toBe(404)
    expect(rig.simulator.requests.length).toBe(before)
  })
})

describe.each(['/stream', '/api/chat'])('POST %s', (path) => {
  it('streams the answer to messages', async () => {
    const body = { messages: [{ role: 'user', content: [{ type: 'text', text: 'hi' }] }], model: quick }
    const answer = await fetchAll(`${rig.url}${path}`, { body })
    expect(expectWholeJsonStream(answer.frames)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
  })

  it('answers failures before the stream with a status', async () => {
    const answer = await fetchAll(`${rig.url}${path}`, {
      body: { prompt: 'hi', model: sim({ status: 429, retry_after: '7' }) },
    })
    expect(answer.status).toBe(429)
    expect(answer.headers['retry-after']).toBe('7')
    expect(JSON.parse(answer.body).error).toMatchObject({ code: 'upstream_rate_limited', retryable: true })
  })

  it('is 201 with the stream to come, when JSON is asked for', async () => {
    const answer = await fetchAll(`${rig.url}${path}`, {
      body: { prompt: 'hi', model: quick, format: 'text' },
      headers: { accept: 'application/json' },
    })
    const created = JSON.parse(answer.body)
    expect(answer.status).toBe(201)
    expect(created).toEqual({
      id: created.id,
      url: `/streams/${created.id}`,
      events_url: `/streams/${created.id}?format=text`,
    })
    const text = await fetchAll(rig.url + created.events_url)
    expect(text.frames.at(-1)).toEqual({ data: '[DONE]' })
  })
})

it('sends every field of a request to Claude as it came', async () => {
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'iVBORw0KGgo=' } }
  const pdf = {
    type: 'document',
    source: { type: 'base64', media_type: 'application/pdf', data: 'JVBERi0=' },
    citations: { enabled: true },
  }
  const request = {
    model: sim({ text: 1, thinking: 1 }),
    max_tokens: 2000,
    messages: [
      { role: 'user', content: [image, pdf, { type: 'text', text: 'Grüße 👋', cache_control: { type: 'ephemeral' } }] },
      { role: 'assistant', content: [{ type: 'tool_use', id: 'toolu_1', name: 'weather', input: { b: 1, a: 2 } }] },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: '12 °C' }] },
    ],
    system: [{ type: 'text', text: 'be brief' }],
    tools: [
      { name: 'weather', input_schema: { type: 'object', properties: { z: {}, a: {} } } },
      { type: 'web_search_20260318', name: 'web_search' },
    ],
    tool_choice: { type: 'auto', disable_parallel_tool_use: true },
    thinking: { type: 'adaptive', display: 'summarized' },
    output_config: { effort: 'low' },
    metadata: { user_id: 'u1' },
    stop_sequences: ['END'],
    service_tier: 'auto',
    mcp_servers: [{ type: 'url', url: 'https://mcp.example', name: 'm' }],
    context_management: { edits: [] },
  }
  await fetchAll(`${rig.url}/stream`, {
    body: { ...request, betas: ['a-2026-01-01', 'b-2026-02-02'], user_profile_id: 'p1' },
  })
  const seen = rig.simulator.requests.at(-1)
  expect(JSON.stringify(seen?.body)).toBe(JSON.stringify({ ...request, stream: true }))
  expect(seen?.headers).toMatchObject({
    'anthropic-beta': 'a-2026-01-01,b-2026-02-02',
    'anthropic-user-profile-id': 'p1',
    authorization: 'Bearer test-key',
    'accept-encoding': 'identity',
  })
})

describe('GET /streams/:id', () => {
  it('gives several readers the same frames, whenever they come', async () => {
    const first = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 40, delay_ms: 3 }) } })
    const url = `${rig.url}/streams/${first.headers['x-stream-id']}`
    await first.until('"text"')
    const readers = await Promise.all(Array.from({ length: 20 }, () => open(url)))
    const late = first.until('sluice').then(() => open(url))
    const whole = await first.ended
    for (const reader of [...readers, await late]) expect(await reader.ended).toBe(whole)
    expect((await fetchAll(url)).body).toBe(whole)
  })

  it('resumes by ?after, and the header wins over it', async () => {
    const { frames, headers } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: quick } })
    const id = headers['x-stream-id']
    const url = `${rig.url}/streams/${id}`
    expect((await fetchAll(`${url}?after=2`)).frames).toEqual(frames.slice(2))
    expect((await fetchAll(`${url}?after=0`)).frames).toEqual(frames)
    expect((await fetchAll(`${url}?after=2`, { headers: { 'last-event-id': `${id}.4` } })).frames).toEqual(
      frames.slice(4),
    )
  })

  it('waits for frames that a live stream has yet to send', async () => {
    const live = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 6, delay_ms: 40 }) } })
    await live.until('"text"')
    const seen = parseFrames(live.body).length
    const rest = await fetchAll(`${rig.url}/streams/${live.headers['x-stream-id']}?after=${seen}`)
    expect([...parseFrames(live.body).slice(0, seen), ...rest.frames]).toEqual(parseFrames(await live.ended))
  })

  it.each(['x', '', '-1', '1.5', '99999999999999999999'])('refuses the position ?after=%s', async (after) => {
    const { headers } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: quick } })
    const answer = await fetchAll(`${rig.url}/streams/${headers['x-stream-id']}?after=${after}`)
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([400, 'invalid_position'])
  })

  it('refuses positions beyond the end, beyond what is sent, of another stream, and malformed ones', async () => {
    const { frames, headers } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: quick } })
    const id = headers['x-stream-id']
    const live = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: slow } })
    const attempts = [
      [`/streams/${id}`, `${id}.${frames.length}`],
      [`/streams/${id}`, 'nonsense'],
      [`/streams/${id}`, `s_0123456789012345678901.1`],
      [`/streams/${live.headers['x-stream-id']}`, `${live.headers['x-stream-id']}.5000`],
      ['/stream?prompt=hi', `${id}.01`],
    ]
    for (const [path, position] of attempts) {
      const answer = await fetchAll(rig.url + path, { headers: { 'last-event-id': position as string } })
      expect([position, answer.status, JSON.parse(answer.body).error.code]).toEqual([position, 400, 'invalid_position'])
    }
    live.destroy()
  })

  it('is 404 for streams it does not know', async () => {
    for (const path of ['/streams/s_0123456789012345678901', '/streams/nonsense', '/stream?prompt=hi']) {
      const answer = await fetchAll(rig.url + path, { headers: { 'last-event-id': 's_0123456789012345678901.1' } })
      expect([path, answer.status, JSON.parse(answer.body).error.code]).toEqual([path, 404, 'stream_not_found'])
    }
  })

  it('gives a snapshot of the message so far, and of the end', async () => {
    const json = { accept: 'application/json' }
    const live = await open(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 30, delay_ms: 5, tool: 'weather' }) },
    })
    await live.until('"text"')
    const url = `${rig.url}/streams/${live.headers['x-stream-id']}`
    const running = JSON.parse((await fetchAll(url, { headers: json })).body)
    expect(running).toMatchObject({
      id: live.headers['x-stream-id'],
      status: 'running',
      message: { role: 'assistant' },
    })
    await live.ended
    const done = JSON.parse((await fetchAll(url, { headers: json })).body)
    expect(done).toMatchObject({
      status: 'done',
      stop_reason: 'tool_use',
      usage: { output_tokens: 42 },
      message: {
        content: [{ type: 'text' }, { type: 'tool_use', name: 'weather', input: { days: 3 } }],
        stop_reason: 'tool_use',
      },
    })
  })

  it('forgets a finished stream after retention_ms', async () => {
    const brief = await startRig({ env: { SLUICE_STREAMS__RETENTION_MS: '50' } })
    const { headers } = await fetchAll(`${brief.url}/stream`, { body: { prompt: 'hi', model: quick } })
    const url = `${brief.url}/streams/${headers['x-stream-id']}`
    await eventually(async () => (await fetchAll(url)).status === 404)
  })
})

describe('DELETE /streams/:id', () => {
  it('stops the stream for every reader and upstream', async () => {
    const first = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: slow } })
    const url = `${rig.url}/streams/${first.headers['x-stream-id']}`
    const second = await open(url)
    await second.until('"text"')
    const seen = rig.simulator.requests.at(-1)
    const stopped = await fetchAll(url, { method: 'DELETE' })
    expect([stopped.status, JSON.parse(stopped.body)]).toEqual([
      200,
      { id: first.headers['x-stream-id'], status: 'cancelled' },
    ])
    for (const reader of [first, second]) {
      const terminal = expectWholeJsonStream(parseFrames(await reader.ended))
      expect(terminal).toMatchObject({ type: 'cancelled', by: 'stop', usage: { measured: false } })
      expect((terminal['usage'] as { output_tokens: number }).output_tokens).toBeGreaterThan(0)
    }
    await eventually(() => seen?.abortedAt)
    expect(JSON.parse((await fetchAll(url, { method: 'DELETE' })).body).status).toBe('cancelled')
  })

  it('leaves a finished stream as it is, and is 404 for an unknown one', async () => {
    const { headers } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: quick } })
    const id = headers['x-stream-id']
    const answer = await fetchAll(`${rig.url}/streams/${id}`, { method: 'DELETE' })
    expect(JSON.parse(answer.body)).toEqual({ id, status: 'done' })
    expect((await fetchAll(`${rig.url}/streams/s_0123456789012345678901`, { method: 'DELETE' })).status).toBe(404)
  })
})

it('refuses more runs than max_streams, before Claude is asked, and takes them again', async () => {
  const small = await startRig({ env: { SLUICE_STREAMS__MAX_STREAMS: '2' } })
  const post = (model: string) => open(`${small.url}/stream`, { body: { prompt: 'hi', model } })
  const held = [await post(slow), await post(slow)]
  const refused = await post(slow)
  const body = await refused.ended
  expect([refused.status, refused.headers['retry-after'], JSON.parse(body).error.code]).toEqual([
    503,
    '1',
    'too_many_streams',
  ])
  expect(small.simulator.requests).toHaveLength(2)
  await fetchAll(`${small.url}/streams/${held[0]?.headers['x-stream-id']}`, { method: 'DELETE' })
  expect((await fetchAll(`${small.url}/stream`, { body: { prompt: 'hi', model: quick } })).status).toBe(200)
  held[1]?.destroy()
})

it('ends a stream that grows beyond max_bytes', async () => {
  const small = await startRig({ env: { SLUICE_STREAMS__MAX_BYTES: '100000' } })
  const answer = await fetchAll(`${small.url}/stream`, {
    body: { prompt: 'hi', model: sim({ text: 1000000, bytes: 100 }), max_tokens: 1000000 },
  })
  expect(expectWholeJsonStream(answer.frames)).toMatchObject({
    type: 'error',
    partial: true,
    error: { code: 'limit_exceeded' },
  })
  expect(answer.body.length).toBeLessThan(400_000)
  await eventually(() => small.simulator.requests[0]?.abortedAt)
})

it('who asks for streams that are not there is told to wait, and served those that are', async () => {
  const own = await startRig()
  const { id } = JSON.parse(
    (await fetchAll(`${own.url}/stream`, { body: { prompt: 'hi' }, headers: { accept: 'application/json' } })).body,
  )
  const statuses = new Map<number, number>()
  for (let n = 0; n < 310; n++) {
    const { status, headers } = await fetchAll(`${own.url}/streams/s_${n}`)
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    expect(headers['retry-after'] !== undefined).toBe(status === 429)
  }
  expect(Object.fromEntries(statuses)).toEqual({ 404: 300, 429: 10 })
  expect((await fetchAll(`${own.url}/streams/${id}`)).status).toBe(200)
})
