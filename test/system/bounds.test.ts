import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { Simulator } from '../../src/simulator/server.ts'
import { startChild } from '../support/children.ts'
import { eventually, fetchAll, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { sim, startRig } from '../support/sluice.ts'

const cli = join(import.meta.dirname, '../../src/cli.ts')

/** A Sluice in a process of its own, in front of a simulated Claude. */
async function startProcess(program: string, args: readonly string[], settings: Record<string, string> = {}) {
  const simulator = await Simulator.start()
  const log: Record<string, unknown>[] = []
  const child = await startChild(program, args, {
    env: {
      ...process.env,
      ANTHROPIC_API_KEY: 'k',
      ANTHROPIC_BASE_URL: simulator.url,
      PORT: '0',
      // How busy this machine is must not decide which bound is met first.
      SLUICE_STREAMS__MAX_LAG_MS: '60000',
      ...settings,
    },
    onLine: (line) => void log.push(JSON.parse(line)),
  })
  onTestFinished(async () => {
    await child.kill()
    await simulator.close()
  })
  const { url } = await eventually(() => log.find((line) => line['message'] === 'listening'), 10_000)
  return { child, simulator, log, url: String(url) }
}

function post(url: string, model: string, prompt = 'hi'): Promise<StreamResponse> {
  return open(`${url}/stream`, { body: { prompt, model, max_tokens: 100_000 } })
}

/** All of them have ended well. */
async function expectWhole(streams: readonly StreamResponse[]): Promise<void> {
  for (const body of await Promise.all(streams.map((stream) => stream.ended))) {
    expect(expectWholeJsonStream(parseFrames(body))).toMatchObject({ type: 'done' })
  }
}

async function expectRefused(refused: StreamResponse): Promise<void> {
  expect([refused.status, refused.headers['retry-after']]).toEqual([503, '1'])
  expect(JSON.parse(await refused.ended).error).toMatchObject({ code: 'too_many_streams', retryable: true })
}

const isWell = async (url: string) => (await fetchAll(`${url}/healthz`)).status === 200
const takesStreams = async (url: string) => (await (await post(url, sim({ text: 2 }))).ended).includes('"done"')

it('refuses streams before V8 runs out of heap, finishes those it has, and takes new ones again', async () => {
  const { child, log, url } = await startProcess(process.execPath, ['--max-old-space-size=128', cli])
  const isShort = () => log.some((line) => line['reason'] === 'heap')
  // A prompt is held for as long as its stream runs: some 30 of these are all that fits.
  const ask = () => post(url, sim({ text: 60, delay_ms: 100 }), 'x'.repeat(1_500_000))
  const taken: StreamResponse[] = []
  const refused: StreamResponse[] = []
  while (!isShort() || refused.length < 10) {
    for (const stream of await Promise.all([ask(), ask()])) (stream.status === 200 ? taken : refused).push(stream)
  }
  await Promise.all(refused.map(expectRefused))
  expect(taken.length).toBeGreaterThan(10)
  await expectWhole(taken)
  await eventually(() => takesStreams(url), 12_000)
  expect(await isWell(url)).toBe(true)
  expect(child.running).toBe(true)
}, 40_000)

/** Connections that say nothing. */
function silentSockets(url: string, count: number): Socket[] {
  const sockets = Array.from({ length: count }, () =>
    connect(Number(new URL(url).port), '127.0.0.1')
      .on('error', () => {})
      .resume(),
  )
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
  })
  return sockets
}

it('with 256 open files it takes 28 streams, refuses the others, and outlives a flood of connections', async () => {
  const command = 'ulimit -n 256; exec "$0" "$1"'
  const { child, log, url } = await startProcess('bash', ['-c', command, process.execPath, cli], {
    SLUICE_SERVER__HEADERS_TIMEOUT_MS: '500',
  })
  expect(log.find((line) => line['level'] === 'warn')).toMatchObject({ max_streams: 28, open_files: 256 })
  const streams = await Promise.all(Array.from({ length: 60 }, () => post(url, sim({ text: 40, delay_ms: 50 }))))
  const taken = streams.filter(({ status }) => status === 200)
  expect(taken).toHaveLength(28)
  await Promise.all(streams.filter(({ status }) => status !== 200).map(expectRefused))
  expect(await isWell(url)).toBe(true)
  const flood = silentSockets(url, 600)
  await Promise.all(flood.map((socket) => socket.closed || once(socket, 'close')))
  await expectWhole(taken)
  expect(await isWell(url)).toBe(true)
  expect(await takesStreams(url)).toBe(true)
  expect(child.running).toBe(true)
}, 30_000)

it('connections that wait for their next request make room for others', async () => {
  const { url } = await startProcess('bash', ['-c', 'ulimit -n 256; exec "$0" "$1"', process.execPath, cli])
  const idle = silentSockets(url, 128)
  for (const socket of idle) {
    socket.write('GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await once(socket, 'data')
  }
  await eventually(() => isWell(url).catch(() => false))
})

it('refuses streams while live ones fill max_total_bytes, and takes them again when those are over', async () => {
  const { url, simulator } = await startRig({ env: { SLUICE_STREAMS__MAX_TOTAL_BYTES: '100000' } })
  const live = await post(url, sim({ text: 2_000, bytes: 100, silence_at: 1_900 }))
  await eventually(() => live.body.length > 150_000)
  await expectRefused(await post(url, sim({ text: 2 })))
  expect(simulator.requests).toHaveLength(1)
  await fetchAll(`${url}/streams/${live.headers['x-stream-id']}`, { method: 'DELETE' })
  expect(await takesStreams(url)).toBe(true)
})

/** Stands still for half a second, as often as it is told to. */
const block = `process.on('SIGUSR2', () => { const until = performance.now() + 500; while (performance.now() < until); })`

it('half a second of standstill ends no stream, refuses none, and delays heartbeats by less than a second', async () => {
  const heartbeatMs = 200
  const { child, url } = await startProcess(process.execPath, ['--import', `data:text/javascript,${block}`, cli], {
    SLUICE_STREAMS__HEARTBEAT_MS: String(heartbeatMs),
    SLUICE_STREAMS__MAX_LAG_MS: '200',
    // Shorter than the standstill: it is the process that was silent, not Claude, and not the clients.
    SLUICE_TIMEOUTS__SILENCE_MS: '400',
    SLUICE_STREAMS__CLIENT_STALL_MS: '400',
  })
  const quiet = sim({ text: 4, delay_ms: 600, ping_ms: 100 })
  const busy = sim({ text: 100, delay_ms: 20 })
  const streams = await Promise.all(Array.from({ length: 20 }, (_, n) => post(url, n % 2 ? busy : quiet)))
  let longest = 0
  for (const { message } of streams.filter((_, n) => n % 2 === 0)) {
    let last = performance.now()
    message.on('data', () => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    })
  }
  await Promise.all(streams.map((stream) => stream.until('"text"')))
  child.signal('SIGUSR2')
  expect(await takesStreams(url)).toBe(true)
  await expectWhole(streams)
  expect(longest).toBeGreaterThan(450)
  expect(longest).toBeLessThan(heartbeatMs + 1_000)
})
