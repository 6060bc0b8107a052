import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { EventSource } from 'eventsource'
import { createParser } from 'eventsource-parser'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open } from '../support/client.ts'
import { openRaw, sendRaw, statusesOf } from '../support/raw.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

/** What hostile or broken clients do, by the numbers of docs/threat-model.md. */
const clocks = { SLUICE_SERVER__HEADERS_TIMEOUT_MS: '300', SLUICE_SERVER__REQUEST_TIMEOUT_MS: '600' }
const maxBody = 100_000

let rig: Rig
beforeAll(async () => {
  rig = await openRig({ env: { ...clocks, SLUICE_SERVER__MAX_BODY_BYTES: String(maxBody) } })
})
afterAll(() => rig.close())

const quick = sim({ text: 2 })
const head = 'POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n'
const post = (body: string | Buffer, headers: Record<string, string> = {}) => {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const text = `${head}content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n${lines.join('')}\r\n`
  return Buffer.concat([Buffer.from(text), Buffer.from(body)])
}
const codeOf = (answer: string) => JSON.parse(answer.slice(answer.indexOf('{'))).error.code as string

/** Nothing of this may reach Claude. */
async function costsNothing(attack: () => Promise<void>): Promise<void> {
  const before = rig.simulator.requests.length
  await attack()
  expect(rig.simulator.requests.length).toBe(before)
  expect((await fetchAll(`${rig.url}/healthz`)).status).toBe(200)
}

it('C11 an EventSource is told of failures in its stream, and one that is refused is refused for good', async () => {
  const failing = new EventSource(`${rig.url}/stream?prompt=hi&model=${encodeURIComponent(sim({ status: 529 }))}`)
  const frames: { type: string }[] = []
  failing.onmessage = ({ data }) => data !== '[DONE]' && frames.push(JSON.parse(data))
  await eventually(() => frames.at(-1)?.type === 'error')
  failing.close()
  const refused = new EventSource(`${rig.url}/stream?prompt=hi&format=nonsense`)
  await new Promise((resolve) => {
    refused.onerror = resolve
  })
  expect(refused.readyState).toBe(EventSource.CLOSED)
})

it('C12 positions that are unknown, foreign, malformed or beyond the end get no stream, and foreign is unknown', async () => {
  const [alice, bob] = [holder('alice'), holder('bob')]
  const own = await startRig({ env: lettingIn(alice, bob) })
  const { headers } = await fetchAll(`${own.url}/stream`, {
    body: { prompt: 'hi', model: quick },
    headers: alice.bearer,
  })
  const id = String(headers['x-stream-id'])
  const at = async (position: string, bearer = alice.bearer) => {
    const answer = await fetchAll(`${own.url}/stream`, { headers: { ...bearer, 'last-event-id': position } })
    return [answer.status, answer.body && JSON.parse(answer.body).error.code]
  }
  const unknown = `s_${'A'.repeat(22)}.1`
  expect(await at(unknown)).toEqual([404, 'stream_not_found'])
  expect(await at(`${id}.1`, bob.bearer)).toEqual(await at(unknown, bob.bearer))
  expect(await at(`${id}.999`)).toEqual([400, 'invalid_position'])
  for (const position of ['x', `${id}.`, `${id}.-1`, `${id}.1e3`, `${id}.1.1`, `${id}.${'9'.repeat(40)}`, '../x.1']) {
    expect([position, ...(await at(position))]).toEqual([position, 400, 'invalid_position'])
  }
  expect(own.simulator.requests).toHaveLength(1)
})

it('C13 headers that come byte by byte are 408 when their time is over', async () => {
  const started = performance.now()
  const answer = await sendRaw(rig.url, 'POST /stream HTTP/1.1\r\n', (socket) => {
    const drip = setInterval(() => socket.writable && socket.write('a'), 20)
    socket.on('close', () => clearInterval(drip))
  })
  expect(statusesOf(answer)).toEqual([408])
  expect(performance.now() - started).toBeLessThan(300 + 1_000)
})

it('C14 a body that comes byte by byte is 408 when its time is over', async () => {
  const started = performance.now()
  const answer = await sendRaw(rig.url, `${head}content-length: 5000\r\n\r\n{"prompt":"`, (socket) => {
    const drip = setInterval(() => socket.writable && socket.write('a'), 20)
    socket.on('close', () => clearInterval(drip))
  })
  expect(statusesOf(answer)).toEqual([408])
  expect(performance.now() - started).toBeLessThan(600 + 1_000)
})

it('C15 a chunked body without end is 413 at the limit, and takes no memory', async () => {
  globalThis.gc?.()
  const before = process.memoryUsage().rss
  const chunk = Buffer.from(`4000\r\n${'x'.repeat(0x4000)}\r\n`)
  await costsNothing(async () => {
    let sent = 0
    const answer = await sendRaw(rig.url, `${head}transfer-encoding: chunked\r\n\r\n`, (socket) => {
      const pour = () => {
        while (socket.writable && sent < 100 * 2 ** 20) {
          sent += chunk.length
          if (!socket.write(chunk)) return void socket.once('drain', pour)
        }
      }
      pour()
    })
    expect(statusesOf(answer)).toEqual([413])
    expect(sent).toBeLessThan(50 * 2 ** 20)
  })
  expect(process.memoryUsage().rss - before).toBeLessThan(60 * 2 ** 20)
})

it.each([
  '',
  '{',
  '[]',
  'null',
  '5',
  '"x"',
  '{"prompt":',
  '{"prompt":"SECRETBODY",}',
  "{'prompt':1}",
  '\ufeff{}',
  '{"a":NaN}',
])('C16 the body %j is 400, and nothing of it comes back', (body) =>
  costsNothing(async () => {
    const answer = await sendRaw(rig.url, post(body))
    expect(statusesOf(answer)).toEqual([400])
    expect(answer).not.toContain('SECRETBODY')
  }))

it('C17 broken UTF-8 is 400, and halves of surrogate pairs are mended before Claude sees them', async () => {
  const broken = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]]
  await costsNothing(async () => {
    for (const bytes of broken) {
      const body = Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from(bytes), Buffer.from('"}')])
      expect(codeOf(await sendRaw(rig.url, post(body)))).toBe('invalid_json')
    }
  })
  await sendRaw(rig.url, post(`{"prompt":"a\\udc00b","model":${JSON.stringify(quick)}}`))
  expect(rig.simulator.requests.at(-1)?.body).toMatchObject({ messages: [{ content: 'a\ufffdb' }] })
})

it('C18 deep and wide bodies are 400 before they are parsed, and hold nobody up', async () => {
  const bodies = ['['.repeat(99_000), '{"a":'.repeat(19_000), `[${'{},'.repeat(33_000)}`]
  await costsNothing(async () => {
    for (const body of bodies) {
      const started = performance.now()
      const [answer, health] = await Promise.all([sendRaw(rig.url, post(body)), fetchAll(`${rig.url}/healthz`)])
      expect(statusesOf(answer)).toEqual([400])
      expect(health.status).toBe(200)
      expect(performance.now() - started).toBeLessThan(1_000)
    }
  })
})

it.each([
  '{"prompt":"x","__proto__":{"polluted":1}}',
  '{"prompt":"x","constructor":{"prototype":{"polluted":1}}}',
  '{"messages":[{"role":"user","content":"x","__proto__":{"polluted":1}}]}',
  '{"prompt":"x","\\u005f_proto__":{"polluted":1}}',
])('C19 %s is 400 and changes no prototype', (body) =>
  costsNothing(async () => {
    expect(statusesOf(await sendRaw(rig.url, post(body)))).toEqual([400])
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  }))

it('C19 names of prototypes are keys like any other in a query, in tool input and in metadata', async () => {
  const answer = await fetchAll(`${rig.url}/stream?prompt=hi&__proto__=1&constructor=2`)
  expect(answer.status).toBe(400)
  expect(Object.keys(Object.prototype)).toEqual([])
})

it.each([
  ...['api_base', 'base_url', 'headers', 'api_key', 'url', 'host', 'x'].map((key) => ({
    prompt: 'x',
    [key]: 'https://evil',
  })),
  { prompt: 5 },
  { prompt: ['x'] },
  { prompt: 'x', max_tokens: '5' },
  { prompt: 'x', stream: 'yes' },
  { prompt: 'x', progress: 1 },
  { prompt: 'x', temperature: 'hot' },
])('C20 %j is 400: nothing unknown is left out, nothing wrong is made right', (body) =>
  costsNothing(async () => {
    const answer = await fetchAll(`${rig.url}/stream`, { body })
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([400, 'invalid_request'])
  }))

const injections = [
  '\r\nx-evil: 1',
  '\n\ndata: evil\n\n',
  '\r',
  '\0',
  '\u2028',
  '\u2029',
  '\x85',
  '\x7f',
  '\x1b[2J',
  'é',
]

it('C21 nothing in names and ids writes headers or frames', async () => {
  for (const [n, text] of injections.entries()) {
    for (const [path, body] of [
      ['/stream', { prompt: 'x', model: `claude${text}` }],
      ['/v1/messages', { model: `m${text}`, max_tokens: 5, messages: [{ role: 'user', content: 'x' }] }],
      ['/v1/chat/completions', { model: `m${text}`, messages: [{ role: 'user', content: 'x' }] }],
    ] as const) {
      const answer = await fetchAll(rig.url + path, { body })
      expect([n, path, answer.status]).toEqual([n, path, 400])
      expect(answer.headers).not.toHaveProperty('x-evil')
    }
    for (const path of [`/streams/${encodeURIComponent(text)}`, `/api/chat/${encodeURIComponent(text)}/stream`]) {
      const { status } = await fetchAll(rig.url + path)
      expect([n, path, [204, 400, 404].includes(status)]).toEqual([n, path, true])
    }
    const keyed = await fetchAll(`${rig.url}/stream?prompt=x&key=${encodeURIComponent(`k${text}`)}`)
    expect([n, keyed.status]).toEqual([n, 400])
  }
})

it('C21 what a prompt and an answer hold stays in one frame each', async () => {
  const evil = 'a\n\ndata: {"type":"done"}\n\nid: 99\r\nevent: error\u2028b'
  const format = (name: string) => fetchAll(`${rig.url}/stream`, { body: { prompt: evil, model: quick, format: name } })
  for (const name of ['json', 'anthropic', 'openai', 'ai-sdk', 'ag-ui']) {
    const plain = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'a', model: quick, format: name } })
    expect([name, count((await format(name)).body)]).toEqual([name, count(plain.body)])
  }
})

/** Frames as the rules of SSE cut them. */
function count(body: string): number {
  let frames = 0
  createParser({ onEvent: () => frames++ }).feed(body)
  return frames
}

const dots = ['..', '%2e%2e', '.%2e', '%2e.', '..%00', '%252e%252e', '..;', '%c0%ae%c0%ae', '%e0%80%ae', '....']
const slashes = ['/', '%2f', '\\', '%5c', '%252f', '//', '%c0%af', '/./', ';/', '%00/']
const targets = ['etc/passwd', '.env']
const traversals = dots.flatMap((dot) =>
  slashes.flatMap((slash) => targets.map((target) => `/${dot}${slash}${dot}${slash}${target}`)),
)
const dotfiles = [
  '/.git/config',
  '/.env',
  '/package.json',
  '/src/cli.ts',
  '/config/sluice.yaml',
  '/%2eenv',
  '/proc/self/environ',
]

it(`C22 none of ${traversals.length + dotfiles.length} ways out of a folder leads anywhere`, async () => {
  expect(traversals.length).toBe(200)
  await costsNothing(async () => {
    for (const prefix of ['', '/streams', '/v1']) {
      for (const path of [...traversals, ...dotfiles]) {
        const answer = await sendRaw(
          rig.url,
          `GET ${prefix}${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`,
        )
        const [status] = statusesOf(answer)
        expect([path, status === 404 || status === 400]).toEqual([path, true])
        expect(answer).not.toMatch(/root:|ANTHROPIC|"internal"/)
      }
    }
  })
})

it('C23 five thousand connections at once cost others less than 100 ms, and little memory', async () => {
  const own = await startRig({ env: { SLUICE_SERVER__HEADERS_TIMEOUT_MS: '10000' }, logLevel: 'silent' })
  /** The slowest but one of a hundred health checks, in milliseconds. */
  const slowest = async () => {
    const times: number[] = []
    for (let n = 0; n < 100; n++) {
      const started = performance.now()
      expect((await fetchAll(`${own.url}/healthz`)).status).toBe(200)
      times.push(performance.now() - started)
    }
    return times.sort((a, b) => a - b)[98] as number
  }
  globalThis.gc?.()
  const before = process.memoryUsage().rss
  const sockets: Socket[] = []
  for (let n = 0; n < 50; n++) {
    const batch = Array.from({ length: 100 }, () => connect(Number(new URL(own.url).port), '127.0.0.1'))
    for (const socket of batch) socket.on('error', () => {}).write('GET /healthz HTTP/1.1\r\nhost: loc')
    sockets.push(...batch)
    await Promise.all(batch.map((socket) => once(socket, 'connect')))
  }
  // What else this machine does is not in all of three rounds.
  expect(Math.min(await slowest(), await slowest(), await slowest())).toBeLessThan(100)
  // Both ends of each are in this process.
  expect((process.memoryUsage().rss - before) / 5_000).toBeLessThan(40 * 1024)
  for (const socket of sockets) socket.destroy()
}, 40_000)

it('C23 one address may have so many connections, if it is said, and those that go make room', async () => {
  const own = await startRig({ env: { SLUICE_SERVER__MAX_CONNECTIONS_PER_ADDRESS: '10' } })
  const port = Number(new URL(own.url).port)
  const sockets = Array.from({ length: 30 }, () =>
    connect(port, '127.0.0.1')
      .on('error', () => {})
      .resume(),
  )
  await eventually(() => sockets.filter(({ closed }) => closed).length === 20)
  await expect(fetchAll(`${own.url}/healthz`)).rejects.toThrow()
  for (const socket of sockets) socket.destroy()
  await eventually(() => fetchAll(`${own.url}/healthz`).catch(() => false))
  const trusting = await startRig({
    env: { SLUICE_SERVER__MAX_CONNECTIONS_PER_ADDRESS: '2', SLUICE_SERVER__TRUSTED_PROXIES: 'loopback' },
  })
  const streams = await Promise.all(Array.from({ length: 6 }, () => open(`${trusting.url}/stream?prompt=hi`)))
  expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200))
})

const health = 'GET /healthz HTTP/1.1\r\nhost: localhost\r\n'

describe('C24 several requests on one connection', () => {
  it('C24 requests that are sent at once are answered in their order, also behind a stream', async () => {
    const raw = await openRaw(rig.url)
    const body = JSON.stringify({ prompt: 'hi', model: sim({ text: 20, delay_ms: 5 }) })
    raw.socket.write(
      `${head}content-length: ${body.length}\r\n\r\n${body}${health}\r\n${health}connection: close\r\n\r\n`,
    )
    await once(raw.socket, 'close')
    expect(statusesOf(raw.answer())).toEqual([200, 200, 200])
    expect(raw.answer().indexOf('[DONE]')).toBeLessThan(raw.answer().indexOf('{"status":"ok"}'))
  })

  const inner = 'GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n'
  const smuggled = (lines: string, body: string) =>
    `POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${lines}\r\n${body}`

  it.each([
    ['a length beside chunks', smuggled('content-length: 4\r\ntransfer-encoding: chunked\r\n', `0\r\n\r\n${inner}`)],
    [
      'chunks beside a length',
      smuggled(`transfer-encoding: chunked\r\ncontent-length: ${inner.length}\r\n`, `0\r\n\r\n${inner}`),
    ],
    ['two lengths', smuggled(`content-length: 2\r\ncontent-length: ${inner.length + 2}\r\n`, `{}${inner}`)],
    ['two lengths in one', smuggled('content-length: 2, 40\r\n', `{}${inner}`)],
    ['a length with a sign', smuggled('content-length: +2\r\n', `{}${inner}`)],
    ['a length in hexadecimal', smuggled('content-length: 0x2\r\n', `{}${inner}`)],
    ['a negative length', smuggled('content-length: -1\r\n', inner)],
    ['a length of 2^64', smuggled('content-length: 18446744073709551618\r\n', `{}${inner}`)],
    ['identity for chunks', smuggled('transfer-encoding: identity\r\ncontent-length: 2\r\n', `{}${inner}`)],
    ['a word like chunks', smuggled('transfer-encoding: xchunked\r\n', `0\r\n\r\n${inner}`)],
    ['chunks that are not last', smuggled('transfer-encoding: chunked, gzip\r\n', `0\r\n\r\n${inner}`)],
    ['chunks twice', smuggled('transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n', `0\r\n\r\n${inner}`)],
    ['a blank before the colon', smuggled('transfer-encoding : chunked\r\ncontent-length: 2\r\n', `{}${inner}`)],
    ['a folded header', smuggled('content-length:\r\n 2\r\n', `{}${inner}`)],
    ['a folded encoding', smuggled('x: y\r\n transfer-encoding: chunked\r\ncontent-length: 2\r\n', `{}${inner}`)],
    ['bare LF', `POST /stream HTTP/1.1\nhost: localhost\ncontent-length: 0\n\n${inner}`],
    ['bare CR', smuggled('x: a\rtransfer-encoding: chunked\r\ncontent-length: 2\r\n', `{}${inner}`)],
    ['NUL in a header', smuggled('x: a\0b\r\ncontent-length: 2\r\n', `{}${inner}`)],
    ['a chunk of a strange size', smuggled('transfer-encoding: chunked\r\n', `0x2\r\n{}\r\n0\r\n\r\n${inner}`)],
    [
      'a chunk of a huge size',
      smuggled('transfer-encoding: chunked\r\n', `fffffffffffffffff\r\n{}\r\n0\r\n\r\n${inner}`),
    ],
    ['an extension with a bare LF', smuggled('transfer-encoding: chunked\r\n', `2;a\n{}\r\n0\r\n\r\n${inner}`)],
    ['a chunk that is longer than it says', smuggled('transfer-encoding: chunked\r\n', `1\r\n{}\r\n0\r\n\r\n${inner}`)],
    ['two hosts', `GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.test\r\nconnection: close\r\n\r\n`],
    ['no host', `GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n${inner}`],
    ['a version of its own', `GET /healthz HTTP/1.2\r\nhost: localhost\r\n\r\n${inner}`],
    ['a blank line in the first line', `GET /healthz\r\n HTTP/1.1\r\nhost: localhost\r\n\r\n${inner}`],
  ])('C24 %s is 400, and what hides behind it is no request', async (_, bytes) => {
    await costsNothing(async () => {
      const answer = await sendRaw(rig.url, bytes)
      expect(statusesOf(answer)).toEqual([400])
    })
  })

  it('C24 an extension, trailers and letters of any case are read as one request', async () => {
    const size = Buffer.byteLength(`{"prompt":"hi","model":${JSON.stringify(quick)}}`).toString(16)
    const body = `${size};a="0\\"";b\r\n{"prompt":"hi","model":${JSON.stringify(quick)}}\r\n0\r\nX-Evil: 1\r\n\r\n`
    const answer = await sendRaw(rig.url, smuggled('Transfer-Encoding: cHuNkEd\r\nconnection: close\r\n', body))
    expect(statusesOf(answer)).toEqual([200])
  })

  it('C24 what makes no sense behind a request is no part of its answer', async () => {
    const raw = await openRaw(rig.url)
    const body = JSON.stringify({ prompt: 'hi', model: sim({ text: 200, delay_ms: 5 }), on_disconnect: 'cancel' })
    raw.socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`)
    await raw.until('"text"')
    raw.socket.write('NONSENSE\r\n\r\n')
    await new Promise((resolve) => raw.socket.once('close', resolve))
    expect(statusesOf(raw.answer())).toEqual([200])
    expect(raw.answer()).not.toContain('invalid_request')
  })

  it('C24 what follows a body that was refused is thrown away with its connection', async () => {
    const large = `${head}content-length: ${maxBody + 10}\r\n\r\n`
    expect(statusesOf(await sendRaw(rig.url, large + inner))).toEqual([413])
  })
})
