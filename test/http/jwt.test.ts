import type { RequestListener } from 'node:http'
import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, open } from '../support/client.ts'
import { audience, issuerUrl, startIssuer } from '../support/issuer.ts'
import { serve } from '../support/serve.ts'
import { sim, startRig } from '../support/sluice.ts'

const issuer = await startIssuer()
const keys: RequestListener = (_, response) => void response.end(JSON.stringify(issuer.jwks))
const bearer = async (...token: Parameters<typeof issuer.token>) => ({
  authorization: `Bearer ${await issuer.token(...token)}`,
})

async function startWithIssuer(answer = keys, more: Record<string, string> = {}) {
  const env = {
    SLUICE_ACCESS__MODE: 'jwt',
    SLUICE_ACCESS__JWT__JWKS_URL: await serve(answer),
    SLUICE_ACCESS__JWT__ISSUER: issuerUrl,
    SLUICE_ACCESS__JWT__AUDIENCE: audience,
    ...more,
  }
  return startRig({ env, logLevel: 'trace' })
}

const over = () => Math.floor(Date.now() / 1_000) - 61

describe('with a token', () => {
  it("a stream is its principal's alone, whichever token of his he comes with", async () => {
    const rig = await startWithIssuer()
    const stream = await fetchAll(`${rig.url}/stream?prompt=hi`, { headers: await bearer() })
    expect(stream.status).toBe(200)
    const url = `${rig.url}/streams/${stream.headers['x-stream-id']}`
    expect((await fetchAll(url, { headers: await bearer({ jti: 'other' }) })).body).toBe(stream.body)
    expect((await fetchAll(url, { headers: { 'x-api-key': await issuer.token() } })).body).toBe(stream.body)
    expect((await fetchAll(url, { headers: await bearer({ sub: 'bob' }) })).status).toBe(404)
    expect(rig.log.find(({ message }) => message === 'stream ended')).toMatchObject({ principal: 'alice' })
  })

  it('that expires meanwhile an answer goes on to its end, and another is asked for a new one', async () => {
    const rig = await startWithIssuer(keys, { SLUICE_ACCESS__JWT__CLOCK_SKEW_MS: '0' })
    const exp = Math.ceil(Date.now() / 1_000) + 1
    const headers = await bearer({ exp })
    const query = new URLSearchParams({
      prompt: 'hi',
      model: sim({ text: 100_000, delay_ms: 10 }),
      max_tokens: '100000',
    })
    const stream = await open(`${rig.url}/stream?${query}`, { headers })
    expect(stream.status).toBe(200)
    const url = `${rig.url}/streams/${stream.headers['x-stream-id']}`
    await eventually(async () => (await fetchAll(`${rig.url}/openapi.json`, { headers })).status === 401, 5_000)
    const had = stream.body.length
    await eventually(() => stream.body.length > had)
    const again = await fetchAll(url, { headers })
    expect([again.status, JSON.parse(again.body).error.code]).toEqual([401, 'token_expired'])
    const reader = await open(url, { headers: await bearer() })
    expect(reader.status).toBe(200)
    reader.destroy()
    stream.destroy()
  })
})

describe('without a good one', () => {
  it('the challenge is that of RFC 6750, and says no more than that a token is over', async () => {
    const rig = await startWithIssuer()
    const cases: [Record<string, string>, string, string][] = [
      [{}, 'unauthorized', 'Bearer'],
      [{ authorization: 'Basic eDp5' }, 'unauthorized', 'Bearer'],
      [{ authorization: 'Bearer nonsense' }, 'token_invalid', 'Bearer error="invalid_token"'],
      [await bearer({ aud: 'other' }), 'token_invalid', 'Bearer error="invalid_token"'],
      [await bearer({ exp: undefined }), 'token_invalid', 'Bearer error="invalid_token"'],
      [await bearer({}, { kid: 'two' }), 'token_invalid', 'Bearer error="invalid_token"'],
      [
        await bearer({ exp: over() }),
        'token_expired',
        'Bearer error="invalid_token", error_description="The token has expired"',
      ],
    ]
    for (const [headers, code, challenge] of cases) {
      for (const path of ['/stream?prompt=hi', '/nonexistent', '/openapi.json']) {
        const answer = await fetchAll(rig.url + path, { headers })
        expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([401, code])
        expect(answer.headers['www-authenticate']).toBe(challenge)
      }
    }
    const claude = await fetchAll(`${rig.url}/v1/messages`, { headers: { 'x-api-key': 'nonsense' }, body: {} })
    expect(JSON.parse(claude.body).error.type).toBe('authentication_error')
    expect(rig.simulator.requests).toEqual([])
  })

  it('one that is far too large is refused like any other, or for its size', async () => {
    const rig = await startWithIssuer()
    const large = await fetchAll(`${rig.url}/openapi.json`, {
      headers: await bearer({ large: 'x'.repeat(9_000), aud: '' }),
    })
    expect(large.status).toBe(401)
    const huge = await fetchAll(`${rig.url}/openapi.json`, { headers: await bearer({ large: 'x'.repeat(20_000) }) })
    expect(huge.status).toBe(431)
  })

  it('they count as wrong keys do, those that are only over do not', async () => {
    const rig = await startWithIssuer()
    const statusOf = async (headers: Record<string, string>) =>
      (await fetchAll(`${rig.url}/openapi.json`, { headers })).status
    const expired = await bearer({ exp: over() })
    for (let n = 0; n < 25; n++) expect(await statusOf(expired)).toBe(401)
    for (let n = 0; n < 20; n++) expect(await statusOf({ 'x-api-key': `${n}` })).toBe(401)
    expect(await statusOf(await bearer({ aud: 'other' }))).toBe(429)
    expect(await statusOf(await bearer())).toBe(200)
  })
})

it('while the keys of the issuer cannot be had nobody is let in, nobody is blamed, and health checks are answered', async () => {
  let answer: RequestListener = (_, response) => void response.writeHead(500).end()
  const rig = await startWithIssuer((request, response) => answer(request, response))
  for (const path of ['/stream?prompt=hi', '/streams/x', '/openapi.json']) {
    const refused = await fetchAll(rig.url + path, { headers: await bearer() })
    expect([path, refused.status, refused.headers['retry-after']]).toEqual([path, 503, '1'])
    expect(JSON.parse(refused.body).error).toMatchObject({ code: 'access_unavailable', retryable: true })
  }
  for (const path of ['/healthz', '/readyz']) expect((await fetchAll(rig.url + path)).status).toBe(200)
  expect((await fetchAll(`${rig.url}/openapi.json`)).status).toBe(401)
  expect(rig.simulator.requests).toEqual([])
  answer = keys
  await eventually(async () => (await fetchAll(`${rig.url}/openapi.json`, { headers: await bearer() })).status === 200)
})

it('no token stands in a log, an answer or what Claude is sent', async () => {
  const rig = await startWithIssuer()
  const said: string[] = []
  const tokens = [await issuer.token(), await issuer.token({ aud: 'other' }), await issuer.token({ exp: over() })]
  for (const token of tokens) {
    for (const path of ['/stream', '/v1/messages', '/v1/chat/completions', '/tickets']) {
      const body = { model: 'claude-sim', max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] }
      const answer = await fetchAll(rig.url + path, { headers: { authorization: `Bearer ${token}` }, body })
      said.push(answer.body, JSON.stringify(answer.headers))
    }
  }
  const all = said.join() + JSON.stringify(rig.log) + JSON.stringify(rig.simulator.requests)
  expect(rig.simulator.requests).toHaveLength(3)
  for (const token of tokens) for (const part of token.split('.').slice(1)) expect(all).not.toContain(part)
})
