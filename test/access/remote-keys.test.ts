import { once } from 'node:events'
import type { RequestListener, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { jwtVerify } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import { RemoteKeys } from '../../src/access/remote-keys.ts'
import { type Issuer, startIssuer } from '../support/issuer.ts'
import { serve } from '../support/serve.ts'

let one: Issuer
let two: Issuer
beforeAll(async () => {
  one = await startIssuer('ES256', 'one')
  two = await startIssuer('ES256', 'two')
})

/** Keys behind a server whose answer can be changed, and a clock that can be turned. */
async function open(first: RequestListener, timeoutMs = 5_000) {
  const state = { answer: first, fetches: 0, now: 0, said: [] as string[] }
  const url = await serve((request, response) => {
    state.fetches++
    state.answer(request, response)
  })
  const keys = new RemoteKeys({
    url,
    timeoutMs,
    now: () => state.now,
    log: { error: (fields) => void state.said.push(String((fields as { reason?: unknown }).reason)) },
  })
  const check = async (token: Promise<string>) =>
    jwtVerify(await token, keys.find).then(
      () => 'good',
      ({ code }) => code as string,
    )
  return { state, check }
}

const having =
  (...issuers: Issuer[]): RequestListener =>
  (_, response) =>
    void response.end(JSON.stringify({ keys: issuers.flatMap(({ jwks }) => jwks.keys) }))
const broken =
  (status: number): RequestListener =>
  (_, response) =>
    void response.writeHead(status).end('{"keys":[]}')

it('one fetch serves all who wait for it and all who come later', async () => {
  const { state, check } = await open(having(one))
  expect(await Promise.all([check(one.token()), check(one.token()), check(one.token())])).toEqual([
    'good',
    'good',
    'good',
  ])
  expect(await check(one.token())).toBe('good')
  expect(state.fetches).toBe(1)
})

describe('a key that is not known', () => {
  it('is fetched once in a while, whoever names it', async () => {
    const { state, check } = await open(having(one))
    await check(one.token())
    const asks = Array.from({ length: 20 }, () => check(two.token()))
    expect(new Set(await Promise.all(asks))).toEqual(new Set(['ERR_JWKS_NO_MATCHING_KEY']))
    expect(state.fetches).toBe(1)
    state.now += 10_000
    for (let n = 0; n < 5; n++) expect(await check(two.token())).toBe('ERR_JWKS_NO_MATCHING_KEY')
    expect(state.fetches).toBe(2)
  })

  it('is good as soon as its issuer has it, and the one that is gone no more', async () => {
    const { state, check } = await open(having(one))
    await check(one.token())
    state.answer = having(two)
    state.now += 10_000
    expect([await check(two.token()), await check(one.token()), state.fetches]).toEqual([
      'good',
      'ERR_JWKS_NO_MATCHING_KEY',
      2,
    ])
  })

  it("is nobody's fault while keys cannot be fetched", async () => {
    const { state, check } = await open(having(one))
    await check(one.token())
    state.answer = broken(500)
    state.now += 10_000
    for (let n = 0; n < 3; n++) expect(await check(two.token())).toBe('access_unavailable')
    expect([await check(one.token()), state.fetches]).toEqual(['good', 2])
  })
})

it('keys that are old are fetched again by the way, and stay while they cannot be', async () => {
  const { state, check } = await open(having(one))
  await check(one.token())
  state.answer = broken(503)
  state.now += 600_000
  for (let n = 0; n < 3; n++) expect(await check(one.token())).toBe('good')
  await expect.poll(() => state.said).toEqual(['status 503'])
  state.now += 10_000
  state.answer = having(two)
  await check(one.token())
  await expect.poll(() => check(one.token())).toBe('ERR_JWKS_NO_MATCHING_KEY')
  expect(await check(two.token())).toBe('good')
})

const hang = async (_: unknown, response: ServerResponse) => void (await once(response, 'close'))
const drip = async (_: unknown, response: ServerResponse) => {
  response.write('{"keys":[')
  while (!response.destroyed) {
    response.write(' ')
    await delay(20)
  }
}
const flood = (_: unknown, response: ServerResponse) => void Readable.from(spaces()).pipe(response)
function* spaces() {
  for (;;) yield ' '.repeat(64 * 1024)
}

describe('without any key', () => {
  it.each<[string, RequestListener, string]>([
    ['hangs', hang, 'TimeoutError'],
    ['is slow', drip, 'TimeoutError'],
    ['sends without end', flood, 'more than 524288 bytes'],
    ['fails', broken(500), 'status 500'],
    [
      'leads elsewhere',
      (_, response) => void response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      'status 302',
    ],
    ['is empty', (_, response) => void response.writeHead(204).end(), 'status 204'],
    ['says no JSON', (_, response) => void response.end('<html>'), 'no JSON'],
    ['says no keys', (_, response) => void response.end('{"keys":1}'), 'ERR_JWKS_INVALID'],
    ['hangs up', (_, response) => void response.destroy(), 'UND_ERR_SOCKET'],
  ])('nobody can tell while the server %s, and it is asked once a second', async (_, answer, reason) => {
    const { state, check } = await open(answer, 200)
    expect(await Promise.all([check(one.token()), check(one.token())])).toEqual([
      'access_unavailable',
      'access_unavailable',
    ])
    expect(await check(one.token())).toBe('access_unavailable')
    expect([state.fetches, state.said]).toEqual([1, [reason]])
    state.answer = having(one)
    state.now += 1_000
    expect(await check(one.token())).toBe('good')
  })

  it('nor while there is no server', async () => {
    const said: unknown[] = []
    const keys = new RemoteKeys({ url: 'http://127.0.0.1:1/', log: { error: (fields) => void said.push(fields) } })
    await expect(jwtVerify(await one.token(), keys.find)).rejects.toMatchObject({ code: 'access_unavailable' })
    expect(said).toEqual([{ reason: expect.any(String) }])
  })
})
