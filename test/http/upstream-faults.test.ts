import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type Server } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { eventually, fetchAll, jsonFrames, open } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { sim, startRig } from '../support/sluice.ts'

const canary = 'CANARY-sk-ant-api03-abcdefgh'

describe('before the stream', () => {
  it.each([
    [400, 400, 'upstream_invalid_request', false],
    [401, 502, 'upstream_auth', false],
    [402, 503, 'budget_exhausted', false],
    [403, 502, 'upstream_auth', false],
    [404, 404, 'upstream_not_found', false],
    [413, 413, 'upstream_too_large', false],
    [429, 429, 'upstream_rate_limited', true],
    [500, 502, 'upstream_error', true],
    [503, 503, 'upstream_overloaded', true],
    [504, 504, 'upstream_timeout', true],
    [529, 503, 'upstream_overloaded', true],
    [302, 502, 'upstream_protocol', true],
  ])('status %i becomes %i %s, and the body stays inside', async (status, ours, code, retryable) => {
    const rig = await startRig({ simulator: { defaults: { status, message: canary, location: '/v1/elsewhere' } } })
    const body = { prompt: 'hi', model: 'claude-sim' }
    const answer = await fetchAll(`${rig.url}/stream`, { body })
    expect(answer.status).toBe(ours)
    expect(JSON.parse(answer.body).error).toMatchObject({ code, retryable, request_id: answer.headers['x-request-id'] })
    expect(answer.body).not.toContain('abcdefgh')
    expect(JSON.stringify(rig.log)).not.toContain('abcdefgh')
    expect(rig.simulator.requests).toHaveLength(1)
    const inBand = await fetchAll(`${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model: body.model })}`)
    expect(expectWholeJsonStream(inBand.frames)).toMatchObject({
      type: 'error',
      error: { code, retryable },
      partial: false,
    })
    expect(inBand.body).not.toContain('abcdefgh')
  })

  it('a spend limit is final, whatever its status says', async () => {
    const rig = await startRig()
    const model = sim({ status: 429, error_code: 'contract_spend_limit_reached' })
    const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } })
    expect([answer.status, JSON.parse(answer.body).error]).toMatchObject([
      503,
      { code: 'budget_exhausted', retryable: false },
    ])
  })

  it('an error as the first event is a status, not a stream', async () => {
    const rig = await startRig()
    const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ error_at: 0 }) } })
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([503, 'upstream_overloaded'])
  })

  it('a refused connection is tried again within the budget, then 502', async () => {
    const rig = await startRig({
      env: {
        ANTHROPIC_BASE_URL: 'http://127.0.0.1:1',
        SLUICE_RETRY__MAX_ATTEMPTS: '2',
        SLUICE_RETRY__BUDGET_MS: '5000',
      },
    })
    const started = performance.now()
    const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi' } })
    // Committed or not depends on the jitter of the two waits.
    if (answer.status === 200)
      expect(expectWholeJsonStream(answer.frames)).toMatchObject({ error: { code: 'upstream_unreachable' } })
    else expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([502, 'upstream_unreachable'])
    expect(performance.now() - started).toBeLessThan(5_000)
    const line = await eventually(() => rig.log.find((each) => each['message'] === 'stream ended'))
    expect(line).toMatchObject({ attempts: 3, reason: 'ECONNREFUSED' })
  })

  it('an unknown host is 502 upstream_unreachable', async () => {
    const rig = await startRig({ env: { ANTHROPIC_BASE_URL: 'http://sluice-test.invalid' } })
    const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi' } })
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([502, 'upstream_unreachable'])
  })

  it('a server that speaks no TLS, or none we trust, is upstream_tls', async () => {
    const rig = await startRig()
    const { port } = new URL(rig.simulator.url)
    const over = await startRig({ env: { ANTHROPIC_BASE_URL: `https://127.0.0.1:${port}` } })
    const answer = await fetchAll(`${over.url}/stream`, { body: { prompt: 'hi' } })
    expect([answer.status, JSON.parse(answer.body).error]).toMatchObject([
      502,
      { code: 'upstream_tls', retryable: false },
    ])
  })

  it('a compressed answer is refused: it would be held back, and may be a bomb', async () => {
    const rig = await startRig()
    const answer = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ encoding: 'gzip', first_ms: 5_000 }) },
    })
    expect(answer.status).toBe(502)
    await eventually(() => rig.simulator.requests[0]?.abortedAt)
  })

  it('overloads are tried again until one goes well, and leave no trace', async () => {
    const rig = await startRig({ env: { SLUICE_RETRY__MAX_ATTEMPTS: '2' } })
    const model = sim({ status: 529, fail_first: 2, text: 5 })
    const { frames } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } })
    expect(expectWholeJsonStream(frames)['type']).toBe('done')
    expect(rig.simulator.requests).toHaveLength(3)
    expect(jsonFrames(frames).map((frame) => frame['type'])).toEqual([
      'start',
      'message',
      'text',
      'text',
      'text',
      'text',
      'text',
      'done',
    ])
  })

  it('an attempt that fails before content shows no second message frame', async () => {
    const rig = await startRig({ env: { SLUICE_RETRY__MAX_ATTEMPTS: '1' } })
    const model = sim({ error_at: 2, fail_first: 1, text: 2 })
    const { frames } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } })
    expect(jsonFrames(frames).filter((frame) => frame['type'] === 'message')).toHaveLength(1)
    expect(expectWholeJsonStream(frames)['type']).toBe('done')
    expect(rig.simulator.requests).toHaveLength(2)
  })

  it('a long retry-after is not waited for: the client gets it', async () => {
    const rig = await startRig({ env: { SLUICE_RETRY__MAX_ATTEMPTS: '3' } })
    const answer = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ status: 429, retry_after: '60' }) },
    })
    expect([answer.status, answer.headers['retry-after'], rig.simulator.requests.length]).toEqual([429, '60', 1])
  })

  it('a header time-out is not tried again: Claude may be generating', async () => {
    const rig = await startRig({ env: { SLUICE_RETRY__MAX_ATTEMPTS: '3', SLUICE_TIMEOUTS__HEADERS_MS: '100' } })
    const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ headers_ms: 5_000 }) } })
    expect([answer.status, rig.simulator.requests.length]).toEqual([504, 1])
  })
})

describe('in the stream', () => {
  it.each(
    Array.from({ length: 11 }, (_, n) => n + 4),
  )('an overload at event %i ends in an error with what came before', async (at) => {
    const rig = await startRig()
    const { frames } = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 12, error_at: at }) },
    })
    expect(expectWholeJsonStream(frames)).toMatchObject({
      type: 'error',
      partial: true,
      error: { code: 'upstream_overloaded', retryable: true },
      usage: { measured: false },
    })
    expect(jsonFrames(frames).filter((frame) => frame['type'] === 'text')).toHaveLength(at - 3)
  })

  it.each([
    ['junk JSON', { junk_at: 6 }, 'upstream_protocol'],
    ['an endless line', { endless_line_at: 6 }, 'upstream_protocol'],
    ['a clean end without message_stop', { end_at: 6 }, 'upstream_truncated'],
    ['a reset', { reset_at: 6 }, 'upstream_truncated'],
  ])('%s ends in an error with what came before', async (_, scenario, code) => {
    const rig = await startRig()
    const { frames } = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 30, ...scenario }) },
    })
    expect(expectWholeJsonStream(frames)).toMatchObject({ type: 'error', partial: true, error: { code } })
    expect(jsonFrames(frames).filter((frame) => frame['type'] === 'text')).toHaveLength(3)
    await eventually(() => rig.simulator.open === 0)
  })

  it('an endless line costs no more memory than the cap', async () => {
    const rig = await startRig()
    const before = process.memoryUsage().rss
    await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 30, endless_line_at: 6 }) } })
    expect(process.memoryUsage().rss - before).toBeLessThan(48 * 1024 * 1024)
  })

  it.each([2, 3, 7, 20])('unknown events, blocks and deltas at event %i change nothing else', async (at) => {
    const rig = await startRig()
    const text = async (scenario: Record<string, number>) =>
      jsonFrames(
        (await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 15, ...scenario }) } })).frames,
      )
    const plain = (await text({})).filter((frame) => frame['type'] === 'text')
    const frames = await text({ unknown_at: at })
    expect(frames.filter((frame) => frame['type'] === 'text')).toEqual(plain)
    expect(frames).toContainEqual({ type: 'event', event: { type: 'weather_report', forecast: { sky: 'clear' } } })
    expect(frames).toContainEqual({
      type: 'block',
      block: 900,
      content_block: { type: 'hologram', voxels: 64, colour: 'blue' },
    })
    expect(frames.at(-1)?.['type']).toBe('done')
  })
})

/** A raw upstream: says exactly these bytes to each connection, then does nothing more. */
async function rawUpstream(answer: string, then: 'stay' | 'close' = 'stay'): Promise<Server & { requests: number }> {
  const server = Object.assign(
    createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => {
        server.requests++
        socket.write(answer)
        if (then === 'close') setTimeout(() => socket.destroy(), 20)
      })
    }),
    { requests: 0 },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return server
}

it('an upstream that does not end its response is hung up on, and the stream is done all the same', async () => {
  const events = [
    { type: 'message_start', message: { id: 'msg_1', model: 'm', usage: { input_tokens: 1, output_tokens: 1 } } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: 'whole' } },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 1 } },
    { type: 'message_stop' },
  ]
  const body = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')
  const server = await rawUpstream(`HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n${body}`)
  const rig = await startRig({
    env: { ANTHROPIC_BASE_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
  })
  const { frames } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi' } })
  expect(expectWholeJsonStream(frames)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
  await eventually(
    () => new Promise<boolean>((resolve) => server.getConnections((_, count) => resolve(count === 0))),
    2_500,
  )
})

const clocks = { SLUICE_TIMEOUTS__HEADERS_MS: '300', SLUICE_RETRY__MAX_ATTEMPTS: '2' }

it.each([
  ['an announcement and then nothing', 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n', 'stay', 1],
  ['an announcement and then a reset', 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n', 'close', 3],
  ['a status that is none', 'HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n', 'stay', 3],
  ['a login page', 'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<a/>', 'stay', 1],
  [
    'an answer without streaming',
    'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}',
    'stay',
    1,
  ],
  ['no content', 'HTTP/1.1 204 No Content\r\n\r\n', 'stay', 1],
] as const)('%s ends the run, and buys nothing twice', async (_, answer, then, requests) => {
  const server = await rawUpstream(answer, then)
  const { port } = server.address() as AddressInfo
  const rig = await startRig({ env: { ...clocks, ANTHROPIC_BASE_URL: `http://127.0.0.1:${port}` } })
  const { frames } = await fetchAll(`${rig.url}/stream?prompt=hi`)
  expect(expectWholeJsonStream(frames)).toMatchObject({ type: 'error', partial: false })
  expect(server.requests).toBe(requests)
  expect(rig.app.streams.live).toBe(0)
})

it('finished streams are forgotten early when all together take too much', async () => {
  const rig = await startRig({ env: { SLUICE_STREAMS__MAX_TOTAL_BYTES: '300000' } })
  const body = { prompt: 'hi', model: sim({ text: 1_000, bytes: 100 }), max_tokens: 100_000 }
  const ids: string[] = []
  for (let n = 0; n < 5; n++) ids.push(String((await fetchAll(`${rig.url}/stream`, { body })).headers['x-stream-id']))
  const statuses = await Promise.all(ids.map(async (id) => (await fetchAll(`${rig.url}/streams/${id}`)).status))
  expect(statuses).toEqual([404, 404, 404, 200, 200])
})

it('no run is begun when live ones alone take too much', async () => {
  const rig = await startRig({ env: { SLUICE_STREAMS__MAX_TOTAL_BYTES: '100000' } })
  const body = { prompt: 'hi', model: sim({ text: 2_000, bytes: 100, silence_at: 1_900 }), max_tokens: 100_000 }
  const live = await open(`${rig.url}/stream`, { body })
  await eventually(() => live.body.length > 150_000)
  const refused = await fetchAll(`${rig.url}/stream`, { body })
  expect([refused.status, JSON.parse(refused.body).error.code]).toEqual([503, 'too_many_streams'])
  live.destroy()
})
