import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { routeDescriptions } from '../../src/http/descriptions.ts'
import { addressMatcher, isAddressRange } from '../../src/http/proxies.ts'
import { pageHeaders } from '../../src/http/security.ts'
import { createServer } from '../../src/http/server.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { fetchAll, open } from '../support/client.ts'
import { ask, openSession } from '../support/http2.ts'
import { sendRaw } from '../support/raw.ts'
import { openRig, type Rig, startRig } from '../support/sluice.ts'
import { certificate } from '../support/tls.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig()
})
afterAll(() => rig.close())

const headers = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
}

it.each([
  ...routeDescriptions.map(({ method, path }) => [method.toUpperCase(), path.replace(/\{\w+\}/, 'x')] as const),
  ['GET', '/stream?prompt=hi'] as const,
  ['GET', '/nothing'] as const,
  ['GET', '/%ff'] as const,
  ['PUT', '/stream'] as const,
])('%s %s carries the security headers, and none that says what runs here', async (method, path) => {
  const bodies = method === 'POST' ? [{ prompt: 'hi' }, { nonsense: 1 }] : [undefined]
  for (const body of bodies) {
    const answer = await open(rig.url + path, { method, ...(body && { body }) })
    // Some of them have no end.
    answer.destroy()
    expect(answer.headers).toMatchObject(headers)
    for (const name of ['server', 'x-powered-by', 'strict-transport-security'])
      expect(answer.headers).not.toHaveProperty(name)
  }
})

it('what never became a request is answered with them, too', async () => {
  const answer = await sendRaw(rig.url, 'NONSENSE\r\n\r\n')
  for (const [name, value] of Object.entries(headers)) expect(answer).toContain(`${name}: ${value}\r\n`)
})

it('hsts: false keeps browsers from nothing', async () => {
  const strict = await startRig({ env: certificate().env })
  const lax = await startRig({ env: certificate('first', { hsts: false }).env })
  const sent = async ({ url }: Rig) =>
    (await ask(await openSession(url), '/healthz')).headers['strict-transport-security']
  expect([await sent(strict), await sent(lax)]).toEqual(['max-age=31536000', undefined])
})

it('links on other sites lead to pages, and to nothing else, and a page may load what is beside it', async () => {
  const options = {
    ...{
      cors_origins: [],
      allowed_hosts: [],
      trusted_proxies: [],
      max_body_bytes: 1_000,
      max_connections_per_address: 0,
    },
    ...{ headers_timeout_ms: 1_000, request_timeout_ms: 1_000 },
  }
  const app = await createServer(options, createLogger('silent'))
  onTestFinished(() => app.close())
  app.get('/page', { config: { page: true } }, async (_, reply) =>
    reply.headers(pageHeaders).type('text/html').send('<p>'),
  )
  app.get('/data', async () => ({}))
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const visit = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
  const get = (path: string, more = {}) => fetchAll(url + path, { headers: { ...visit, ...more } })
  const page = await get('/page')
  expect([page.status, page.headers['content-security-policy']]).toEqual([200, pageHeaders['content-security-policy']])
  expect(page.headers['content-security-policy']).not.toMatch(/unsafe|https?:|\*/)
  expect((await get('/data')).status).toBe(403)
  expect((await get('/page', { 'sec-fetch-dest': 'iframe' })).status).toBe(403)
  expect((await get('/page', { 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' })).status).toBe(403)
})

it.each([
  '127.0.0.1',
  '10.0.0.0/8',
  '::1',
  'fd00::/8',
  '2001:db8::1/128',
  'loopback',
  'linklocal',
  'uniquelocal',
])('%s is a range of addresses', (text) => expect(isAddressRange(text)).toBe(true))

it.each([
  '',
  '*',
  '0.0.0.0/0',
  '::/0',
  '10.0.0.0/33',
  '10.0.0/8',
  '10.0.0.0/255.0.0.0',
  'localhost',
  'proxy.example',
  'fe80::1%eth0',
  '::1/129',
  '1.2.3.4/',
  'toString',
])('%j is none', (text) => expect(isAddressRange(text)).toBe(false))

it('addresses are found in their ranges, also IPv4 ones that come as IPv6', () => {
  const isIn = addressMatcher(['10.0.0.0/8', '192.0.2.1', 'fd00::/8', 'loopback'])
  for (const each of ['10.255.0.1', '192.0.2.1', 'fd12::1', '127.9.9.9', '::1', '::ffff:10.1.1.1'])
    expect([each, isIn(each)]).toEqual([each, true])
  for (const each of ['11.0.0.1', '192.0.2.2', 'fe00::1', '::2', '::ffff:11.1.1.1', 'x', '', undefined])
    expect([each, isIn(each)]).toEqual([each, false])
})
