import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { parseScenario } from '../../src/simulator/scenario.ts'
import { Simulator } from '../../src/simulator/server.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { holder, lettingIn } from '../support/access.ts'
import { fetchAll } from '../support/client.ts'
import { seeded } from '../support/random.ts'
import { wireOf } from '../support/wire.ts'
import { type Case, type Knowledge, makeCase } from './cases.ts'

export interface FuzzOptions {
  readonly seed: string
  readonly count: number
  /** Number of the first one. */
  readonly from: number
  readonly concurrency: number
  readonly onProgress?: (done: number) => void
}

export interface FuzzResult {
  readonly requests: number
  /** How often each status came; 0 where the connection was closed without a word. */
  readonly statuses: Record<string, number>
  /** What went wrong, by the number of the request, at most twenty. */
  readonly problems: string[]
  readonly wrong: number
  readonly upstreamCalls: number
  /** Growth of heap and of memory outside of it, from the first tenth on, in MiB; not a number without --expose-gc. */
  readonly growthMiB: number
  readonly slowestMs: number
}

/** No request may take longer, whatever it is; the clocks of the server are far shorter. */
const patienceMs = 8_000
/** No stream lasts longer here. */
const keptMs = 2_200
const canaries = { apiKey: 'KEYCANARY1', prompt: 'PROMPTCANARY2', foreign: 'FOREIGNCANARY3' }

/** Sends so many requests, none of which has to make sense, to a Sluice of its own in front of a simulated Claude. */
export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const [alice, bob] = [holder('alice'), holder('bob')]
  const simulator = await Simulator.start({
    defaults: parseScenario('text=3'),
    recordings: new Map([['foreign', Buffer.from(wireOf(canaries.foreign))]]),
  })
  const problems: string[] = []
  let wrong = 0
  const complain = (problem: string) => {
    if (++wrong <= 20) problems.push(problem)
  }
  const logger = createLogger('trace', {
    write: (line) => {
      for (const canary of Object.values(canaries)) if (line.includes(canary)) complain(`log: ${line.slice(0, 300)}`)
      if (/"level":"(?:error|fatal)"/.test(line)) complain(`log: ${line.slice(0, 500)}`)
    },
  })
  const config = loadConfig({
    ANTHROPIC_API_KEY: canaries.apiKey,
    ANTHROPIC_BASE_URL: simulator.url,
    PORT: '0',
    ...lettingIn(alice, bob),
    CORS_ORIGINS: 'https://app.example.com',
    SLUICE_SERVER__HEADERS_TIMEOUT_MS: '300',
    SLUICE_SERVER__REQUEST_TIMEOUT_MS: '500',
    SLUICE_SERVER__MAX_BODY_BYTES: '200000',
    SLUICE_SERVER__DRAIN_MS: '0',
    SLUICE_UPSTREAM__DEFAULT_MODEL: 'claude-sim',
    SLUICE_RETRY__MAX_ATTEMPTS: '0',
    SLUICE_TIMEOUTS__TOTAL_MS: '2000',
    SLUICE_STREAMS__RETENTION_MS: '200',
    SLUICE_STREAMS__GRACE_MS: '100',
    SLUICE_STREAMS__MAX_LAG_MS: '60000',
  })
  const app = await startApp(config, logger)
  const port = Number(new URL(app.url).port)
  const theirs = await fetchAll(`${app.url}/stream`, {
    body: { prompt: canaries.foreign, system: canaries.foreign, model: 'claude-sim?recording=foreign' },
    // What has a key is kept to the end.
    headers: { ...alice.bearer, 'idempotency-key': 'kept' },
  })
  if (!theirs.body.includes(canaries.foreign)) complain('there is nothing to leak')
  const known: Knowledge = {
    canary: canaries.prompt,
    key: bob.key,
    streams: [String(theirs.headers['x-stream-id']), `s_${'A'.repeat(22)}`, 'x'],
  }
  const statuses: Record<string, number> = {}
  const before = Object.getOwnPropertyNames(Object.prototype).join()
  let slowestMs = 0
  let upstreamCalls = 0

  async function one(n: number): Promise<void> {
    const started = performance.now()
    const answer = await send(port, makeCase(seeded(`${options.seed}/${n}`), known))
    slowestMs = Math.max(slowestMs, performance.now() - started)
    const status = /^HTTP\/1\.1 (\d{3})/.exec(answer.text)?.[1] ?? '0'
    statuses[status] = (statuses[status] ?? 0) + 1
    if (!answer.closed) complain(`${n}: neither answered nor closed: ${answer.text.slice(0, 1500)}`)
    if (answer.text.includes('"code":"internal"') || status === '500') complain(`${n}: ${answer.text.slice(0, 500)}`)
    for (const canary of [canaries.apiKey, canaries.foreign])
      if (answer.text.includes(canary)) complain(`${n}: leaks ${canary}`)
    // The 100 of `Expect` is none.
    if ((answer.text.match(/HTTP\/1\.1 [2-5]\d\d /g) ?? []).length > 1)
      complain(`${n}: two answers: ${answer.text.slice(0, 800)}`)
  }

  let next = options.from
  const end = options.from + options.count
  let baseline = Number.NaN
  async function worker(): Promise<void> {
    while (next < end) {
      const n = next++
      await one(n)
      if (n % 1_000 !== 999) continue
      // What the simulator remembers of requests is no memory of the server's.
      upstreamCalls += simulator.requests.length
      ;(simulator.requests as unknown[]).length = 0
      options.onProgress?.(n + 1 - options.from)
      if (Number.isNaN(baseline) && n - options.from >= options.count / 10) baseline = memory()
    }
  }
  await Promise.all(Array.from({ length: options.concurrency }, worker))
  if (Object.getOwnPropertyNames(Object.prototype).join() !== before || Object.keys(Object.prototype).length > 0) {
    complain('Object.prototype is not what it was')
  }
  if ((await fetchAll(`${app.url}/healthz`)).status !== 200) complain('the server is not well')
  await delay(300)
  const growthMiB = Math.round(((memory() - baseline) / 2 ** 20) * 10) / 10
  upstreamCalls += simulator.requests.length
  await app.shutDown()
  await simulator.close()
  return {
    requests: options.count,
    statuses,
    problems,
    wrong,
    upstreamCalls,
    growthMiB,
    slowestMs: Math.round(slowestMs),
  }
}

function memory(): number {
  if (!globalThis.gc) return Number.NaN
  globalThis.gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

function send(port: number, { bytes, split, after }: Case): Promise<{ text: string; closed: boolean }> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    let text = ''
    let closed = true
    let kept: NodeJS.Timeout | undefined
    const patience = setTimeout(() => {
      closed = false
      socket.destroy()
    }, patienceMs)
    socket.setEncoding('latin1')
    socket.on('data', (piece: string) => {
      text += piece
      // Where what asked for the end of the connection was spoiled it goes on; all answers are over by then.
      if (/^connection: keep-alive/im.test(text)) kept ??= setTimeout(() => socket.destroy(), keptMs)
    })
    // A reset is an end like any other.
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(patience)
      clearTimeout(kept)
      resolve({ text, closed })
    })
    socket.on('connect', async () => {
      if (split !== undefined) {
        socket.write(bytes.subarray(0, split))
        await delay(1)
      }
      if (socket.destroyed) return
      socket.write(split === undefined ? bytes : bytes.subarray(split))
      if (after === 'ends') socket.end()
      else if (after === 'vanishes') socket.resetAndDestroy()
    })
  })
}
