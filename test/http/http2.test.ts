import { once } from 'node:events'
import { constants } from 'node:http2'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../support/client.ts'
import { answerOf, ask, askAll, openPausable, openSession } from '../support/http2.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'
import { type CertificateFiles, makeCertificate } from '../support/tls.ts'

let files: CertificateFiles
let rig: Rig
beforeAll(async () => {
  files = makeCertificate()
  rig = await openRig({ env: { ...files.env, CORS_ORIGINS: 'https://app.example.com' } })
})
afterAll(async () => {
  await rig.close()
  files.remove()
})

const secure = (env: Record<string, string> = {}) => startRig({ env: { ...files.env, ...env } })
const endless = sim({ text: 100_000, delay_ms: 5 })
/** Far more than the windows and the buffers between two sockets hold. */
const flood = sim({ text: 100_000, bytes: 100 })

describe('a stream over HTTP/2', () => {
  it('is what it is over HTTP/1.1, without the headers that HTTP/2 forbids, and without a warning', async () => {
    const warnings: string[] = []
    const note = ({ message }: Error) => void warnings.push(message)
    process.on('warning', note)
    const session = await openSession(rig.url)
    const answer = await askAll(session, '/stream', {
      body: { prompt: 'hi', model: sim({ text: 20 }) },
      headers: { origin: 'https://app.example.com' },
    })
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'x-stream-id': expect.stringMatching(/^s_/),
      'x-request-id': expect.stringMatching(/^req_/),
      'access-control-allow-origin': 'https://app.example.com',
      'strict-transport-security': expect.stringContaining('max-age='),
    })
    for (const name of ['connection', 'transfer-encoding', 'keep-alive'])
      expect(answer.headers).not.toHaveProperty(name)
    expect(expectWholeJsonStream(answer.frames)).toMatchObject({ type: 'done' })
    const again = await askAll(session, `/streams/${answer.headers['x-stream-id']}`)
    expect(again.body).toBe(answer.body)
    await askAll(session, '/stream', { body: { prompt: 'x'.repeat(11_000_000) } })
    await delay(1)
    process.off('warning', note)
    expect(warnings).toEqual([])
  })

  it('goes out before Claude says anything', async () => {
    const session = await openSession(rig.url)
    const answer = await ask(session, `/stream?prompt=hi&model=${encodeURIComponent(sim({ first_ms: 60_000 }))}`)
    expect(await answer.until('"start"')).toContain('"type":"start"')
    answer.stream.close(constants.NGHTTP2_CANCEL)
  })

  it.each([
    ['of its stream', constants.NGHTTP2_CANCEL],
    ['without a fault', constants.NGHTTP2_NO_ERROR],
  ])('a reset %s cancels upstream at once, and leaves the other streams of the connection alone', async (_, code) => {
    const own = await secure()
    const session = await openSession(own.url)
    const body = { prompt: 'hi', model: sim({ text: 80, delay_ms: 5 }), on_disconnect: 'cancel' }
    const [gone, stays] = await Promise.all([ask(session, '/stream', { body }), ask(session, '/stream', { body })])
    await Promise.all([gone.until('"text"'), stays.until('"text"')])
    const left = performance.now()
    gone.stream.close(code)
    const cancelled = await eventually(() => own.simulator.requests.find(({ abortedAt }) => abortedAt !== undefined))
    expect((cancelled.abortedAt ?? 0) - left).toBeLessThan(500)
    await stays.ended
    expect(expectWholeJsonStream(stays.frames)).toMatchObject({ type: 'done' })
  })

  it.each([
    ['before upstream has answered', { headers_ms: 5_000 }],
    ['while it waits for its first word', { first_ms: 5_000 }],
  ])('a reset %s cancels upstream', async (_, scenario) => {
    const own = await secure()
    const session = await openSession(own.url)
    const stream = session.request({ ':path': '/stream', ':method': 'POST', 'content-type': 'application/json' })
    stream.on('error', () => {})
    stream.end(JSON.stringify({ prompt: 'hi', model: sim(scenario), on_disconnect: 'cancel' }))
    const seen = await eventually(() => own.simulator.requests[0])
    const left = performance.now()
    stream.close(constants.NGHTTP2_CANCEL)
    expect((await eventually(() => seen.abortedAt)) - left).toBeLessThan(500)
  })

  it('the loss of the connection is the leaving of all its readers', async () => {
    const own = await secure()
    const session = await openSession(own.url)
    const body = { prompt: 'hi', model: endless, on_disconnect: 'cancel' }
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask(session, '/stream', { body })))
    await Promise.all(answers.map((answer) => answer.until('"text"')))
    session.destroy()
    await eventually(() => own.simulator.requests.filter(({ abortedAt }) => abortedAt !== undefined).length === 5)
    await eventually(() => own.app.streams.live === 0)
  })

  it('a client that does not read it is cut off from it alone, by a reset and not by an end', async () => {
    const own = await secure({ SLUICE_STREAMS__CLIENT_STALL_MS: '300', SLUICE_STREAMS__MAX_BYTES: '100000000' })
    const session = await openSession(own.url, { settings: { initialWindowSize: 70_000 } })
    const lively = await ask(session, '/stream', { body: { prompt: 'hi', model: sim({ text: 150, delay_ms: 5 }) } })
    const model = sim({ text: 40_000, bytes: 100, silence_at: 30_000 })
    const stalled = await ask(session, '/stream', {
      body: { prompt: 'hi', model, max_tokens: 1_000_000, on_disconnect: 'cancel' },
    })
    stalled.stream.pause()
    await eventually(() => own.log.some(({ status, by }) => status === 'cancelled' && by === 'client'), 5_000)
    stalled.stream.resume()
    await stalled.ended
    expect(stalled.stream.rstCode).toBe(constants.NGHTTP2_CANCEL)
    await lively.ended
    expect(expectWholeJsonStream(lively.frames)).toMatchObject({ type: 'done' })
    expect(session.closed).toBe(false)
  })

  it('a client that reads slowly gets everything', async () => {
    const own = await secure({ SLUICE_STREAMS__CLIENT_STALL_MS: '1000' })
    const session = await openSession(own.url)
    const answer = await ask(session, '/stream', {
      body: { prompt: 'hi', model: sim({ text: 20_000, bytes: 100 }), max_tokens: 1_000_000 },
    })
    const sips = setInterval(() => {
      if (answer.stream.isPaused()) answer.stream.resume()
      else answer.stream.pause()
    }, 10)
    await answer.ended
    clearInterval(sips)
    expect(expectWholeJsonStream(answer.frames)).toMatchObject({ type: 'done' })
  })

  it('a connection that reads nothing at all costs less than a megabyte a stream, and others nothing', async () => {
    const own = await secure()
    const keep = await askAll(await openSession(own.url), '/stream', {
      body: { prompt: 'hi', model: sim({ text: 60_000, bytes: 100 }) },
    })
    const before = memory()
    const way = await openPausable(own.url)
    const session = await openSession(way.url, { settings: { initialWindowSize: 2 ** 20 } })
    const path = `/streams/${keep.headers['x-stream-id']}`
    const readers = Array.from({ length: 20 }, () => session.request({ ':path': path }))
    await Promise.all(readers.map((reader) => once(reader, 'response')))
    way.pause()
    const other = await askAll(await openSession(own.url), '/stream', {
      body: { prompt: 'hi', model: sim({ text: 100, delay_ms: 2 }) },
    })
    expect(expectWholeJsonStream(other.frames)).toMatchObject({ type: 'done' })
    expect((memory() - before) / readers.length).toBeLessThan(2 ** 20)
  })
})

function memory(): number {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

describe('shutting down', () => {
  it('leads clients away at once, lets live streams end by themselves, and new ones are refused', async () => {
    const own = await secure({ SLUICE_SERVER__DRAIN_MS: '5000' })
    const session = await openSession(own.url)
    const answer = await ask(session, '/stream', { body: { prompt: 'hi', model: sim({ text: 60, delay_ms: 10 }) } })
    await answer.until('"text"')
    const goaway = once(session, 'goaway')
    const closed = own.app.shutDown()
    await goaway
    expect(session.closed).toBe(true)
    const late = await openSession(own.url)
    const led = once(late, 'goaway')
    expect((await askAll(late, '/stream', { body: { prompt: 'hi' } })).status).toBe(503)
    await led
    await answer.ended
    expect(expectWholeJsonStream(answer.frames)).toMatchObject({ type: 'done' })
    await closed
  })

  it('ends all streams that are left with a terminal frame, and is done soon after drain_ms', async () => {
    const own = await secure({ SLUICE_SERVER__DRAIN_MS: '200' })
    const session = await openSession(own.url)
    const body = { prompt: 'hi', model: endless }
    const answers = await Promise.all(Array.from({ length: 30 }, () => ask(session, '/stream', { body })))
    await Promise.all(answers.map((answer) => answer.until('"text"')))
    const idle = await openSession(own.url)
    const started = performance.now()
    await own.app.shutDown()
    expect(performance.now() - started).toBeLessThan(2_200)
    for (const answer of answers) {
      await answer.ended
      expect(expectWholeJsonStream(answer.frames)).toMatchObject({ error: { code: 'shutting_down' } })
    }
    await eventually(() => idle.destroyed && session.destroyed)
  })

  it('does not wait for a client that does not read', async () => {
    const own = await secure({ SLUICE_SERVER__DRAIN_MS: '100' })
    const way = await openPausable(own.url)
    const session = await openSession(way.url)
    const answer = await ask(session, '/stream', { body: { prompt: 'hi', model: flood, max_tokens: 1_000_000 } })
    answer.stream.pause()
    way.pause()
    const started = performance.now()
    await own.app.shutDown()
    expect(performance.now() - started).toBeLessThan(2_100)
  })
})

describe('slow senders over HTTP/2', () => {
  const clocks = { SLUICE_SERVER__HEADERS_TIMEOUT_MS: '300', SLUICE_SERVER__REQUEST_TIMEOUT_MS: '400' }

  it('a body that takes too long is 408, and the other streams of the connection go on', async () => {
    const own = await secure(clocks)
    const session = await openSession(own.url)
    const live = await ask(session, '/stream', { body: { prompt: 'hi', model: sim({ text: 60, delay_ms: 10 }) } })
    const slow = session.request({ ':path': '/stream', ':method': 'POST', 'content-type': 'application/json' })
    slow.write('{"prompt":')
    const started = performance.now()
    const answer = await answerOf(slow)
    await answer.ended
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([408, 'request_timeout'])
    expect(performance.now() - started).toBeLessThan(1_000)
    await live.ended
    expect(expectWholeJsonStream(live.frames)).toMatchObject({ type: 'done' })
    expect(own.log.some(({ level }) => level === 'error')).toBe(false)
  })

  it('one that is answered before its body is over holds nothing open', async () => {
    const own = await secure({ ...clocks, SLUICE_SERVER__MAX_BODY_BYTES: '100000' })
    const session = await openSession(own.url)
    const head = { ':path': '/stream', ':method': 'POST' }
    for (const [headers, status] of [
      [{ ':authority': 'evil.test', 'content-type': 'application/json' }, 421],
      [{ 'content-type': 'text/plain' }, 415],
      [{ ':method': 'GET', ':path': '/healthz' }, 200],
    ] as const) {
      const stream = session.request({ ...head, ...headers }, { endStream: false })
      stream.write('{')
      const answer = await answerOf(stream)
      await answer.ended
      expect([headers, answer.status]).toEqual([headers, status])
    }
    const large = session.request({ ':path': '/stream', ':method': 'POST', 'content-type': 'application/json' })
    const answer = answerOf(large)
    const chunk = Buffer.alloc(2 ** 20, 'x')
    for (let n = 0; n < 12; n++) large.write(chunk)
    expect((await answer).status).toBe(413)
    await (await answer).ended
  })

  it('a connection without a request is closed, whatever it sends', async () => {
    const own = await secure(clocks)
    const session = await openSession(own.url)
    const pings = setInterval(() => !session.closed && session.ping(() => {}), 50)
    const started = performance.now()
    await once(session, 'close')
    clearInterval(pings)
    expect(performance.now() - started).toBeLessThan(2_500)
  })
})

it('names that are not served are refused in :authority, too, and whoever names two', async () => {
  const session = await openSession(rig.url)
  const status = async (headers: Record<string, string>) => (await askAll(session, '/healthz', { headers })).status
  expect(await status({ ':authority': 'localhost:1' })).toBe(200)
  expect(await status({ ':authority': 'evil.test' })).toBe(421)
  expect(await status({ ':authority': 'localhost', host: 'evil.test' })).toBe(400)
  expect(await status({ ':authority': 'localhost', 'x-forwarded-host': 'evil.test' })).toBe(200)
})
