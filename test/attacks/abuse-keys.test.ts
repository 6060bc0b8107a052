import { randomInt } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { hashOf, Keyring, newKey } from '../../src/access/keyring.ts'
import { Tickets } from '../../src/access/tickets.ts'
import { routeDescriptions } from '../../src/http/descriptions.ts'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open, parseFrames } from '../support/client.ts'
import { audience, issuerUrl, startIssuer } from '../support/issuer.ts'
import { sendRaw, statusesOf } from '../support/raw.ts'
import { startRedis } from '../support/redis.ts'
import { portOf } from '../support/relay.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

/** Who gets in, by the numbers of docs/threat-model.md. */
const [alice, bob] = [holder('alice'), holder('bob')]
const endless = sim({ text: 100_000, delay_ms: 10 })

describe('A1 guessed and stolen keys', () => {
  it('A1 ten thousand wrong keys get 20 times 401 and then 429, always the same, and lock nobody out', async () => {
    const rig = await startRig({ env: lettingIn(alice) })
    const answers: string[] = []
    for (let n = 0; n < 20; n++) {
      const requests = Array.from({ length: 500 }, (_, at) => {
        const last = at === 499 ? 'connection: close\r\n' : ''
        return `GET /limits HTTP/1.1\r\nhost: localhost\r\nx-request-id: r\r\nauthorization: Bearer ${newKey()}\r\n${last}\r\n`
      })
      answers.push(await sendRaw(rig.url, requests.join('')))
    }
    const statuses = statusesOf(answers.join(''))
    const count = (status: number) => statuses.filter((each) => each === status).length
    expect([statuses.length, count(401), count(429)]).toEqual([10_000, 20, 9_980])
    expect(new Set(answers.join('').match(/\{"error".*?\}\}/g)).size).toBe(2)
    expect((await fetchAll(`${rig.url}/limits`, { headers: alice.bearer })).status).toBe(200)
    expect(rig.simulator.requests).toEqual([])
    expect(rig.log.filter(({ message }) => message === 'too many wrong keys from one address')).toHaveLength(1)
    expect(JSON.stringify(rig.log)).not.toContain('slk_')
  })

  it('A1 a key that is taken away is refused at once, and what it reads is cut in its middle', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-a1-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 'keys')
    writeFileSync(path, alice.line + bob.line)
    const rig = await startRig({ env: { SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS_FILE: path } })
    const headers = alice.bearer
    const stream = await open(`${rig.url}/stream`, { headers, body: { prompt: 'hi', model: endless } })
    await stream.until('"text"')
    const { ticket } = JSON.parse((await fetchAll(`${rig.url}/tickets`, { headers, body: {} })).body)
    writeFileSync(path, bob.line)
    const started = performance.now()
    rig.app.reloadFiles()
    expect((await fetchAll(`${rig.url}/limits`, { headers })).status).toBe(401)
    expect((await fetchAll(`${rig.url}/stream?prompt=hi&ticket=${ticket}`)).status).toBe(401)
    const frames = parseFrames(await stream.ended)
    expect(performance.now() - started).toBeLessThan(1_000)
    expect(JSON.parse(frames.at(-2)?.data ?? '{}')).toMatchObject({ type: 'error', error: { code: 'access_revoked' } })
    await eventually(() => rig.simulator.open === 0)
  })

  it('A1 a token cannot say by which key it is to be checked', async () => {
    let fetched = 0
    const canary = createServer((_, response) => {
      fetched++
      response.end(JSON.stringify(forger.jwks))
    }).listen(0, '127.0.0.1')
    onTestFinished(() => void canary.close())
    const [issuer, forger] = [await startIssuer(), await startIssuer()]
    const keys = createServer((_, response) => void response.end(JSON.stringify(issuer.jwks))).listen(0, '127.0.0.1')
    onTestFinished(() => {
      keys.closeAllConnections()
      keys.close()
    })
    await eventually(() => canary.listening && keys.listening)
    const rig = await startRig({
      env: {
        SLUICE_ACCESS__MODE: 'jwt',
        SLUICE_ACCESS__JWT__JWKS_URL: `http://127.0.0.1:${portOf(keys)}/`,
        SLUICE_ACCESS__JWT__ISSUER: issuerUrl,
        SLUICE_ACCESS__JWT__AUDIENCE: audience,
      },
    })
    const ask = async (token: string, path = '/limits') =>
      (await fetchAll(rig.url + path, { headers: { 'x-api-key': token } })).status
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const [, payload, signature] = (await forger.token({ sub: 'mallory' })).split('.')
    const url = `http://127.0.0.1:${portOf(canary)}/`
    const headers = [
      { alg: 'ES256', jku: url, kid: 'one' },
      { alg: 'ES256', x5u: url },
      { alg: 'ES256', jwk: forger.jwks.keys[0] },
      { alg: 'ES256', kid: url },
      { alg: 'ES256', kid: '../../../dev/null' },
      { alg: 'ES256', kid: "x' UNION SELECT 'key" },
      { alg: 'ES256', kid: '__proto__' },
      { alg: 'ES256', kid: ['one'] },
      { alg: 'none' },
      { alg: 'nOnE', kid: 'one' },
      { alg: 'HS256', kid: 'one' },
      { alg: 'ES256', kid: 'one', crit: ['exp'] },
      { alg: 'ES256', kid: 'one', b64: false, crit: ['b64'] },
    ]
    for (const header of headers) {
      for (const end of [signature, '']) {
        const status = await ask([encode(header), payload, end].join('.'))
        expect([header, [401, 429].includes(status)]).toEqual([header, true])
      }
    }
    const [head, , good] = (await issuer.token()).split('.')
    expect([401, 429]).toContain(await ask([head, payload, good].join('.')))
    expect(await ask(await issuer.token())).toBe(200)
    expect(fetched).toBe(0)
  })

  it('A1 a token that is about to be over makes no ticket that is good for longer', async () => {
    const issuer = await startIssuer()
    const folder = mkdtempSync(join(tmpdir(), 'sluice-a1-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'key'), issuer.publicPem)
    const rig = await startRig({
      env: {
        SLUICE_ACCESS__MODE: 'jwt',
        SLUICE_ACCESS__JWT__PUBLIC_KEY_FILE: join(folder, 'key'),
        SLUICE_ACCESS__JWT__ISSUER: issuerUrl,
        SLUICE_ACCESS__JWT__AUDIENCE: audience,
        SLUICE_ACCESS__JWT__CLOCK_SKEW_MS: '0',
      },
    })
    const ticketFor = async (exp: number) => {
      const headers = { authorization: `Bearer ${await issuer.token({ exp })}` }
      return Date.parse(JSON.parse((await fetchAll(`${rig.url}/tickets`, { headers, body: {} })).body).expires_at)
    }
    const now = Math.floor(Date.now() / 1_000)
    expect(await ticketFor(now + 5)).toBe((now + 5) * 1_000)
    expect(await ticketFor(now + 3_600)).toBeLessThan((now + 62) * 1_000)
  })
})

describe('A2 what comparing keys tells', () => {
  /** Welch's t of two ways to do something, in turn by chance; what a busy machine adds is cut off. */
  function tOf(one: () => void, other: () => void, samples: number): number {
    const times: [number[], number[]] = [[], []]
    for (let n = 0; n < samples; n++) {
      const which = randomInt(2) as 0 | 1
      const act = which === 0 ? one : other
      const start = process.hrtime.bigint()
      act()
      times[which].push(Number(process.hrtime.bigint() - start))
    }
    const [a, b] = times.map((all) => {
      const kept = all.sort((x, y) => x - y).slice(0, Math.floor(all.length * 0.9))
      const mean = kept.reduce((sum, each) => sum + each, 0) / kept.length
      const variance = kept.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (kept.length - 1)
      return { mean, error: variance / kept.length }
    }) as [{ mean: number; error: number }, { mean: number; error: number }]
    return (a.mean - b.mean) / Math.sqrt(a.error + b.error)
  }

  it('A2 how long a lookup takes does not tell how near a wrong key is to a right one', () => {
    const key = newKey()
    const ring = new Keyring([{ name: 'alice', sha256: hashOf(key) }])
    const near = `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`
    const far = newKey()
    /** What is measured below is found by this, where there is something to find. */
    const naive = (text: string) => {
      let at = 0
      while (at < key.length && text.charCodeAt(at) === key.charCodeAt(at)) at++
      return at === key.length
    }
    // What is told is told each time; what a busy machine makes of it, once in a while.
    const isAlwaysTold = (act: (key: string) => unknown, samples: number) =>
      [1, 2, 3, 4].every(() => {
        const t = tOf(
          () => act(near),
          () => act(far),
          samples,
        )
        return Math.abs(t) > 5
      })
    expect(isAlwaysTold(naive, 10_000)).toBe(true)
    expect(isAlwaysTold((each) => ring.find(each), 50_000)).toBe(false)
  })

  it('A2 nothing is looked up by a part of a key, nor by a key that is written differently', () => {
    const keys = Array.from({ length: 50 }, newKey)
    const ring = new Keyring(keys.map((key, n) => ({ name: `p${n}`, sha256: hashOf(key) })))
    for (const [n, key] of keys.entries()) {
      expect(ring.find(key)?.principal).toBe(`p${n}`)
      const other = keys[(n + 1) % keys.length] as string
      const variants = [key.slice(0, -1), `${key}x`, `${key} `, key.toUpperCase(), `${key}\0`, hashOf(key), '']
      const halves = [8, 20, 32].map((at) => key.slice(0, at) + other.slice(at))
      for (const each of [...variants, ...halves]) expect([each, ring.find(each)]).toEqual([each, undefined])
    }
  })

  it('A2 every character of a ticket counts', () => {
    const tickets = new Tickets(Buffer.alloc(32, 1))
    const { ticket } = tickets.issue({ principal: 'alice', key: 'k' }, 1_000)
    for (let at = 0; at < ticket.length - 1; at++) {
      const changed = `${ticket.slice(0, at)}${ticket[at] === 'x' ? 'y' : 'x'}${ticket.slice(at + 1)}`
      expect([at, tickets.read(changed)]).toEqual([at, undefined])
    }
    expect(tickets.read(ticket)).toMatchObject({ principal: 'alice' })
  })

  it('A2 no secret is compared by its letters', () => {
    const folder = join(import.meta.dirname, '../../src/access')
    for (const file of readdirSync(folder)) {
      const text = readFileSync(join(folder, file), 'utf8')
      expect([
        file,
        /\b(?:key|secret|signature|token|hash|sha256)\b\s*[!=]==?\s*(?!undefined|null|')/.test(text),
      ]).toEqual([file, false])
    }
  })
})

describe('A16 keys and tickets in URLs', () => {
  it('A16 a key in a URL lets nobody in, and is in no log line and no answer', async () => {
    const rig = await startRig({ env: lettingIn(alice), logLevel: 'trace' })
    const { key } = alice
    const places = [
      ...['key', 'api_key', 'apikey', 'access_token', 'token', 'authorization', 'ticket', 'x-api-key'].map(
        (name) => `/stream?prompt=hi&${name}=${key}`,
      ),
      `/stream?prompt=hi&${key}=1`,
      `/streams/${key}`,
      `/streams/${key}?after=${key}`,
      `/api/chat/${key}/stream`,
      `/v1/models/${key}`,
      `/v1/models?api_key=${key}`,
      `/${key}`,
      `/%zz?key=${key}`,
      `/healthz?key=${key}`,
    ]
    for (const path of places) {
      const answer = await sendRaw(rig.url, `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
      expect([path, /^HTTP\/1\.1 (401|400|429|404) /.test(answer)]).toEqual([path, !path.startsWith('/healthz')])
      expect(answer).not.toContain(key)
      expect(answer).toMatch(/referrer-policy: no-referrer/i)
    }
    expect(JSON.stringify(rig.log)).not.toContain(key)
    expect(rig.simulator.requests).toEqual([])
  })

  it('A16 a ticket is in no log line, no answer and nothing that Claude gets, wherever it stands', async () => {
    const rig = await startRig({ env: lettingIn(alice), logLevel: 'trace' })
    const make = async () =>
      JSON.parse((await fetchAll(`${rig.url}/tickets`, { headers: alice.bearer, body: {} })).body).ticket as string
    const seen: string[] = []
    const ask = async (path: string, options: Parameters<typeof fetchAll>[1] = {}) => {
      const ticket = await make()
      const answer = await fetchAll(rig.url + path.replace('TICKET', ticket), options)
      seen.push(ticket)
      expect(JSON.stringify([answer.headers, answer.body])).not.toContain(ticket)
      return answer.status
    }
    expect(await ask('/stream?prompt=hi&model=claude-sim&ticket=TICKET')).toBe(200)
    expect(await ask('/stream?ticket=TICKET&prompt=hi&format=none')).toBe(400)
    expect(await ask('/streams/x?ticket=TICKET')).toBe(404)
    expect(await ask('/api/chat/x/stream?ticket=TICKET')).toBe(204)
    expect(await ask('/none?ticket=TICKET')).toBe(401)
    expect(await ask('/v1/models?ticket=TICKET', { headers: alice.bearer })).toBe(200)
    expect(await ask('/stream?ticket=TICKET', { headers: alice.bearer, body: { prompt: 'hi' } })).toBe(200)
    expect(await ask('/stream?prompt=hi&ticket=TICKET&ticket=TICKET')).toBe(401)
    const told = JSON.stringify([rig.log, rig.simulator.requests])
    for (const ticket of seen) expect(told).not.toContain(ticket.slice(0, 40))
    expect(rig.simulator.requests.length).toBe(3)
  })

  it('A16 a ticket begins one stream on all replicas, however often it is sent again', async () => {
    await using redis = await startRedis()
    const env = { ...lettingIn(alice), REDIS_URL: redis.url, TICKETS_SECRET: 'a'.repeat(32) }
    const one = await startRig({ env })
    const two = await startRig({ env: { ...env, ANTHROPIC_BASE_URL: one.simulator.url } })
    const { ticket } = JSON.parse((await fetchAll(`${one.url}/tickets`, { headers: alice.bearer, body: {} })).body)
    const urls = Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? one.url : two.url))
    const path = `/stream?prompt=hi&model=claude-sim&ticket=${ticket}`
    const answers = await Promise.all(
      urls.map((url) => fetchAll(url + path, { headers: { accept: 'text/event-stream' } })),
    )
    const again = await Promise.all([one, two].map(({ url }) => fetchAll(url + path)))
    expect(one.simulator.requests).toHaveLength(1)
    expect(new Set(again.map(({ headers }) => headers['x-stream-id'])).size).toBe(1)
    // Those that came before there was anything to read are asked to come back.
    for (const { status, headers, body } of answers) {
      expect(status).toBe(200)
      if (headers['x-stream-id'] === undefined) expect(body).toMatch(/^retry: \d+/)
      else expect(headers['x-stream-id']).toBe(again[0]?.headers['x-stream-id'])
    }
  })
})

describe('A20 what is open to all', () => {
  /** All else asks for a key. What is new has to be put here to be open. */
  const openRoutes = ['get /healthz', 'get /readyz']
  /** These ask for another one, which clients do not have. */
  const forOperators = ['get /metrics', 'get /ops/events', 'delete /ops/streams/{id}']

  async function scan(rig: Rig, headers: Record<string, string> = {}) {
    return Promise.all(
      routeDescriptions.map(async ({ method, path }) => {
        const url = rig.url + path.replaceAll(/\{\w+\}/g, 'x')
        const answer = await fetchAll(url, {
          method: method.toUpperCase(),
          headers,
          ...(method === 'post' && { body: {} }),
        })
        return { route: `${method} ${path}`, ...answer }
      }),
    )
  }

  it('A20 every route but two asks for a key, and says nothing without', async () => {
    const rig = await startRig({ env: { ...lettingIn(alice), OPS_TOKEN: 'a-token-of-those-who-operate-it' } })
    expect(routeDescriptions.filter(({ open }) => open).map(({ method, path }) => `${method} ${path}`)).toEqual([
      ...openRoutes,
      ...forOperators,
    ])
    for (const each of await scan(rig, alice.bearer)) {
      if (forOperators.includes(each.route)) expect([each.route, each.status]).toEqual([each.route, 401])
    }
    rig.simulator.requests.length = 0
    const answers = await scan(rig)
    expect(answers.length).toBeGreaterThan(15)
    for (const { route, status, body, headers } of answers) {
      expect([route, status]).toEqual([route, openRoutes.includes(route) ? 200 : 401])
      if (openRoutes.includes(route)) expect(body).toMatch(/^\{"status":"(ok|ready)"\}$/)
      else expect(JSON.parse(body).error).toBeDefined()
      expect(headers).not.toHaveProperty('server')
      expect(headers).not.toHaveProperty('x-powered-by')
    }
    for (const path of [
      '/debug',
      '/debug/pprof',
      '/admin',
      '/config',
      '/env',
      '/.well-known/x',
      '/metrics/',
      '/HEALTHZ',
      '/healthz/x',
    ]) {
      const { status, body } = await fetchAll(rig.url + path)
      expect([path, status, body.includes('"message"')]).toEqual([path, 401, true])
    }
    for (const method of ['PUT', 'PATCH', 'OPTIONS', 'TRACE', 'HEAD']) {
      for (const path of ['/stream', '/openapi.json', '/v1/messages']) {
        expect([method, path, (await fetchAll(rig.url + path, { method })).status]).toEqual([method, path, 401])
      }
    }
    expect(rig.simulator.requests).toEqual([])
  })

  it('A20 what is for operators is not there for whoever comes from elsewhere, or says that he does not', async () => {
    const rig = await startRig()
    for (const header of ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip']) {
      for (const route of forOperators) {
        const [method = '', path] = route.split(' ')
        const answer = await fetchAll(rig.url + path, {
          method: method.toUpperCase(),
          headers: { [header]: '127.0.0.1' },
        })
        expect([header, route, answer.status, answer.body.includes('route_not_found')]).toEqual([
          header,
          route,
          404,
          true,
        ])
      }
    }
    expect((await fetchAll(`${rig.url}/metrics`)).status).toBe(200)
  })

  it('A20 health tells the same whatever the load, the configuration and the past are', async () => {
    const rig = await startRig({ env: { SLUICE_ACCESS__TOTAL_LIMITS: '{"concurrent_streams":1}' } })
    const before = await fetchAll(`${rig.url}/healthz`)
    const stream = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: endless } })
    expect((await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi' } })).status).toBe(429)
    const after = await fetchAll(`${rig.url}/healthz`)
    stream.destroy()
    expect(after.body).toBe(before.body)
  })
})
