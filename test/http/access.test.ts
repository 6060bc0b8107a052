import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newKey } from '../../src/access/keyring.ts'
import { formats } from '../../src/formats/registry.ts'
import { routeDescriptions } from '../../src/http/descriptions.ts'
import { holder, lettingIn } from '../support/access.ts'
import { fetchAll, open } from '../support/client.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

const [alice, bob] = [holder('alice'), holder('bob')]
const origin = 'https://app.example.com'

let rig: Rig
beforeAll(async () => {
  rig = await openRig({ env: { ...lettingIn(alice, bob), CORS_ORIGINS: origin } })
})
afterAll(() => rig.close())

const closed = routeDescriptions.filter(({ open }) => !open)
const routes = [
  ...closed.map(({ method, path }) => [method.toUpperCase(), path.replace(/\{\w+\}/, 'x')] as const),
  ...Object.keys(formats).map((format) => ['GET', `/stream?prompt=hi&format=${format}`] as const),
  ['GET', '/nonexistent'] as const,
  ['PUT', '/stream'] as const,
]

/** The failure as the clients of that route read it. */
function shapeOf(path: string, code: string) {
  const message = expect.any(String)
  if (path.startsWith('/v1/chat')) return { error: { message, type: 'invalid_request_error', param: null, code } }
  const type = code === 'unauthorized' ? 'authentication_error' : 'rate_limit_error'
  if (path.startsWith('/v1/'))
    return { type: 'error', error: { type, message, details: null }, request_id: expect.any(String) }
  return { error: { code, message, retryable: false, request_id: expect.any(String) } }
}

describe('without a valid key', () => {
  it.each([
    ['no key', {}],
    ['a key that nobody has', { authorization: `Bearer ${newKey()}` }],
    ['the same in the other header', { 'x-api-key': newKey() }],
    ['the hash of a key', { 'x-api-key': alice.entry.sha256 }],
    ['a name', { 'x-api-key': 'alice' }],
    ['an empty header', { authorization: 'Bearer ', 'x-api-key': '' }],
    ['another scheme', { authorization: `Basic ${alice.key}` }],
    ['a key in the query', {}, `key=${alice.key}&api_key=${alice.key}&access_token=${alice.key}`],
  ])('every route refuses: %s', async (_, headers: Record<string, string>, query = '') => {
    // Each case guesses from a place of its own, as too many from one are another answer.
    await using own = await closing({ ...lettingIn(alice), SLUICE_SERVER__TRUSTED_PROXIES: '127.0.0.1' })
    for (const [n, [method, path]] of routes.entries()) {
      const url = `${own.url}${path}${path.includes('?') ? '&' : '?'}${query}`
      const asked = { ...headers, 'x-forwarded-for': `192.0.2.${n}` }
      const answer = await fetchAll(url, {
        method,
        headers: asked,
        ...(method === 'POST' && { body: { prompt: 'hi' } }),
      })
      expect([method, path, answer.status]).toEqual([method, path, 401])
      expect(answer.headers).toMatchObject({ 'www-authenticate': 'Bearer', 'cache-control': 'no-store' })
      expect(answer.headers).not.toHaveProperty('x-stream-id')
      expect(JSON.parse(answer.body)).toEqual(shapeOf(path, 'unauthorized'))
    }
    expect(own.simulator.requests).toEqual([])
    expect(JSON.stringify(own.log)).not.toContain(alice.key)
  })

  it('only health checks are answered', async () => {
    for (const path of ['/healthz', '/readyz'])
      for (const method of ['GET', 'HEAD']) expect((await fetchAll(rig.url + path, { method })).status).toBe(200)
  })

  it('a page of an allowed origin hears why, and may ask whether it may ask', async () => {
    const refused = await fetchAll(`${rig.url}/stream`, { headers: { origin }, body: { prompt: 'hi' } })
    expect([refused.status, refused.headers['access-control-allow-origin']]).toEqual([401, origin])
    const asking = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }
    const preflight = await fetchAll(`${rig.url}/stream`, { method: 'OPTIONS', headers: { origin, ...asking } })
    expect(preflight.status).toBe(204)
    expect(preflight.headers['access-control-allow-headers']).toBe('authorization')
  })
})

/** A rig that `await using` closes. */
async function closing(env: Record<string, string>) {
  const opened = await openRig({ env })
  return { ...opened, [Symbol.asyncDispose]: () => opened.close() }
}

describe('with a key', () => {
  it.each([
    ['as OpenAI has it', alice.bearer],
    ['in other letters', { authorization: `bearer  ${alice.key} ` }],
    ['as Anthropic has it', { 'x-api-key': alice.key }],
    ['in one of two places', { authorization: `Bearer ${newKey()}`, 'x-api-key': alice.key }],
    ['beside what a proxy asks for', { authorization: 'Basic eDp5', 'x-api-key': alice.key }],
  ])('%s every format is served', async (_, headers) => {
    for (const format of Object.keys(formats)) {
      const answer = await fetchAll(`${rig.url}/stream?prompt=hi&format=${format}`, { headers })
      expect([answer.status, answer.headers['x-stream-id'] !== undefined]).toEqual([200, true])
    }
  })

  it('the log line of a stream names its principal', async () => {
    const { headers } = await fetchAll(`${rig.url}/stream?prompt=hi`, { headers: bob.bearer })
    const line = rig.log.find(({ stream }) => stream === headers['x-stream-id'])
    expect(line).toMatchObject({ message: 'stream ended', principal: 'bob' })
  })

  it("Anthropic's SDK just uses it", async () => {
    const ask = { model: 'claude-sim', max_tokens: 50, messages: [{ role: 'user' as const, content: 'hi' }] }
    const options = { baseURL: rig.url, maxRetries: 2, logLevel: 'off' as const }
    for (const auth of [{ apiKey: alice.key }, { apiKey: null, authToken: alice.key }]) {
      const client = new Anthropic({ ...options, ...auth })
      expect((await client.messages.create(ask)).type).toBe('message')
      expect((await client.messages.stream(ask).finalMessage()).stop_reason).not.toBeNull()
      expect((await client.messages.countTokens(ask)).input_tokens).toBeGreaterThan(0)
    }
    const wrong = new Anthropic({ ...options, apiKey: newKey() })
    await expect(wrong.messages.create(ask)).rejects.toThrow(Anthropic.AuthenticationError)
  })

  it("OpenAI's SDK just uses it", async () => {
    const ask = { model: 'claude-sim', messages: [{ role: 'user' as const, content: 'hi' }] }
    const client = new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: alice.key })
    expect((await client.chat.completions.create(ask)).choices).toHaveLength(1)
    let chunks = 0
    for await (const _ of await client.chat.completions.create({ ...ask, stream: true })) chunks++
    expect(chunks).toBeGreaterThan(2)
    const wrong = new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: newKey() })
    await expect(wrong.chat.completions.create(ask)).rejects.toThrow(OpenAI.AuthenticationError)
  })

  it('the description for machines says how to send it, and where none is needed', async () => {
    const document = JSON.parse((await fetchAll(`${rig.url}/openapi.json`, { headers: alice.bearer })).body)
    expect(document.security).toEqual([{ bearer: [] }, { apiKey: [] }])
    expect(Object.keys(document.components.securitySchemes)).toEqual(['bearer', 'apiKey', 'ticket'])
    expect(document.paths['/healthz'].get.security).toEqual([])
    expect(document.paths['/stream'].post.security).toBeUndefined()
    expect(document.paths['/stream'].get.security).toContainEqual({ ticket: [] })
  })

  it('Claude never hears of it, nor does anybody who reads logs, frames or failures', async () => {
    const own = await startRig({ env: lettingIn(alice), logLevel: 'trace' })
    const said: string[] = []
    const wrong = newKey()
    for (const headers of [alice.bearer, { 'x-api-key': alice.key }, { authorization: `Bearer ${wrong}` }]) {
      for (const [path, body] of [
        ['/stream', { prompt: 'hi' }],
        ['/stream', { prompt: 'hi', model: sim({ error_at: 2 }) }],
        ['/stream', { nonsense: 1 }],
        ['/v1/messages', { model: 'claude-sim', max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] }],
        ['/v1/chat/completions', { model: 'claude-sim', messages: [{ role: 'user', content: 'hi' }] }],
      ] as const) {
        const answer = await fetchAll(own.url + path, { headers, body })
        said.push(answer.body, JSON.stringify(answer.headers))
      }
    }
    for (let n = 0; n < 20; n++) await fetchAll(`${own.url}/v1/models`, { headers: { 'x-api-key': wrong } })
    expect(own.log.some(({ message }) => message === 'too many wrong keys from one address')).toBe(true)
    expect(own.simulator.requests.length).toBeGreaterThan(5)
    const all = said.join() + JSON.stringify(own.log) + JSON.stringify(own.simulator.requests)
    for (const secret of [alice.key, wrong, alice.entry.sha256]) expect(all).not.toContain(secret)
  })
})

describe('an address that sends wrong keys', () => {
  const guess = (at: Rig, path = '/stream') => fetchAll(at.url + path, { headers: { 'x-api-key': newKey() } })

  it('has to wait after twenty, and those who have a key beside it do not', async () => {
    const own = await startRig({ env: lettingIn(alice) })
    for (let n = 0; n < 20; n++) expect((await guess(own)).status).toBe(401)
    for (const path of ['/stream', '/v1/models', '/v1/chat/completions', '/nonexistent']) {
      const refused = await guess(own, path)
      // Routes of one method only: what is not there is refused as any other.
      const shape = path === '/v1/chat/completions' ? '/nonexistent' : path
      expect([path, refused.status]).toEqual([path, 429])
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(50)
      expect(JSON.parse(refused.body)).toEqual(shapeOf(shape, 'too_many_wrong_keys'))
    }
    expect((await fetchAll(`${own.url}/stream`)).status).toBe(401)
    expect((await fetchAll(`${own.url}/stream?prompt=hi`, { headers: alice.bearer })).status).toBe(200)
    expect(own.log.filter(({ message }) => message === 'too many wrong keys from one address')).toHaveLength(1)
  })

  it('is the one that a trusted proxy names, and not what anybody else says', async () => {
    const trusting = await startRig({ env: { ...lettingIn(alice), SLUICE_SERVER__TRUSTED_PROXIES: '127.0.0.1' } })
    const plain = await startRig({ env: lettingIn(alice) })
    const lastOf = async (at: Rig) => {
      let status = 0
      for (let n = 0; n < 21; n++) {
        const headers = { 'x-api-key': newKey(), 'x-forwarded-for': `192.0.2.${n}` }
        status = (await fetchAll(`${at.url}/stream`, { headers })).status
      }
      return status
    }
    expect([await lastOf(trusting), await lastOf(plain)]).toEqual([401, 429])
  })
})

describe('where no keys are asked for', () => {
  it('all share all streams, whatever keys they send', async () => {
    const own = await startRig()
    const headers = { authorization: `Bearer ${newKey()}` }
    const stream = await open(`${own.url}/stream?prompt=hi`, { headers })
    await stream.ended
    const again = await fetchAll(`${own.url}/streams/${stream.headers['x-stream-id']}`)
    expect([again.status, again.body]).toEqual([200, stream.body])
    expect(own.log.find(({ message }) => message === 'stream ended')).not.toHaveProperty('principal')
    const document = JSON.parse((await fetchAll(`${own.url}/openapi.json`)).body)
    expect(document).not.toHaveProperty('security')
  })
})
