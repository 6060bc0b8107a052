import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { Agent, request } from 'undici'
import { describe, expect, it, onTestFinished } from 'vitest'
import { startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { launchBrowser } from '../support/browser.ts'
import { eventually, parseFrames } from '../support/client.ts'
import { ask, askAll, openSession } from '../support/http2.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { startRedis } from '../support/redis.ts'
import { startReplica, startUpstream } from '../support/replica.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'
import { certificate } from '../support/tls.ts'

const body = { prompt: 'hi', model: sim({ text: 20 }) }

/** Makes a TLS connection to a server, whatever its certificate. */
async function handshake({ url }: Pick<Rig, 'url'>, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ port: Number(new URL(url).port), rejectUnauthorized: false, ...options })
  onTestFinished(() => void socket.destroy())
  await once(socket, 'secureConnect')
  return socket
}

const nameOf = (socket: TLSSocket) => socket.getPeerCertificate().subject.CN

it('offers HTTP/2 and HTTP/1.1, and speaks HTTP/1.1 with whoever offers nothing', async () => {
  const rig = await startRig({ env: certificate().env })
  expect(rig.url).toMatch(/^https:/)
  const chosen = async (ALPNProtocols?: string[]) =>
    (await handshake(rig, ALPNProtocols && { ALPNProtocols })).alpnProtocol
  expect(await chosen(['h2', 'http/1.1'])).toBe('h2')
  expect(await chosen(['http/1.1'])).toBe('http/1.1')
  expect(await chosen()).toBe(false)
  for (const allowH2 of [true, false]) {
    const dispatcher = new Agent({ allowH2, connect: { rejectUnauthorized: false } })
    onTestFinished(() => dispatcher.destroy())
    const answer = await request(`${rig.url}/stream`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      dispatcher,
    })
    expect(expectWholeJsonStream(parseFrames(await answer.body.text()))).toMatchObject({ type: 'done' })
  }
})

it.each([
  ['--http2', '2'],
  ['--http1.1', '1.1'],
])('curl %s reads a stream', async (flag, version) => {
  const rig = await startRig({ env: certificate().env })
  const url = `${rig.url}/stream?prompt=hi&model=${encodeURIComponent(body.model)}`
  const { stdout } = await promisify(execFile)('curl', ['-skN', flag, '-w', '%{http_version}', url])
  const end = stdout.lastIndexOf('\n\n') + 2
  expect(stdout.slice(end)).toBe(version)
  expect(expectWholeJsonStream(parseFrames(stdout.slice(0, end)))).toMatchObject({ type: 'done' })
})

it('http2: false leaves HTTP/1.1, and min_version is the least that is spoken', async () => {
  const rig = await startRig({ env: certificate('first', { http2: false, min_version: 'TLSv1.3' }).env })
  expect((await handshake(rig, { ALPNProtocols: ['h2', 'http/1.1'] })).alpnProtocol).toBe('http/1.1')
  expect((await handshake(rig)).getProtocol()).toBe('TLSv1.3')
  await expect(handshake(rig, { maxVersion: 'TLSv1.2' })).rejects.toThrow(/protocol version/)
})

it('what is no TLS, and who never begins it, is hung up on without a word', async () => {
  const rig = await startRig({ env: { ...certificate().env, SLUICE_SERVER__HEADERS_TIMEOUT_MS: '300' } })
  for (const bytes of ['GET / HTTP/1.1\r\nhost: localhost\r\n\r\n', '']) {
    const socket = connectTcp(Number(new URL(rig.url).port), '127.0.0.1')
    let answer = ''
    socket.on('data', (data) => {
      answer += data.toString('latin1')
    })
    socket.on('error', () => {})
    socket.write(bytes)
    await once(socket, 'close')
    // A TLS alert, at most.
    expect(answer).not.toContain('HTTP')
  }
  expect(rig.log.filter(({ level }) => level === 'error')).toEqual([])
})

describe('a certificate', () => {
  it('is renewed when its files change, and when it is asked for, and no stream is cut', async () => {
    const files = certificate('first')
    const rig = await startRig({ env: files.env })
    const session = await openSession(rig.url)
    const stream = await ask(session, '/stream', { body: { prompt: 'hi', model: sim({ text: 300, delay_ms: 10 }) } })
    await stream.until('"text"')
    expect(nameOf(await handshake(rig))).toBe('first')
    files.renew('second')
    await eventually(async () => nameOf(await handshake(rig)) === 'second', 5_000)
    files.renew('third')
    rig.app.reloadFiles()
    expect(nameOf(await handshake(rig))).toBe('third')
    expect(rig.log.filter(({ message }) => message === 'certificate read')).toHaveLength(2)
    await stream.ended
    expect(expectWholeJsonStream(stream.frames)).toMatchObject({ type: 'done' })
  })

  it('that cannot be used changes nothing while it runs, and keeps it from starting', async () => {
    const files = certificate('first')
    const other = certificate('other')
    const rig = await startRig({ env: files.env })
    const logger = createLogger('silent')
    const refuse = async (reason: string) => {
      rig.app.reloadFiles()
      expect(rig.log.at(-1)).toMatchObject({ level: 'error', reason: expect.stringContaining(reason) })
      const config = loadConfig({ ANTHROPIC_API_KEY: 'k', PORT: '0', ...files.env })
      await expect(startApp(config, logger)).rejects.toMatchObject({ faults: [expect.stringContaining(reason)] })
    }
    writeFileSync(files.key_file, readFileSync(other.key_file))
    await refuse('is not the key of')
    writeFileSync(files.key_file, 'nonsense')
    await refuse('holds no private key')
    writeFileSync(files.cert_file, '')
    await refuse('holds no certificate')
    other.remove()
    expect(nameOf(await handshake(rig))).toBe('first')
    expect(JSON.stringify(rig.log)).not.toContain('PRIVATE')
  })
})

it('two workers speak it, with HTTP/2, and drain', async () => {
  await using stack = new AsyncDisposableStack()
  const redis = stack.use(await startRedis())
  const claude = stack.use(await startUpstream())
  const primary = stack.use(
    await startReplica({
      ...certificate().env,
      ANTHROPIC_BASE_URL: claude.url,
      REDIS_URL: redis.url,
      WORKERS: '2',
      SLUICE_SERVER__DRAIN_MS: '300',
    }),
  )
  const sessions = await Promise.all(Array.from({ length: 4 }, () => openSession(primary.url)))
  const answers = await Promise.all(sessions.map((session) => askAll(session, '/stream', { body })))
  for (const { frames } of answers) expect(expectWholeJsonStream(frames)).toMatchObject({ type: 'done' })
  const served = () => primary.log.filter(({ message }) => message === 'stream ended').map(({ worker }) => worker)
  await eventually(() => new Set(served()).size === 2)
  // What one worker has made another serves.
  const id = answers[0]?.headers['x-stream-id']
  for (const session of sessions) expect((await askAll(session, `/streams/${id}`)).body).toBe(answers[0]?.body)
  const [first] = sessions
  const live = await ask(first as never, '/v1/messages', {
    body: {
      model: sim({ text: 10_000, delay_ms: 5 }),
      max_tokens: 10_000,
      stream: true,
      messages: [{ role: 'user', content: 'hi' }],
    },
  })
  await live.until('text_delta')
  const stopped = performance.now()
  expect(await primary.terminate()).toBe(0)
  expect(performance.now() - stopped).toBeLessThan(2_300)
  await live.ended
  expect(live.body).toContain('event: error')
})

it('a browser reads twelve streams of one server at once', async () => {
  const rig = await startRig({ env: certificate().env })
  const browser = await launchBrowser()
  onTestFinished(() => browser.close())
  const context = await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true })
  // Its own policy would keep what it opens here from loading anything.
  const page = await context.newPage()
  await page.goto(`${rig.url}/healthz`)
  const model = encodeURIComponent(sim({ text: 60, delay_ms: 20 }))
  const { open, protocols, ends } = await page.evaluate(readAll, `/stream?prompt=hi&model=${model}`)
  // Over HTTP/1.1 the seventh would wait for the end of the first.
  expect(open).toBe(12)
  expect(new Set(protocols)).toEqual(new Set(['h2']))
  expect(ends).toEqual(Array.from({ length: 12 }, () => 'done'))
}, 40_000)

/** Runs in the page: how many streams were open before any had ended, and how each did. */
async function readAll(url: string): Promise<{ open: number; protocols: string[]; ends: string[] }> {
  const sources = Array.from({ length: 12 }, (_, n) => new EventSource(`${url}&key=k${n}`))
  let open = 0
  let over = false
  const ends = await Promise.all(
    sources.map(
      (source) =>
        new Promise<string>((resolve) => {
          source.onopen = () => {
            if (!over) open++
          }
          source.onerror = () => resolve('error')
          source.onmessage = ({ data }) => {
            if (data === '[DONE]') return
            const { type } = JSON.parse(data)
            if (type !== 'done') return
            over = true
            source.close()
            resolve(type)
          }
        }),
    ),
  )
  const entries = performance.getEntriesByType('navigation' as never) as unknown as { nextHopProtocol: string }[]
  return { open, protocols: entries.map(({ nextHopProtocol }) => nextHopProtocol), ends }
}
