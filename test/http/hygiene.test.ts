import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchAll } from '../support/client.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'
import { wireOf } from '../support/wire.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig({
    env: {
      CORS_ORIGINS: 'https://app.example.com, https://other.example.com:8443',
      SLUICE_SERVER__MAX_BODY_BYTES: '100000',
      SLUICE_SERVER__HEADERS_TIMEOUT_MS: '300',
      SLUICE_SERVER__REQUEST_TIMEOUT_MS: '600',
      SLUICE_SERVER__ALLOWED_HOSTS: 'sluice.internal',
    },
  })
})
afterAll(() => rig.close())

const quick = sim({ text: 2 })

/** Sends raw bytes and gives everything that comes back until the server hangs up. */
async function raw(bytes: string | Buffer, more?: (socket: ReturnType<typeof connect>) => void): Promise<string> {
  const socket = connect(Number(new URL(rig.url).port), '127.0.0.1')
  let answer = ''
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => {
    answer += text
  })
  socket.on('error', () => {})
  socket.write(bytes)
  more?.(socket)
  await once(socket, 'close')
  return answer
}

function request(body: string | Buffer, headers: Record<string, string> = {}): Buffer {
  const all = {
    host: 'localhost',
    connection: 'close',
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...headers,
  }
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.concat([Buffer.from(`POST /stream HTTP/1.1\r\n${head.join('')}\r\n`), Buffer.from(body)])
}

function expectRefused(answer: string, status: number, code: string): void {
  expect(answer.slice(0, 12)).toBe(`HTTP/1.1 ${status}`)
  expect(JSON.parse(answer.slice(answer.indexOf('{')))).toMatchObject({
    error: { code, message: expect.any(String), request_id: expect.any(String) },
  })
}

describe('a body that cannot work is refused before Claude is asked', () => {
  const valid = JSON.stringify({ prompt: 'hi', model: quick })
  it.each<[string, string | Buffer, Record<string, string>, number, string]>([
    ['text/plain, which any page may post', valid, { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
    ['a form', 'prompt=hi', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'unsupported_media_type'],
    ['no content type', valid, { 'content-type': '' }, 415, 'unsupported_media_type'],
    ['another charset', valid, { 'content-type': 'application/json; charset=utf-16' }, 415, 'unsupported_media_type'],
    ['a compressed body', valid, { 'content-encoding': 'gzip' }, 415, 'unsupported_media_type'],
    ['no body', '', {}, 400, 'invalid_json'],
    ['half a body', '{"prompt":', {}, 400, 'invalid_json'],
    ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), {}, 400, 'invalid_json'],
    ['a list', '[]', {}, 400, 'invalid_request'],
    ['null', 'null', {}, 400, 'invalid_request'],
    ['__proto__', '{"prompt":"hi","__proto__":{"admin":true}}', {}, 400, 'invalid_json'],
    ['constructor.prototype', '{"prompt":"hi","constructor":{"prototype":{"a":1}}}', {}, 400, 'invalid_json'],
    ['too deep a nesting', `{"messages":${'['.repeat(40_000)}`, {}, 400, 'body_too_complex'],
    ['too many bytes', JSON.stringify({ prompt: 'x'.repeat(200_000) }), {}, 413, 'body_too_large'],
    [
      'both prompt and messages',
      '{"prompt":"a","messages":[{"role":"user","content":"b"}]}',
      {},
      400,
      'invalid_request',
    ],
    ['neither prompt nor messages', '{}', {}, 400, 'invalid_request'],
    ['a number for a prompt', '{"prompt":5}', {}, 400, 'invalid_request'],
    ['stream: false', '{"prompt":"a","stream":false}', {}, 400, 'invalid_request'],
    ['a model with a line break', '{"prompt":"a","model":"x\\r\\nevil: 1"}', {}, 400, 'invalid_request'],
  ])('%s', async (_, body, headers, status, code) => {
    const before = rig.simulator.requests.length
    expectRefused(await raw(request(body, headers)), status, code)
    expect(rig.simulator.requests.length).toBe(before)
    expect(({} as Record<string, unknown>)['admin']).toBeUndefined()
  })

  it.each([
    [{ prompt: 'hi', api_base: 'https://evil' }, 'api_base'],
    [{ messages: [{ role: 'user', contnet: 'x' }] }, 'messages.0'],
    [{ messages: [{ role: 'user', content: [{ type: 'text', txt: 'x' }] }] }, 'messages.0.content'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages.0.role'],
    [{ prompt: 'hi', max_tokens: '5' }, 'max_tokens'],
    [{ prompt: 'hi', format: 'xml' }, 'format'],
    [{ prompt: 'hi', on_disconnect: 'never' }, 'on_disconnect'],
  ])('names what is wrong in %o', async (body, named) => {
    const answer = await fetchAll(`${rig.url}/stream`, { body })
    expect(answer.status).toBe(400)
    expect(JSON.parse(answer.body).error.message).toContain(named)
  })

  it('a chunked body that never ends is cut at the limit', async () => {
    const head =
      'POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n'
    const answer = await raw(head, (socket) => {
      for (let n = 0; n < 40; n++) socket.write(`2000\r\n${'x'.repeat(0x2000)}\r\n`)
    })
    expectRefused(answer, 413, 'body_too_large')
  })

  it('a nesting at the limit is read, and lone surrogates are mended', async () => {
    const body = `{"prompt":"a\\ud800b","model":${JSON.stringify(quick)},"metadata":${'{"a":'.repeat(60)}1${'}'.repeat(60)}}`
    const answer = await raw(request(body))
    expect(answer.slice(0, 12)).toBe('HTTP/1.1 200')
    expect(rig.simulator.requests.at(-1)?.body).toMatchObject({ messages: [{ role: 'user', content: 'a\ufffdb' }] })
  })
})

describe('slow and malformed senders', () => {
  it('headers that take too long are 408', async () => {
    expectRefused(await raw('POST /stream HTTP/1.1\r\nhost: loc'), 408, 'request_timeout')
  })

  it('a body that takes too long is 408', async () => {
    expectRefused(
      await raw(
        'POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{',
      ),
      408,
      'request_timeout',
    )
  })

  it('a live stream outlives both', async () => {
    const answer = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 40, delay_ms: 50 }) },
    })
    expect(answer.body).toContain('"type":"done"')
  })

  it('headers that are too large are 431', async () => {
    expectRefused(
      await raw(`GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ${'a'.repeat(70_000)}\r\n\r\n`),
      431,
      'headers_too_large',
    )
  })

  it.each([
    'NONSENSE\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    'POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n',
  ])('what is no HTTP is 400: %j', async (bytes) => {
    expect((await raw(bytes)).slice(0, 12)).toBe('HTTP/1.1 400')
  })
})

describe('CORS', () => {
  const origin = 'https://app.example.com'

  it('lets listed origins read streams, with the headers intact', async () => {
    const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: quick }, headers: { origin } })
    expect(answer.headers).toMatchObject({
      'access-control-allow-origin': origin,
      vary: expect.stringContaining('Origin'),
    })
    expect(answer.headers['access-control-expose-headers']).toContain('X-Stream-Id')
    expect(answer.headers['content-type']).toContain('text/event-stream')
  })

  it('answers preflights and errors for them too', async () => {
    const preflight = await fetchAll(`${rig.url}/stream`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
    })
    expect(preflight.status).toBe(204)
    expect(preflight.headers).toMatchObject({ 'access-control-allow-origin': origin })
    expect(preflight.headers['access-control-allow-headers']?.toLowerCase()).toContain('content-type')
    const error = await fetchAll(`${rig.url}/stream`, { body: {}, headers: { origin } })
    expect([error.status, error.headers['access-control-allow-origin']]).toEqual([400, origin])
  })

  it.each([
    'null',
    'https://app.example.com.evil',
    'https://evil-app.example.com',
    'http://app.example.com',
    'https://app.example.com:444',
    'https://other.example.com',
    'https://APP.example.com',
  ])('gives %s nothing', async (other) => {
    const answer = await fetchAll(`${rig.url}/healthz`, { headers: { origin: other } })
    expect(answer.headers['access-control-allow-origin']).toBeUndefined()
  })
})

describe('Host', () => {
  it.each([
    'localhost',
    '127.0.0.1:8787',
    '[::1]:1',
    'sluice.internal',
    'SLUICE.internal:80',
  ])('%s is served', async (host) => {
    expect((await fetchAll(`${rig.url}/healthz`, { headers: { host } })).status).toBe(200)
  })

  it.each([
    'evil.test',
    'localhost.evil.test',
    '127.0.0.1.evil.test',
    'evil.test:8787',
  ])('%s is refused', async (host) => {
    const answer = await fetchAll(`${rig.url}/stream?prompt=hi`, { headers: { host } })
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([421, 'host_not_allowed'])
  })
})

it('keeps a request id of the caller when it is harmless, and makes one when it is not', async () => {
  const id = async (given: string) =>
    (await fetchAll(`${rig.url}/healthz`, { headers: { 'x-request-id': given } })).headers['x-request-id']
  expect(await id('abc-123.x_y')).toBe('abc-123.x_y')
  expect(await id('a b')).toMatch(/^req_/)
  expect(await id('x'.repeat(65))).toMatch(/^req_/)
})

it('answers unknown routes and traversals with 404 in its own shape', async () => {
  for (const path of [
    '/nothing',
    '/..%2f..%2fetc/passwd',
    '/streams/',
    '/streams/%00',
    '/streams/a/b',
    '/.git/config',
    '/%ff',
  ]) {
    const answer = await fetchAll(rig.url + path)
    expect([path, [400, 404].includes(answer.status)]).toEqual([path, true])
    expect(JSON.parse(answer.body).error.request_id).toBe(answer.headers['x-request-id'])
  }
})

it('health is cheap and says no more than it must', async () => {
  expect(await fetchAll(`${rig.url}/healthz`)).toMatchObject({ status: 200, body: '{"status":"ok"}' })
  expect(await fetchAll(`${rig.url}/readyz`)).toMatchObject({ status: 200, body: '{"status":"ready"}' })
})

it('no canary reaches a log line at any level', async () => {
  const secrets = {
    key: 'KEYCANARY1',
    prompt: 'PROMPTCANARY2',
    answer: 'zzzANSWERCANARY3',
    system: 'SYSTEMCANARY4',
    field: 'FIELDCANARY5',
  }
  const noisy = await startRig({
    logLevel: 'trace',
    env: { ANTHROPIC_API_KEY: secrets.key },
    simulator: { recordings: new Map([['canary', Buffer.from(wireOf(secrets.answer))]]) },
  })
  const outcomes = [
    { recording: 'canary' },
    { recording: 'canary', end_at: 3 },
    { recording: 'canary', junk_at: 2 },
    { status: 400 },
    { status: 401 },
    { refuse: 1 },
    { encoding: 'gzip' },
  ]
  for (const scenario of outcomes) {
    const body = { prompt: secrets.prompt, system: secrets.system, model: sim({ message: 'x', ...scenario }) }
    await fetchAll(`${noisy.url}/stream`, {
      body,
      headers: { authorization: `Bearer ${secrets.field}`, cookie: secrets.field },
    })
    await fetchAll(`${noisy.url}/stream?${new URLSearchParams({ prompt: secrets.prompt, model: body.model })}`)
  }
  await fetchAll(`${noisy.url}/stream`, { body: { prompt: secrets.prompt, [secrets.field]: secrets.field } })
  const log = JSON.stringify(noisy.log)
  expect(noisy.log.length).toBeGreaterThan(20)
  for (const secret of Object.values(secrets)) expect(log).not.toContain(secret)
  expect(noisy.simulator.requests[0]?.headers.authorization).toBe(`Bearer ${secrets.key}`)
})
