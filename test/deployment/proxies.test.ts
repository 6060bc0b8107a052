import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { eventually, fetchAll, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'
import { freePort } from './programs.ts'
import { type ProxyName, proxyNames, startProxy } from './proxy.ts'

/** How each file is given a short idle time-out, in place of the one it has. */
const idleAfterOneSecond: Record<ProxyName, Record<string, string>> = {
  nginx: { 'proxy_read_timeout 60s': 'proxy_read_timeout 1s' },
  // Caddy has none unless it is told.
  caddy: { 'keepalive 60s': 'keepalive 60s\n\t\t\tread_timeout 1s' },
  haproxy: { 'timeout client 60s': 'timeout client 1s', 'timeout server 60s': 'timeout server 1s' },
}

const ask = (model: string) => `/stream?prompt=hi&model=${encodeURIComponent(model)}`
const slow = sim({ text: 2000, delay_ms: 5 })
const asked = (rig: Rig) => rig.simulator.requests.length

/** Resolves when Claude has been cut off before the end of its first answer. */
const cutOff = (rig: Rig) => eventually(() => rig.simulator.requests[0]?.abortedAt, 3_000)

describe.each(proxyNames)('behind %s', (name) => {
  it('a frame arrives when it is made, though nothing follows that could push it out', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [rig.url] })
    const stream = await open(`${proxy.url}${ask(sim({ text: 20, silence_at: 8 }))}`, {
      headers: { 'accept-encoding': 'gzip, br' },
    })
    // Event 8 of Claude's is the sixth delta: five have been sent when it falls silent.
    await stream.until(/(?:"type":"text"[\s\S]*){5}/)
    expect(rig.simulator.requests[0]).toMatchObject({ finished: false })
    expect(rig.simulator.open).toBe(1)
    expect(stream.message.destroyed).toBe(false)
    stream.destroy()
  })

  it('frames arrive one by one while the answer is under way', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [rig.url] })
    const stream = await open(`${proxy.url}${ask(sim({ text: 40, delay_ms: 25 }))}`)
    let underWay = 0
    stream.message.on('data', () => {
      if (!rig.simulator.requests[0]?.finished) underWay++
    })
    expect(expectWholeJsonStream(parseFrames(await stream.ended))['type']).toBe('done')
    expect(underWay).toBeGreaterThan(20)
  })

  it('headers survive, and nothing is compressed', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [rig.url] })
    const { status, headers, frames } = await fetchAll(`${proxy.url}${ask(sim({ text: 30 }))}`, {
      headers: { 'accept-encoding': 'gzip, br, deflate' },
    })
    expect(status).toBe(200)
    expect(headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-stream-id': expect.stringMatching(/^s_/),
      // The proxy's own, which Sluice has kept.
      'x-request-id': expect.stringMatching(/^[\da-f-]{32,36}$/),
    })
    expect(headers).not.toHaveProperty('content-encoding')
    expect(headers).not.toHaveProperty('content-length')
    expectWholeJsonStream(frames)
  })

  it('the same question twice is two answers: none comes from a cache', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [rig.url] })
    const url = `${proxy.url}${ask(sim({ text: 3 }))}`
    const [first, second] = [await fetchAll(url), await fetchAll(url)]
    expect(second.headers['x-stream-id']).not.toBe(first.headers['x-stream-id'])
    expect(asked(rig)).toBe(2)
  })

  it('heartbeats keep a silent stream open past the idle time-out, and only they do', async () => {
    const env = { SLUICE_STREAMS__HEARTBEAT_MS: '250' }
    const [rig, mute] = [await startRig({ env }), await startRig()]
    const url = ask(sim({ text: 20, silence_at: 6 }))
    const read = async ({ url: server }: Rig): Promise<StreamResponse> => {
      const proxy = await startProxy(name, { servers: [server], edits: idleAfterOneSecond[name] })
      const stream = await open(`${proxy.url}${url}`)
      await stream.until('"text"')
      return stream
    }
    const [kept, cut] = await Promise.all([read(rig), read(mute)])
    expect(await cut.ended).not.toContain('[DONE]')
    await kept.until(/(?:: heartbeat\n\n){12}/)
    expect(kept.message.destroyed).toBe(false)
    kept.destroy()
  })

  it.each([
    ['in the middle of an answer', slow, true],
    ['before there is one', sim({ first_ms: 10_000 }), false],
  ])('a client that hangs up %s stops Claude', async (_, model, begun) => {
    const rig = await startRig({ env: { SLUICE_STREAMS__COMMIT_AFTER_MS: '10000' } })
    const proxy = await startProxy(name, { servers: [rig.url] })
    const body = { prompt: 'hi', model, on_disconnect: 'cancel' }
    if (begun) {
      const stream = await open(`${proxy.url}/stream`, { body })
      await stream.until('"text"')
      stream.destroy()
    } else {
      const leaving = new AbortController()
      const answer = fetch(`${proxy.url}/stream`, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
        signal: leaving.signal,
      })
      await eventually(() => rig.simulator.open === 1)
      leaving.abort()
      await expect(answer).rejects.toThrow()
    }
    await cutOff(rig)
  })

  it('Last-Event-ID arrives: a client that lost its connection goes on where it was', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [rig.url] })
    const url = `${proxy.url}${ask(sim({ text: 60, delay_ms: 10 }))}`
    const first = await open(url)
    await first.until(/(?:"type":"text"[\s\S]*){10}/)
    first.destroy()
    const seen = parseFrames(first.body)
    const rest = await fetchAll(url, { headers: { 'last-event-id': seen.at(-1)?.id as string } })
    expect(expectWholeJsonStream([...seen, ...rest.frames])['type']).toBe('done')
    expect(asked(rig)).toBe(1)
  })

  it('a body of nearly ten mebibytes arrives whole', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [rig.url] })
    const prompt = 'long '.repeat(2 * 1024 * 1024 - 50)
    const answer = await fetchAll(`${proxy.url}/stream`, { body: { prompt, model: sim({ text: 3 }) } })
    expect(answer.status).toBe(200)
    expectWholeJsonStream(answer.frames)
    expect(rig.simulator.requests[0]?.body).toMatchObject({ messages: [{ content: prompt }] })
  })

  it('the name the client used arrives, and health checks need none of the list', async () => {
    // An address that is not on the list, as the name of a container would not be.
    const rig = await startRig({ env: { HOST: '127.0.0.2', SLUICE_SERVER__ALLOWED_HOSTS: 'sluice.example' } })
    const proxy = await startProxy(name, { servers: [rig.url] })
    const url = `${proxy.url}${ask(sim({ text: 3 }))}`
    // Long enough for the checks of those that check to fail.
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    expect((await fetchAll(url, { headers: { host: 'sluice.example' } })).status).toBe(200)
    expect((await fetchAll(url, { headers: { host: 'evil.example' } })).status).toBe(421)
  })

  it('over TLS and HTTP/2 frames arrive at once, and a reset stream stops Claude', async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__ON_DISCONNECT: 'cancel' } })
    const proxy = await startProxy(name, { servers: [rig.url], tls: true })
    const session = connectHttp2(proxy.url, { rejectUnauthorized: false })
    onTestFinished(() => session.destroy())
    const stream = session.request({ ':path': ask(sim({ text: 20, silence_at: 8 })) }).setEncoding('utf8')
    let body = ''
    stream.on('data', (text) => {
      body += text
    })
    await eventually(() => body.split('"type":"text"').length === 6)
    expect(session.alpnProtocol).toBe('h2')
    expect(rig.simulator.open).toBe(1)
    stream.close(constants.NGHTTP2_CANCEL)
    await cutOff(rig)
  })

  it('an answer that is not streamed may be silent for longer than a stream', async () => {
    const rig = await startRig()
    // Caddy has no time-out there, and needs no rule.
    const edits = name === 'caddy' ? {} : idleAfterOneSecond[name]
    const proxy = await startProxy(name, { servers: [rig.url], edits })
    const { status, body } = await fetchAll(`${proxy.url}/v1/messages`, {
      body: { model: sim({ text: 3, first_ms: 2_500 }), max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] },
    })
    expect([status, JSON.parse(body).type]).toEqual([200, 'message'])
  })
})

describe.each(proxyNames)('two servers behind %s', (name) => {
  it('share the requests', async () => {
    const rigs = [await startRig(), await startRig()] as const
    const proxy = await startProxy(name, { servers: rigs.map((rig) => rig.url) })
    for (let n = 0; n < 10; n++) await fetchAll(`${proxy.url}${ask(sim({ text: 1 }))}`)
    for (const rig of rigs) expect(asked(rig)).toBeGreaterThan(2)
  })

  it('where one is gone the other gets all, GET and POST', async () => {
    const rig = await startRig()
    const proxy = await startProxy(name, { servers: [`http://127.0.0.1:${await freePort()}`, rig.url] })
    for (let n = 0; n < 5; n++) {
      const got = await fetchAll(`${proxy.url}${ask(sim({ text: 1 }))}`)
      const posted = await fetchAll(`${proxy.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 1 }) } })
      expect([got.status, posted.status]).toEqual([200, 200])
      for (const { frames } of [got, posted]) expectWholeJsonStream(frames)
    }
    expect(asked(rig)).toBe(10)
  })

  it('where one shuts down the other gets what is new, and what is under way goes on', async () => {
    const rigs = [await startRig({ env: { SLUICE_SERVER__DRAIN_MS: '15000' } }), await startRig()] as const
    const proxy = await startProxy(name, { servers: rigs.map((rig) => rig.url) })
    const host = new URL(rigs[0].url).host
    const streams = [await open(`${proxy.url}${ask(sim({ text: 80, delay_ms: 50 }))}`)]
    if (asked(rigs[0]) === 0) streams.push(await open(`${proxy.url}${ask(sim({ text: 80, delay_ms: 50 }))}`))
    await eventually(() => asked(rigs[0]) === 1)
    // nginx asks nobody: it is told, before the server is.
    if (name === 'nginx') proxy.reload({ [`server ${host} `]: `server ${host} down ` })
    else void rigs[0].app.shutDown()
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    if (name === 'nginx') void rigs[0].app.shutDown()
    const before = asked(rigs[1])
    for (let n = 0; n < 6; n++) {
      expect((await fetchAll(`${proxy.url}${ask(sim({ text: 1 }))}`)).status).toBe(200)
    }
    expect([asked(rigs[0]), asked(rigs[1]) - before]).toEqual([1, 6])
    for (const stream of streams) expect(stream.message.complete).toBe(false)
    for (const stream of streams) {
      expect(expectWholeJsonStream(parseFrames(await stream.ended))['type']).toBe('done')
    }
  })

  it('a question that reached a server which then died is not asked again', async () => {
    let requests = 0
    const dying = async () => {
      const server = createServer((socket: Socket) => {
        socket.on('error', () => {})
        socket.on('data', (data) => {
          if (String(data).includes('/readyz')) return void socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
          requests++
          socket.resetAndDestroy()
        })
      }).listen(0, '127.0.0.1')
      await once(server, 'listening')
      onTestFinished(() => void server.close())
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    }
    const proxy = await startProxy(name, { servers: [await dying(), await dying()] })
    const { status } = await fetchAll(`${proxy.url}/stream`, { body: { prompt: 'hi' } })
    expect([502, 503]).toContain(status)
    expect(requests).toBe(1)
  })
})
