import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newKey } from '../../src/access/keyring.ts'
import { holder, lettingIn } from '../support/access.ts'
import { fetchAll } from '../support/client.ts'
import { sendRaw, statusesOf } from '../support/raw.ts'
import { serve } from '../support/serve.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

/** Where requests come from and where they want to go, by the numbers of docs/threat-model.md. */
const allowed = ['https://app.example.com', 'https://other.example.com:8443', 'https://xn--bcher-kva.example']

let rig: Rig
beforeAll(async () => {
  rig = await openRig({
    env: { CORS_ORIGINS: allowed.join(), SLUICE_SERVER__ALLOWED_HOSTS: 'sluice.internal,fd00::1' },
  })
})
afterAll(() => rig.close())

const quick = sim({ text: 2 })
const body = { prompt: 'hi', model: quick }
const run = `/stream?prompt=hi&model=${encodeURIComponent(quick)}`

/** How often Claude was asked meanwhile. */
async function costOf(action: () => Promise<unknown>): Promise<number> {
  const before = rig.simulator.requests.length
  await action()
  return rig.simulator.requests.length - before
}

it('A7 nothing that a client sends leads its request elsewhere, and only two of its headers go on', async () => {
  let hits = 0
  const canary = await serve((_, response) => {
    hits++
    response.end()
  })
  const { host } = new URL(canary)
  const headers = {
    'x-forwarded-host': host,
    forwarded: `host=${host}`,
    'x-original-url': canary,
    'x-rewrite-url': canary,
    'x-base-url': canary,
    'anthropic-beta': 'one-2026-01-01',
    cookie: 'CANARYCOOKIE=1',
    'x-custom': 'CANARYHEADER',
    'user-agent': 'CANARYAGENT',
  }
  const ask = { model: 'claude-sim', max_tokens: 5, messages: [{ role: 'user', content: 'x' }] }
  for (const path of ['/stream', '/v1/messages', '/v1/chat/completions', '/v1/messages/count_tokens']) {
    await fetchAll(rig.url + path, { body: path === '/stream' ? { prompt: 'x' } : ask, headers })
  }
  for (const key of ['base_url', 'api_base', 'url', 'endpoint', 'baseURL']) {
    expect((await fetchAll(`${rig.url}/stream`, { body: { ...body, [key]: canary } })).status).toBe(400)
    expect((await fetchAll(`${rig.url}${run}&${key}=${encodeURIComponent(canary)}`)).status).toBe(400)
  }
  const seen = JSON.stringify(rig.simulator.requests.map((each) => each.headers))
  for (const text of ['CANARY', host, canary]) expect(seen).not.toContain(text)
  expect(seen).toContain('one-2026-01-01')
  for (const target of [`${canary}/stream?prompt=hi`, `http://localhost@${host}/healthz`, `//${host}/healthz`, host]) {
    const answer = await sendRaw(rig.url, `GET ${target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
    expect([target, statusesOf(answer)[0]]).toEqual([target, target.startsWith('/') ? 404 : 400])
  }
  const own = await sendRaw(
    rig.url,
    'GET http://localhost/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n',
  )
  expect(statusesOf(own)).toEqual([200])
  const connect = await sendRaw(rig.url, `CONNECT ${host} HTTP/1.1\r\nhost: ${host}\r\n\r\n`)
  expect(statusesOf(connect)).not.toContain(200)
  expect(hits).toBe(0)
})

/** Each is like one of the origins that are allowed, and none of them. */
const others = [
  'null',
  'https://app.example.com.evil.test',
  'https://evil-app.example.com',
  'https://evil.test/https://app.example.com',
  'https://app.example.comevil',
  'https://example.com',
  'https://sub.app.example.com',
  'http://app.example.com',
  'ws://app.example.com',
  'https:app.example.com',
  'https:/app.example.com',
  '//app.example.com',
  'app.example.com',
  'https://app.example.com:443',
  'https://app.example.com:444',
  'https://app.example.com:8443',
  'https://other.example.com',
  'https://other.example.com:8444',
  'https://other.example.com:84430',
  'https://APP.example.com',
  'HTTPS://app.example.com',
  'https://app.example.com.',
  'https://app.example.com/',
  'https://app.example.com/path',
  'https://app.example.com?',
  'https://app.example.com#x',
  'https://app.example.com@evil.test',
  'https://evil.test@app.example.com',
  'https://user:pass@app.example.com',
  'https://app.example.com%2eevil.test',
  'https://app%2eexample.com',
  'https://appXexample.com',
  'https://app.example.com, https://evil.test',
  'https://evil.test, https://app.example.com',
  'https://app.example.com https://evil.test',
  'https://app.example.com,https://other.example.com:8443',
  'https://b\xfccher.example',
  'https://xn--bcher-kva.example.',
  'file://',
  '*',
]

describe('A13 CORS', () => {
  it('A13 origins that are listed read, and may ask whether they may', async () => {
    for (const origin of allowed) {
      const answer = await fetchAll(rig.url + run, { headers: { origin, 'sec-fetch-site': 'cross-site' } })
      expect(answer.headers).toMatchObject({
        'access-control-allow-origin': origin,
        vary: expect.stringContaining('Origin'),
        'cross-origin-resource-policy': 'cross-origin',
      })
      expect(answer.headers).not.toHaveProperty('access-control-allow-credentials')
      const asking = { 'access-control-request-method': 'DELETE', 'access-control-request-headers': 'x-api-key' }
      const preflight = await fetchAll(`${rig.url}/streams/x`, { method: 'OPTIONS', headers: { origin, ...asking } })
      expect([preflight.status, preflight.headers['access-control-allow-origin']]).toEqual([204, origin])
      expect(preflight.headers['access-control-allow-methods']).toBe('GET, POST, DELETE')
      expect(preflight.headers).not.toHaveProperty('access-control-allow-credentials')
    }
  })

  it('A13 there are forty others in the table', () => expect(others).toHaveLength(40))

  it.each(others)('A13 %s gets nothing, by no method, and nothing is bought', async (origin) => {
    const asking = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' }
    const cost = await costOf(async () => {
      for (const [path, method, sent] of [
        [run, 'GET', undefined],
        ['/stream', 'POST', body],
        ['/healthz', 'GET', undefined],
      ] as const) {
        const answer = await fetchAll(rig.url + path, { method, headers: { origin }, ...(sent && { body: sent }) })
        expect([path, answer.status, JSON.parse(answer.body).error.code]).toEqual([path, 403, 'origin_not_allowed'])
        expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
        expect(answer.headers.vary).toContain('Origin')
      }
      const preflight = await fetchAll(`${rig.url}/stream`, { method: 'OPTIONS', headers: { origin, ...asking } })
      expect([preflight.status, preflight.headers['access-control-allow-origin']]).toEqual([403, undefined])
    })
    expect(cost).toBe(0)
  })

  it('A13 of several Origin headers none counts', async () => {
    const lines = `origin: ${allowed[0]}\r\norigin: https://evil.test\r\n`
    const answer = await sendRaw(rig.url, `GET ${run} HTTP/1.1\r\nhost: localhost\r\n${lines}connection: close\r\n\r\n`)
    expect(statusesOf(answer)).toEqual([403])
    expect(answer.toLowerCase()).not.toContain('access-control-allow-origin')
  })

  it('A13 an empty one is none that is listed, and programs send none at all', async () => {
    expect((await fetchAll(rig.url + run, { headers: { origin: '' } })).status).toBe(403)
    const plain = await fetchAll(rig.url + run)
    expect([plain.status, plain.headers['access-control-allow-origin']]).toEqual([200, undefined])
    expect(plain.headers.vary).toContain('Origin')
  })
})

describe('A14 requests that a page of another site can make without asking', () => {
  const browser = { 'sec-fetch-site': 'cross-site' }

  it.each<[string, string, Record<string, string>, unknown]>([
    ['an image', 'GET', { ...browser, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' }, undefined],
    ['a script', 'GET', { ...browser, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' }, undefined],
    ['a frame', 'GET', { ...browser, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' }, undefined],
    ['a link', 'GET', { ...browser, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }, undefined],
    ['an EventSource', 'GET', { ...browser, origin: 'https://evil.test' }, undefined],
    ['an EventSource of an old browser', 'GET', { origin: 'https://evil.test' }, undefined],
    ['a page of a neighbouring name', 'GET', { 'sec-fetch-site': 'same-site' }, undefined],
    [
      'a page of a neighbouring port',
      'GET',
      { 'sec-fetch-site': 'same-site', origin: 'http://localhost:3000' },
      undefined,
    ],
    ['a fetch', 'POST', { ...browser, origin: 'https://evil.test' }, body],
    ['a fetch of an old browser', 'POST', { origin: 'https://evil.test' }, body],
    ['a fetch of a sandboxed frame', 'POST', { ...browser, origin: 'null' }, body],
    ['two answers of one header', 'GET', { 'sec-fetch-site': 'same-origin, cross-site' }, undefined],
  ])('A14 %s is refused, and nothing is bought', async (_, method, headers, sent) => {
    const cost = await costOf(async () => {
      const answer = await fetchAll(method === 'GET' ? rig.url + run : `${rig.url}/stream`, {
        method,
        headers,
        ...(sent !== undefined && { body: sent }),
      })
      expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([403, 'origin_not_allowed'])
    })
    expect(cost).toBe(0)
  })

  it.each([
    'text/plain',
    'text/plain;charset=UTF-8',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/json',
    'application/jsonx',
    '',
  ])('A14 a body as %j is 415, even without a word on where it comes from', async (type) => {
    const cost = await costOf(async () => {
      for (const path of ['/stream', '/api/chat', '/v1/messages', '/v1/chat/completions', '/ag-ui']) {
        const text = JSON.stringify(body)
        const lines = `content-type: ${type}\r\ncontent-length: ${text.length}\r\nconnection: close\r\n`
        const answer = await sendRaw(rig.url, `POST ${path} HTTP/1.1\r\nhost: localhost\r\n${lines}\r\n${text}`)
        expect([path, ...statusesOf(answer)]).toEqual([path, 415])
      }
    })
    expect(cost).toBe(0)
  })

  it.each([
    ['its own', { 'sec-fetch-site': 'same-origin' }],
    ['its own in an old browser', { origin: 'http://localhost:8787', host: 'localhost:8787' }],
    ['typed by a person', { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' }],
    ['a program', {}],
  ])('A14 one that is %s is served', async (_, headers) => {
    expect((await fetchAll(rig.url + run, { headers: headers as Record<string, string> })).status).toBe(200)
  })
})

describe('A15 DNS rebinding', () => {
  it.each([
    'localhost',
    'LOCALHOST:1',
    '127.0.0.1:8787',
    '[::1]',
    '[::1]:8787',
    'sluice.internal',
    'Sluice.Internal:80',
    '[fd00::1]',
    '[FD00::1]:443',
  ])('A15 %s is served', async (host) => {
    expect((await fetchAll(`${rig.url}/healthz`, { headers: { host } })).status).toBe(200)
  })

  it.each([
    'evil.test',
    'evil.test:8787',
    'localhost.evil.test',
    'localhost.',
    'sluice.internal.',
    '127.0.0.1.evil.test',
    '127.1',
    '2130706433',
    '0x7f.1',
    '0.0.0.0',
    '[::]',
    '::1',
    '[::ffff:127.0.0.1]',
    '[::1]evil.test',
    '[fd00::2]',
    'localhost:8787:80',
    'localhost:evil',
    'localhost@evil.test',
    'user@localhost',
    'localhost/evil',
    'evil.test#localhost',
  ])('A15 %j is not, on any route', async (host) => {
    const cost = await costOf(async () => {
      for (const target of ['/healthz', run, '/openapi.json', '/nothing']) {
        const answer = await sendRaw(rig.url, `GET ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
        expect([target, statusesOf(answer)]).toEqual([target, [421]])
      }
    })
    expect(cost).toBe(0)
  })

  it('A15 the host of a proxy, or of a target, does not count in place of Host', async () => {
    const trusting = await startRig({ env: { SLUICE_SERVER__TRUSTED_PROXIES: '127.0.0.1' } })
    for (const at of [rig, trusting]) {
      const forwarded = { host: 'evil.test', 'x-forwarded-host': 'localhost', forwarded: 'host=localhost' }
      expect((await fetchAll(`${at.url}/healthz`, { headers: forwarded })).status).toBe(421)
    }
    const absolute = await sendRaw(
      rig.url,
      'GET http://localhost/healthz HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n',
    )
    expect(statusesOf(absolute)).toEqual([400])
    // HTTP/1.0 needs no Host, and names nothing that is served here.
    expect(statusesOf(await sendRaw(rig.url, 'GET /healthz HTTP/1.0\r\n\r\n'))).toEqual([421])
  })
})

describe('A21 X-Forwarded-For', () => {
  /** Whether wrong keys that come under these addresses in turn are all counted for one. */
  async function areOne(trusted: string, forwarded: (n: number) => string, local = '127.0.0.1'): Promise<boolean> {
    const alice = holder('alice')
    const at = await openRig({ env: { ...lettingIn(alice), SLUICE_SERVER__TRUSTED_PROXIES: trusted } })
    let status = 0
    for (let n = 0; n < 21; n++) {
      const headers = {
        'x-api-key': newKey(),
        'x-forwarded-for': forwarded(n),
        'x-real-ip': `192.0.2.${n}`,
        forwarded: `for=192.0.2.${n}`,
      }
      const request = httpRequest(`${at.url}/stream`, { headers, localAddress: local, agent: false })
      request.end()
      const [response] = await once(request, 'response')
      response.resume()
      status = response.statusCode
    }
    await at.close()
    return status === 429
  }

  it.each<[string, string, (n: number) => string, boolean, string?]>([
    ['nobody is believed unless named', '[]', (n) => `192.0.2.${n}`, true],
    ['one that is named is', '127.0.0.1', (n) => `192.0.2.${n}`, false],
    ['in a range, too', '127.0.0.0/8', (n) => `192.0.2.${n}`, false],
    ['and by a name of ranges', 'loopback', (n) => `192.0.2.${n}`, false],
    ['another is not', '10.0.0.0/8', (n) => `192.0.2.${n}`, true],
    ['nor is its neighbour', '127.0.0.1', (n) => `192.0.2.${n}`, true, '127.0.0.2'],
    [
      'what stands before the last that is not a proxy was made up',
      '127.0.0.1',
      (n) => `192.0.2.${n}, 198.51.100.7`,
      true,
    ],
    ['so it is behind two proxies', '127.0.0.1,10.0.0.0/8', (n) => `192.0.2.${n}, 198.51.100.7, 10.1.2.3`, true],
    ['a client behind two proxies is found', '127.0.0.1,10.0.0.0/8', (n) => `192.0.2.${n}, 10.1.2.3`, false],
    ['the proxy of a stranger is a stranger', '127.0.0.1', (n) => `192.0.2.${n}, 10.1.2.3`, true],
    ['one IPv6 network is one client', '127.0.0.1', (n) => `2001:db8::${n.toString(16)}`, true],
  ])('A21 %s', async (_, trusted, forwarded, one, local) => {
    expect(await areOne(trusted, forwarded, local)).toBe(one)
  })
})
