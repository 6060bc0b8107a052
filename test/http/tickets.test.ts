import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EventSource } from 'eventsource'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { newStreamId } from '../../src/core/position.ts'
import { type Holder, holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open, type StreamResponse } from '../support/client.ts'
import { audience, issuerUrl, startIssuer } from '../support/issuer.ts'
import { startReader } from '../support/reader.ts'
import { startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

const [alice, bob, plain] = [holder('alice'), holder('bob'), holder('backend')]
const backend: Holder = { ...plain, entry: { ...plain.entry, tickets_for_others: true } as Holder['entry'] }
const issuer = await startIssuer()
const everybody = lettingIn(alice, bob, backend)

let rig: Rig
beforeAll(async () => {
  rig = await openRig({ env: everybody, logLevel: 'trace' })
})
afterAll(() => rig.close())

async function ask({ bearer }: Holder, body: object = {}, at = rig) {
  const answer = await fetchAll(`${at.url}/tickets`, { headers: bearer, body })
  return { ...answer, json: JSON.parse(answer.body) as { ticket: string; expires_at: string; error: { code: string } } }
}
const ticketOf = async (from: Holder, body?: object, at?: Rig) => (await ask(from, body, at)).json.ticket
const endless = sim({ text: 100_000, delay_ms: 10 })
const short = sim({ text: 12, delay_ms: 2 })
const streamUrl = (ticket: string, more: Record<string, string> = {}, at = rig) =>
  `${at.url}/stream?${new URLSearchParams({ prompt: 'hi', model: short, ...more, ticket })}`
const idOf = ({ headers }: Pick<StreamResponse, 'headers'>) => String(headers['x-stream-id'])
const codeOf = ({ body }: { body: string }) => JSON.parse(body).error.code
const stop = (id: string, { bearer }: Holder, at = rig) =>
  fetchAll(`${at.url}/streams/${id}`, { method: 'DELETE', headers: bearer })
const begin = async ({ bearer }: Holder, model = endless, at = rig) => {
  const stream = await open(`${at.url}/stream`, { headers: bearer, body: { prompt: 'hi', model, max_tokens: 100_000 } })
  await stream.until('"text"')
  return stream
}

describe('a ticket', () => {
  it('is made for whoever asks, for a minute at most', async () => {
    const now = Date.now()
    const { status, headers, json } = await ask(alice)
    expect([status, headers['cache-control'], headers['referrer-policy']]).toEqual([201, 'no-store', 'no-referrer'])
    expect(Object.keys(json)).toEqual(['ticket', 'expires_at'])
    expect(Date.parse(json.expires_at) - now).toBeGreaterThanOrEqual(60_000)
    expect(Date.parse(json.expires_at) - now).toBeLessThan(62_000)
    expect(Date.parse((await ask(alice, { ttl_ms: 1_000 })).json.expires_at) - now).toBeLessThan(10_000)
    expect(codeOf(await ask(alice, { ttl_ms: 60_001 }))).toBe('invalid_request')
    expect(codeOf(await ask(alice, { user: 'x' }))).toBe('invalid_request')
  })

  it('begins one stream of its principal, and reads it again from any route, in any format', async () => {
    const ticket = await ticketOf(alice)
    const first = await fetchAll(streamUrl(ticket))
    expect(first.status).toBe(200)
    const bought = rig.simulator.requests.length
    const id = idOf(first)
    for (const url of [
      streamUrl(ticket),
      `${rig.url}/streams/${id}?ticket=${ticket}`,
      streamUrl(ticket, { prompt: 'other' }),
    ])
      expect(await fetchAll(url)).toMatchObject({ status: 200, body: first.body })
    expect((await fetchAll(streamUrl(ticket, { format: 'openai' }))).body).toContain('chat.completion.chunk')
    const snapshot = await fetchAll(`${rig.url}/streams/${id}?ticket=${ticket}`, {
      headers: { accept: 'application/json' },
    })
    expect(JSON.parse(snapshot.body)).toMatchObject({ id, status: 'done' })
    expect(await fetchAll(`${rig.url}/streams/${id}`, { headers: alice.bearer })).toMatchObject({ body: first.body })
    expect(rig.simulator.requests).toHaveLength(bought)
    expect(rig.log.find(({ stream }) => stream === id)).toMatchObject({ principal: 'alice' })
  })

  it('used many times at once begins one stream, which all get', async () => {
    const ticket = await ticketOf(alice)
    const bought = rig.simulator.requests.length
    const all = await Promise.all(Array.from({ length: 10 }, () => fetchAll(streamUrl(ticket))))
    expect(new Set(all.map(idOf)).size).toBe(1)
    expect(new Set(all.map(({ body }) => body)).size).toBe(1)
    expect(rig.simulator.requests).toHaveLength(bought + 1)
  })

  it('reads nothing but that one stream, of its own principal as of others', async () => {
    const [hers, another, his] = [await begin(alice), await begin(alice), await begin(bob)]
    const ticket = await ticketOf(alice)
    const bobs = await ticketOf(bob)
    const read = (id: string, by: string) => open(`${rig.url}/streams/${id}?ticket=${by}`)
    expect((await read(idOf(hers), bobs)).status).toBe(404)
    const reader = await read(idOf(hers), ticket)
    expect(reader.status).toBe(200)
    for (const stream of [another, his]) {
      expect((await read(idOf(stream), ticket)).status).toBe(404)
      const headers = { 'last-event-id': `${idOf(stream)}.1` }
      expect(codeOf(await fetchAll(streamUrl(ticket), { headers }))).toBe('stream_not_found')
    }
    // Refused, it was not used: it still has its own first use.
    const own = await read(idOf(his), bobs)
    expect(own.status).toBe(200)
    for (const each of [reader, own, hers, another, his]) each.destroy()
    await Promise.all([stop(idOf(hers), alice), stop(idOf(another), alice), stop(idOf(his), bob)])
  })

  it('for a stream reads that one and begins none', async () => {
    const stream = await begin(alice)
    const ticket = await ticketOf(alice, { stream: idOf(stream) })
    const bought = rig.simulator.requests.length
    for (const url of [streamUrl(ticket), `${rig.url}/streams/${idOf(stream)}?ticket=${ticket}`]) {
      const reader = await open(url)
      await reader.until('"text"')
      expect(idOf(reader)).toBe(idOf(stream))
      reader.destroy()
    }
    expect(rig.simulator.requests).toHaveLength(bought)
    expect(codeOf(await ask(bob, { stream: idOf(stream) }))).toBe('stream_not_found')
    expect(codeOf(await ask(alice, { stream: newStreamId() }))).toBe('stream_not_found')
    stream.destroy()
    await stop(idOf(stream), alice)
  })

  it('resumes a chat, and no other with it', async () => {
    const chat = (id: string) => ({
      id,
      model: endless,
      messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'x' }] }],
    })
    const streams = await Promise.all(
      ['one', 'two'].map(async (id) => {
        const stream = await open(`${rig.url}/api/chat`, { headers: alice.bearer, body: chat(id) })
        await stream.until('text-delta')
        return stream
      }),
    )
    const ticket = await ticketOf(alice)
    const resumed = await open(`${rig.url}/api/chat/one/stream?ticket=${ticket}`)
    expect([resumed.status, idOf(resumed)]).toEqual([200, idOf(streams[0] as StreamResponse)])
    expect((await fetchAll(`${rig.url}/api/chat/two/stream?ticket=${ticket}`)).status).toBe(204)
    expect((await fetchAll(`${rig.url}/api/chat/one/stream?ticket=${await ticketOf(bob)}`)).status).toBe(204)
    for (const each of [resumed, ...streams]) each.destroy()
    await Promise.all(streams.map((each) => stop(idOf(each), alice)))
  })

  it('is good for reading alone: for every other route it is nothing', async () => {
    const ticket = await ticketOf(alice)
    const routes: [string, string, object?][] = [
      ['POST', '/stream', { prompt: 'hi' }],
      ['POST', '/tickets', {}],
      ['POST', '/v1/messages', {}],
      ['GET', '/v1/models'],
      ['GET', '/openapi.json'],
      ['DELETE', `/streams/${newStreamId()}`],
    ]
    for (const [method, path, body] of routes) {
      const answer = await fetchAll(`${rig.url}${path}?ticket=${ticket}`, { method, body })
      expect([path, answer.status]).toEqual([path, 401])
      const asKey = await fetchAll(rig.url + path, { method, body, headers: { authorization: `Bearer ${ticket}` } })
      expect([path, asKey.status]).toEqual([path, 401])
    }
  })

  it('that is none is refused, and counts as a wrong key', async () => {
    const own = await startRig({ env: everybody })
    const ticket = await ticketOf(alice, {}, own)
    const foreign = await ticketOf(alice)
    for (const each of [`${ticket}x`, ticket.replace('slt_', ''), foreign, alice.key, '']) {
      const answer = await fetchAll(streamUrl(each, {}, own))
      expect([answer.status, codeOf(answer)]).toEqual([401, 'ticket_invalid'])
      expect(answer.headers['www-authenticate']).toBe('Bearer')
    }
    expect((await fetchAll(`${streamUrl(ticket, {}, own)}&ticket=${ticket}`)).status).toBe(401)
    for (let n = 0; n < 14; n++) await fetchAll(streamUrl('x', {}, own))
    expect((await fetchAll(streamUrl('x', {}, own))).status).toBe(429)
    expect(own.simulator.requests).toEqual([])
    expect((await fetchAll(streamUrl(ticket, {}, own))).status).toBe(200)
  })

  it('is spent by nothing but a stream: a request that is wrong can be put right', async () => {
    const ticket = await ticketOf(alice)
    expect((await fetchAll(streamUrl(ticket, { max_tokens: 'x' }))).status).toBe(400)
    expect(codeOf(await fetchAll(streamUrl(ticket, { key: 'k' })))).toBe('invalid_request')
    expect((await fetchAll(`${rig.url}/streams/${newStreamId()}?ticket=${ticket}`)).status).toBe(404)
    expect((await fetchAll(streamUrl(ticket))).status).toBe(200)
  })

  it('is spent by no stream that there was no room for', async () => {
    const own = await startRig({ env: { ...everybody, SLUICE_STREAMS__MAX_STREAMS: '1' } })
    const stream = await begin(alice, endless, own)
    const ticket = await ticketOf(bob, {}, own)
    expect(codeOf(await fetchAll(streamUrl(ticket, {}, own)))).toBe('too_many_streams')
    await stop(idOf(stream), alice, own)
    await stream.ended
    await eventually(() => own.app.streams.live === 0)
    expect((await fetchAll(streamUrl(ticket, {}, own))).status).toBe(200)
  })

  it('that is over begins nothing, and still reads what it has begun', async () => {
    const [used, unused] = [await ticketOf(alice, { ttl_ms: 300 }), await ticketOf(alice, { ttl_ms: 300 })]
    const stream = await open(streamUrl(used, { model: endless, max_tokens: '100000' }))
    await stream.until('"text"')
    const bought = rig.simulator.requests.length
    const probe = () => fetchAll(`${rig.url}/streams/${newStreamId()}?ticket=${unused}`)
    await eventually(async () => (await probe()).status === 401)
    expect(codeOf(await fetchAll(streamUrl(unused)))).toBe('ticket_invalid')
    const again = await open(streamUrl(used))
    await again.until('"text"')
    expect(idOf(again)).toBe(idOf(stream))
    expect(rig.simulator.requests).toHaveLength(bought)
    again.destroy()
    stream.destroy()
    await stop(idOf(stream), alice)
  })
})

describe('a ticket for somebody else', () => {
  it("is made for a key that may, and the stream is that principal's", async () => {
    const refused = await ask(alice, { principal: 'user-1' })
    expect([refused.status, codeOf(refused)]).toEqual([403, 'not_permitted'])
    expect((await ask(alice, { principal: 'alice' })).status).toBe(201)
    expect((await ask(backend, { principal: 'not a name' })).status).toBe(400)
    const first = await fetchAll(streamUrl(await ticketOf(backend, { principal: 'user-1' })))
    const read = async (by: string) => fetchAll(`${rig.url}/streams/${idOf(first)}?ticket=${by}`)
    expect((await read(await ticketOf(backend, { principal: 'user-1' }))).body).toBe(first.body)
    for (const other of [
      await ticketOf(backend, { principal: 'user-2' }),
      await ticketOf(backend),
      await ticketOf(alice),
    ])
      expect((await read(other)).status).toBe(404)
    expect(rig.log.find(({ stream }) => stream === idOf(first))).toMatchObject({ principal: 'user-1' })
  })

  it('who has no key of his own is cut off by nothing but the end of the key that it was made with', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-tickets-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 'keys')
    const write = (...lines: string[]) => writeFileSync(path, lines.join('') || '[]')
    const backendLine = `${backend.line.trim()} tickets_for_others\n`
    write(alice.line, bob.line, backendLine)
    const own = await startRig({ env: { SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS_FILE: path } })
    const reading = (ticket: string) => open(streamUrl(ticket, { model: endless, max_tokens: '100000' }, own))
    const [user, hers] = [await ticketOf(backend, { principal: 'user-1' }, own), await ticketOf(alice, {}, own)]
    const unused = await ticketOf(alice, {}, own)
    const [users, alices] = [await reading(user), await reading(hers)]
    await Promise.all([users.until('"text"'), alices.until('"text"')])

    write(bob.line, backendLine)
    own.app.reloadFiles()
    expect(await alices.ended).toContain('access_revoked')
    for (const ticket of [hers, unused])
      expect(codeOf(await fetchAll(streamUrl(ticket, {}, own)))).toBe('ticket_invalid')
    // Whom the backend speaks for is somebody, though he has no key, or none any more.
    const spoken = await reading(await ticketOf(backend, { principal: 'alice' }, own))
    own.app.reloadFiles()
    const had = [users.body.length, spoken.body.length]
    await eventually(() => users.body.length > (had[0] ?? 0) && spoken.body.length > (had[1] ?? 0))

    write(bob.line)
    own.app.reloadFiles()
    for (const stream of [users, spoken]) expect(await stream.ended).toContain('access_revoked')
    await eventually(() => own.app.streams.live === 0)
    expect(codeOf(await fetchAll(streamUrl(user, {}, own)))).toBe('ticket_invalid')
  })
})

describe('presets and limits', () => {
  async function startWithClaims() {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-tickets-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'key'), issuer.publicPem)
    const jwt = {
      public_key_file: join(folder, 'key'),
      issuer: issuerUrl,
      audience,
      presets_claim: 'p',
      limits_claim: 'l',
    }
    const preset = JSON.stringify({ model: short })
    const env = { SLUICE_ACCESS__MODE: 'jwt', SLUICE_ACCESS__JWT: JSON.stringify(jwt) }
    return startRig({ env: { ...env, SLUICE_PRESETS__A: preset, SLUICE_PRESETS__B: preset } })
  }

  it('of a token are those of its tickets, which allow nothing more', async () => {
    const own = await startWithClaims()
    const limits = { requests_per_minute: 3 }
    const bearer = { authorization: `Bearer ${await issuer.token({ p: ['a', 'b'], l: limits })}` }
    const ask = async (body: object) => fetchAll(`${own.url}/tickets`, { headers: bearer, body })
    const read = ({ body }: { body: string }) => {
      const [, payload = ''] = /^slt_([\w-]+)/.exec(JSON.parse(body).ticket) ?? []
      return JSON.parse(Buffer.from(payload, 'base64url').toString())
    }
    expect(read(await ask({}))).toMatchObject({ principal: 'alice', presets: ['a', 'b'], limits })
    expect(read(await ask({ preset: 'a' }))).toMatchObject({ presets: ['a'], limits })
    expect(codeOf(await ask({ preset: 'c' }))).toBe('not_permitted')
    expect(codeOf(await ask({ principal: 'bob' }))).toBe('not_permitted')
    const { ticket } = JSON.parse((await ask({})).body)
    const asked = (query: Record<string, string>) =>
      fetchAll(`${own.url}/stream?${new URLSearchParams({ prompt: 'hi', ticket, ...query })}`)
    expect(codeOf(await asked({}))).toBe('preset_required')
    expect(codeOf(await asked({ preset: 'c' }))).toBe('preset_not_found')
    expect((await asked({ preset: 'b' })).status).toBe(200)
  })
})

describe('EventSource', () => {
  it('comes back with the same URL, goes on where it was, and buys once', async () => {
    const bought = rig.simulator.requests.length
    const path = new URL(streamUrl(await ticketOf(alice), { model: sim({ text: 60, delay_ms: 2 }) }))
    const reader = startReader({
      bases: [rig.url],
      path: path.pathname + path.search,
      // The first is cut off before it has a frame to name.
      cut: (n) => (n === 1 ? { bytes: 0 } : n < 5 ? { frames: 9 } : undefined),
    })
    const { frames, end, connections } = await reader.ended
    expect([end, connections >= 4]).toEqual(['whole', true])
    expect(frames.map(({ n }) => n)).toEqual(frames.map((_, at) => at + 1))
    expect(rig.simulator.requests).toHaveLength(bought + 1)
  })

  it('of a page that never closes it stops with the answer', async () => {
    const bought = rig.simulator.requests.length
    const source = new EventSource(streamUrl(await ticketOf(alice)))
    const messages: string[] = []
    source.onmessage = ({ data }) => void messages.push(data)
    const status = await new Promise((resolve) => {
      source.onerror = ({ code }) => source.readyState === source.CLOSED && resolve(code)
    })
    expect([status, messages.at(-1), rig.simulator.requests.length]).toEqual([204, '[DONE]', bought + 1])
  }, 15_000)
})

describe('several replicas', () => {
  const secret = 'x'.repeat(32)

  it("make tickets only with a secret in common, and then take one another's", async () => {
    await using redis = await startRedis()
    const env = { ...everybody, REDIS_URL: redis.url }
    const without = await startRig({ env })
    const refused = await ask(alice, {}, without)
    expect([refused.status, codeOf(refused)]).toEqual([501, 'tickets_off'])
    expect(codeOf(await fetchAll(streamUrl('slt_x', {}, without)))).toBe('tickets_off')
    const one = await startRig({ env: { ...env, TICKETS_SECRET: secret } })
    const two = await startRig({ env: { ...env, TICKETS_SECRET: secret, ANTHROPIC_BASE_URL: one.simulator.url } })
    const stream = await begin(alice, endless, one)
    const reader = await open(`${two.url}/streams/${idOf(stream)}?ticket=${await ticketOf(alice, {}, one)}`)
    expect(reader.status).toBe(200)
    await reader.until('"text"')
    reader.destroy()
    stream.destroy()
    await stop(idOf(stream), alice, one)
  })
})

describe('without access control', () => {
  it('there are none, and one in a URL is as if it were not there', async () => {
    const open = await startRig()
    const answer = await fetchAll(`${open.url}/tickets`, { body: {} })
    expect([answer.status, codeOf(answer)]).toEqual([501, 'tickets_off'])
    expect((await fetchAll(streamUrl('anything', {}, open))).status).toBe(200)
  })
})

it('no ticket stands in a log, an answer, a referrer or what Claude is sent', async () => {
  const own = await startRig({ env: everybody, logLevel: 'trace' })
  const tickets = [await ticketOf(alice, {}, own), await ticketOf(alice, {}, own), `${await ticketOf(bob, {}, own)}x`]
  const said: string[] = []
  for (const ticket of tickets) {
    for (const path of [
      '/stream?prompt=hi',
      '/stream?nonsense=1',
      '/stream?prompt=hi&model=x',
      '/streams/x?',
      '/v1/models?a=1',
      '/x?',
      '/%?',
    ]) {
      const answer = await fetchAll(`${own.url}${path}&ticket=${ticket}`, {
        headers: path.startsWith('/v1') ? alice.bearer : {},
      })
      expect(answer.headers['referrer-policy']).toBe('no-referrer')
      said.push(answer.body, JSON.stringify(answer.headers))
    }
  }
  expect(own.simulator.requests.length).toBeGreaterThanOrEqual(1)
  expect(own.log.length).toBeGreaterThan(10)
  const all = said.join() + JSON.stringify(own.log) + JSON.stringify(own.simulator.requests)
  for (const ticket of tickets) for (const part of ticket.slice(4).split('.')) expect(all).not.toContain(part)
})

it('a ticket that one replica has seen begins nothing on another', async () => {
  await using redis = await startRedis()
  const env = { ...everybody, REDIS_URL: redis.url, SLUICE_ACCESS__TICKETS__SECRET: 's'.repeat(40) }
  const [here, there] = [await startRig({ env }), await startRig({ env })]
  const ticket = await ticketOf(alice, {}, here)
  const first = await fetchAll(streamUrl(ticket, {}, here))
  const again = await fetchAll(streamUrl(ticket, {}, there))
  expect([first.status, again.status, idOf(again)]).toEqual([200, 200, idOf(first)])
  expect(again.body).toBe(first.body)
  expect(here.simulator.requests.length + there.simulator.requests.length).toBe(1)
})

it('a ticket is tied to the stream that it begins also where limits are counted', async () => {
  const limits = { SLUICE_ACCESS__LIMITS: JSON.stringify({ requests_per_minute: 100, tokens_per_day: 1e6 }) }
  const own = await startRig({ env: { ...everybody, ...limits } })
  const ticket = await ticketOf(alice, {}, own)
  const first = await fetchAll(streamUrl(ticket, {}, own))
  const again = await fetchAll(streamUrl(ticket, {}, own))
  expect([first.status, again.status, idOf(again)]).toEqual([200, 200, idOf(first)])
  expect(own.simulator.requests).toHaveLength(1)
})
