import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import Anthropic from '@anthropic-ai/sdk'
import { expect, it, onTestFinished } from 'vitest'
import { Recorder } from '../../src/simulator/recorder.ts'
import { loadRecordings } from '../../src/simulator/recordings.ts'
import { type SeenRequest, Simulator } from '../../src/simulator/server.ts'
import { readTape } from '../../src/simulator/tape.ts'
import { eventually, fetchAll, open, type StreamResponse } from '../support/client.ts'
import { parse } from '../support/logs.ts'
import { portOf } from '../support/relay.ts'
import { serve } from '../support/serve.ts'
import { sim } from '../support/sluice.ts'

async function startRecorder(upstream: string) {
  const folder = join(mkdtempSync(join(tmpdir(), 'sluice-')), 'recordings')
  const told: string[] = []
  const recorder = await Recorder.start({ folder, upstream, told: (line) => void told.push(line) })
  let open = true
  const close = async () => {
    if (open) await recorder.close()
    open = false
  }
  onTestFinished(close)
  /** Of the only file, when it has its name. */
  const recorded = async () => {
    const [name] = await eventually(() => {
      const files = readdirSync(folder).filter((file) => file.endsWith('.sse'))
      return files.length > 0 ? files : undefined
    })
    const path = join(folder, name as string)
    return { path, name: (name as string).replace(/\.sse$/, ''), text: readFileSync(path, 'utf8') }
  }
  return { url: recorder.url, folder, told, recorded, close }
}

async function startSimulator(recordings?: ReadonlyMap<string, Buffer>): Promise<Simulator> {
  const simulator = await Simulator.start(recordings ? { recordings } : {})
  onTestFinished(() => simulator.close())
  return simulator
}

const headers = { 'x-api-key': 'sk-ant-canary', 'anthropic-version': '2023-06-01' }
const ask = (scenario: Record<string, string | number>) => ({
  model: sim(scenario),
  max_tokens: 1_000,
  stream: true,
  messages: [{ role: 'user', content: 'canary of a prompt' }],
})
const ids = /(msg|req|toolu)_[\w]+/g
const eventsOf = (body: string) => parse(body).map(({ data }) => JSON.parse(data.replaceAll(ids, '$1_')))

/** A response that is to be broken off: the request hears of it, too, and must not be alone with that. */
async function openBroken(url: string, body: unknown): Promise<StreamResponse> {
  const response = await open(`${url}/v1/messages`, { headers, body })
  const { req } = response.message as IncomingMessage & { req: ClientRequest }
  req.on('error', () => {})
  return response
}

it('keeps a stream with its pace, which the simulator plays again', async () => {
  const claude = await startSimulator()
  const { url, recorded, folder, told } = await startRecorder(claude.url)
  const body = ask({ text: 8, delay_ms: 30, first_ms: 60, headers_ms: 40, tool: 'weather' })
  const live = await fetchAll(`${url}/v1/messages?beta=true`, { headers, body })
  expect(claude.requests.at(-1)).toMatchObject({ body, query: 'beta=true', headers })
  expect(live.status).toBe(200)

  const { path, name, text } = await recorded()
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(name).toMatch(/^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z-claude-sim_text_8/)
  expect(text).not.toMatch(/canary|sim_1|req_sim|00000000-0000/)
  expect(text.split('\n').slice(0, 6)).toEqual([
    expect.stringContaining('recorded by sluice'),
    expect.stringMatching(/^: date 20/),
    `: model ${body.model}`,
    ': status 200',
    ': anthropic-version 2023-06-01',
    expect.stringMatching(/^: headers \+\d+$/),
  ])
  const { waits = [], headersMs = 0 } = readTape(Buffer.from(text))
  expect(headersMs).toBeGreaterThanOrEqual(39)
  expect(waits[0]).toBeGreaterThanOrEqual(55)
  expect(waits.reduce((sum, ms) => sum + ms, 0)).toBeGreaterThanOrEqual(60 + 8 * 29)
  await eventually(() => told.length > 0)
  expect(told).toEqual([expect.stringMatching(/^200, \d+ events in [\d.]+ s, whole: .*\.sse$/)])

  const replica = await startSimulator(loadRecordings(folder))
  const post = (pace: Record<string, string | number>) =>
    fetchAll(`${replica.url}/v1/messages`, { headers, body: ask({ recording: name, ...pace }) })
  const began = performance.now()
  const again = await post({ pace: 'recorded' })
  const tookMs = performance.now() - began
  expect(eventsOf(again.body)).toEqual(eventsOf(live.body))
  expect(again.body).not.toMatch(/^:/m)
  expect(tookMs).toBeGreaterThanOrEqual(40 + 60 + 8 * 29)
  const atOnce = performance.now()
  expect((await post({ pace: 'recorded', speed: 1_000 })).body).toBe(again.body)
  expect((await post({})).body).toBe(again.body)
  expect(performance.now() - atOnce).toBeLessThan(tookMs)
})

it('lets the SDK through, streaming or not, and keeps streams alone', async () => {
  const claude = await startSimulator()
  const { url, folder, told, recorded } = await startRecorder(`${claude.url}/`)
  const client = new Anthropic({ apiKey: 'any', baseURL: url, maxRetries: 0 })
  const params = { model: sim({ text: 3 }), max_tokens: 9, messages: [{ role: 'user' as const, content: 'hi' }] }
  const streamed = await client.messages.stream(params).finalMessage()
  const whole = await client.messages.create(params)
  expect(whole.content).toEqual(streamed.content)
  await expect(client.messages.create({ ...params, model: sim({ status: 529 }) })).rejects.toMatchObject({
    status: 529,
  })
  expect((await client.models.list()).data.length).toBeGreaterThan(0)
  await recorded()
  await eventually(() => told.length === 4)
  expect(told.filter((line) => line.includes('not recorded'))).toEqual([
    '200, no stream: not recorded',
    '529, no stream: not recorded',
    '200, no stream: not recorded',
  ])
  expect(readdirSync(folder)).toHaveLength(1)
})

it.each([
  ['gzip', gzipSync],
  ['br', brotliCompressSync],
  ['zstd', zstdCompressSync],
] as const)('passes %s on as it is, and keeps what is in it', async (encoding, compress) => {
  const body = 'event: message_stop\ndata: {"type":"message_stop"}\n\n'
  const packed = compress(body)
  const url = await serve((_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': encoding }).end(packed)
  })
  const { url: recording, recorded } = await startRecorder(url)
  const { message } = await open(`${recording}/v1/messages`, { body: {} })
  expect(message.headers['content-encoding']).toBe(encoding)
  expect(readTape(Buffer.from((await recorded()).text))).toMatchObject({ events: [body], cut: false })
})

it('breaks off where Claude does, says so, and so does the simulator', async () => {
  const claude = await startSimulator()
  const { url, recorded, folder } = await startRecorder(claude.url)
  const live = await openBroken(url, ask({ text: 50, reset_at: 9 }))
  const body = await live.ended
  expect([eventsOf(body).length, live.message.complete]).toEqual([9, false])
  const { text, name } = await recorded()
  expect(text).toMatch(/: \+\d+ cut by upstream\n\n$/)
  const replica = await startSimulator(loadRecordings(folder))
  const again = await openBroken(replica.url, ask({ recording: name }))
  expect(eventsOf(await again.ended)).toEqual(eventsOf(body))
  expect(again.message.complete).toBe(false)
})

it('hangs up on Claude when the client leaves, before and after headers', async () => {
  const claude = await startSimulator()
  const { url, recorded } = await startRecorder(claude.url)
  const live = await openBroken(url, ask({ text: 500, delay_ms: 20 }))
  await live.until('text_delta')
  live.destroy()
  await eventually(() => (claude.requests.at(-1) as SeenRequest).abortedAt)
  expect((await recorded()).text).toMatch(/: \+\d+ cut by client\n\n$/)

  const gone = new AbortController()
  const early = fetch(`${url}/v1/messages`, {
    method: 'POST',
    headers,
    body: JSON.stringify(ask({ headers_ms: 60_000 })),
    signal: gone.signal,
  }).catch(() => {})
  await eventually(() => claude.requests.length === 2)
  gone.abort()
  await early
  await eventually(() => claude.requests[1]?.abortedAt)
})

it('takes no more from Claude than the client does', async () => {
  const claude = await startSimulator()
  const { url, folder } = await startRecorder(claude.url)
  const live = await openBroken(url, ask({ text: 2_000, bytes: 60_000 }))
  live.message.pause()
  const sizes: number[] = []
  await eventually(() => {
    sizes.unshift(statSync(join(folder, readdirSync(folder)[0] as string)).size)
    return sizes.length > 20 && new Set(sizes.slice(0, 20)).size === 1
  }, 10_000)
  expect(sizes[0]).toBeLessThan(60_000_000)
  expect([claude.open, (claude.requests[0] as SeenRequest).finished]).toEqual([1, false])
  live.destroy()
  await eventually(() => claude.open === 0)
})

it('keeps what has come when it is stopped', async () => {
  const claude = await startSimulator()
  const { url, recorded, close } = await startRecorder(claude.url)
  const live = await openBroken(url, ask({ text: 500, delay_ms: 20 }))
  await live.until('text_delta')
  await close()
  await live.ended
  expect((await recorded()).text).toMatch(/cut by recorder\n\n$/)
})

it('harms no stream when it cannot write', async () => {
  const claude = await startSimulator()
  const { url, folder, told } = await startRecorder(claude.url)
  rmSync(folder, { recursive: true })
  writeFileSync(folder, 'a file')
  const { body } = await fetchAll(`${url}/v1/messages`, { headers, body: ask({ text: 3 }) })
  expect(body).toContain('message_stop')
  expect(told[0]).toContain('cannot write there')
})

it('answers as Claude would when it cannot reach it, and takes no other host than its own', async () => {
  const { url } = await startRecorder('http://127.0.0.1:1')
  const { status, body } = await fetchAll(`${url}/v1/messages`, { headers, body: ask({}) })
  expect([status, JSON.parse(body)]).toEqual([
    502,
    { type: 'error', error: { type: 'api_error', message: expect.stringContaining('ECONNREFUSED') } },
  ])
  const { port, hostname } = new URL(url)
  const socket = connect(Number(port), hostname).end(
    'GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n',
  )
  let answer = ''
  for await (const bytes of socket) answer += bytes
  expect(answer).toContain('400 Bad Request')
})

it('sends on what it was sent, byte for byte', async () => {
  let got = ''
  const server = createServer((socket) => {
    socket.on('data', (bytes) => {
      got += bytes
      if (!got.endsWith('{"a": 1 }')) return
      socket.end('HTTP/1.1 299 Fine\r\nX-Odd:  b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')
    })
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await eventually(() => server.listening)
  const { url } = await startRecorder(`http://127.0.0.1:${portOf(server)}/gate`)
  const response = await fetch(`${url}/v1/messages?x=%2F`, {
    method: 'POST',
    headers: { 'X-Api-Key': 'k', 'content-type': 'application/json' },
    body: '{"a": 1 }',
  })
  expect([response.status, response.statusText, response.headers.get('x-odd'), await response.text()]).toEqual([
    299,
    'Fine',
    'b',
    'ok',
  ])
  expect(got).toMatch(/^POST \/gate\/v1\/messages\?x=%2F HTTP\/1\.1\r\n/)
  expect(got).toMatch(/\r\nx-api-key: k\r\n/i)
  expect(got).toMatch(/\r\ncontent-length: 9\r\n/i)
  expect(got).not.toMatch(/transfer-encoding/i)
})
