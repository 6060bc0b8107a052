import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, jsonFrames, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { type Series, scrape } from '../support/metrics.ts'
import { startRedis } from '../support/redis.ts'
import { portOf } from '../support/relay.ts'
import { startReplica, startUpstream } from '../support/replica.ts'
import { sim } from '../support/sluice.ts'

const compileCache = join(tmpdir(), 'node-compile-cache')
const drainMs = 5_000
const endless = sim({ text: 100_000, delay_ms: 10 })

/** Two workers with a Redis of their own, in front of one Claude; none outlives its test. */
async function startWorkers(settings: Record<string, string> = {}) {
  await using stack = new AsyncDisposableStack()
  const redis = stack.use(await startRedis())
  const claude = stack.use(await startUpstream())
  const primary = stack.use(
    await startReplica({
      ANTHROPIC_BASE_URL: claude.url,
      REDIS_URL: redis.url,
      WORKERS: '2',
      // Three processes each: most of what these tests take is the compiling of the same modules.
      NODE_COMPILE_CACHE: compileCache,
      SLUICE_SERVER__DRAIN_MS: String(drainMs),
      ...settings,
    }),
  )
  const pids = () => new Map(primary.log.flatMap(({ worker, pid }) => (pid ? [[Number(worker), Number(pid)]] : [])))
  stack.defer(() => {
    for (const pid of [...pids().values()].filter(isAlive)) process.kill(pid, 'SIGKILL')
  })
  const [first, second] = [...pids().values()] as [number, number]
  /** Which worker has written the line of a stream; there is none before its end. */
  const workerOf = (stream: StreamResponse) =>
    primary.log.find(({ stream: id, message }) => id === idOf(stream) && message === 'stream ended')?.['worker']
  const all = stack.move()
  return {
    url: primary.url,
    claude,
    primary,
    first,
    second,
    pids,
    workerOf,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const idOf = ({ headers }: StreamResponse) => String(headers['x-stream-id'])
const firstId = (body: string) => parseFrames(body).find(({ id }) => id)?.id
const fromFirstId = (body: string) => body.slice(body.indexOf('id: '))
const pathOf = (stream: StreamResponse) => `/streams/${idOf(stream)}`

async function ask(url: string, model: string, headers = {}): Promise<StreamResponse> {
  const stream = await open(`${url}/stream`, { body: { prompt: 'hi', model, max_tokens: 100_000 }, headers })
  if (stream.status === 200) await stream.until('"text"')
  return stream
}

describe.concurrent('two workers', { timeout: 40_000 }, () => {
  it('tell of both, each under its own label, whichever is asked', async () => {
    await using sluice = await startWorkers()
    const { url, pids } = sluice
    for (let n = 0; n < 4; n++) await ask(url, sim({ text: 2 }))
    const ended = (series: Series, worker: number) =>
      series.get(`sluice_streams_ended_total{reason="end_turn",status="done",worker="${worker}"}`)
    const [one, other] = [...pids().keys()] as [number, number]
    await eventually(async () => {
      const series = await scrape(url)
      return ended(series, one) === 2 && ended(series, other) === 2
    })
    const texts = [await scrape(url), await scrape(url), await scrape(url), await scrape(url)]
    for (const series of texts) expect([ended(series, one), ended(series, other)]).toEqual([2, 2])
  })

  it('are one to operators, whichever answers: they see all streams, and stop any', async () => {
    await using sluice = await startWorkers()
    const { url, claude } = sluice
    const streams = [await ask(url, endless), await ask(url, endless)]
    const ids = streams.map(idOf)
    const watchers = [await open(`${url}/ops/events`), await open(`${url}/ops/events`)]
    for (const watcher of watchers) {
      await watcher.until('"now"')
      const [hour, now] = jsonFrames(parseFrames(watcher.body))
      expect(hour).toMatchObject({ type: 'hour' })
      expect(now).toMatchObject({ live: 2, readers: 2, draining: false, storeUp: true })
      const shown = now?.['streams'] as { stream: string; ageMs: number }[]
      expect(shown.map(({ stream }) => stream).toSorted()).toEqual(ids.toSorted())
      // The oldest first, by what the workers say, each a moment apart: which of two of one age that is, is open.
      expect(shown).toEqual(shown.toSorted((one, other) => other.ageMs - one.ageMs))
    }
    // Each connection comes to another worker: one of the two asks does not come to the one that runs the stream.
    for (const id of ids) {
      const stopped = await fetchAll(`${url}/ops/streams/${id}`, { method: 'DELETE' })
      expect(JSON.parse(stopped.body)).toEqual({ id, status: 'cancelled' })
      expect((await fetchAll(`${url}/ops/streams/${id}`, { method: 'DELETE' })).status).toBe(404)
    }
    for (const stream of streams) expect(await stream.ended).toContain('"by":"stop"')
    await eventually(() => claude.open === 0)
    for (const watcher of watchers) {
      await eventually(() => watcher.body.includes('"live":0'), 8_000)
      watcher.destroy()
    }
  })

  it('are each replaced when they die, and their streams ended by the other', async () => {
    await using sluice = await startWorkers()
    const { url, claude, primary, first, pids, workerOf } = sluice
    const model = sim({ text: 600, delay_ms: 10 })
    const [doomed, spared] = [await ask(url, model), await ask(url, model)]
    let busy = true
    const askOnAndOn = async () => {
      while (busy) await fetchAll(`${url}/healthz`).catch(() => {})
    }
    const asking = Array.from({ length: 10 }, askOnAndOn)
    process.kill(first, 'SIGKILL')
    const death = await eventually(() => primary.log.find(({ message }) => message === 'worker died'))
    busy = false
    // Also what was on its way to the dead worker is answered, or is told that it will not be.
    await Promise.all(asking)
    await doomed.ended
    expect(doomed.body).not.toContain('[DONE]')
    // Nobody is refused, neither before there are two again nor after.
    await eventually(async () => {
      expect((await fetchAll(`${url}/readyz`)).status).toBe(200)
      return pids().has(3)
    }, 10_000)
    expect(death).toMatchObject({ worker: 1, signal: 'SIGKILL' })
    const ends = await Promise.all([1, 2].map(() => fetchAll(url + pathOf(doomed))))
    for (const { body } of ends) {
      expect(expectWholeJsonStream(parseFrames(body))).toMatchObject({ error: { code: 'replica_lost' }, partial: true })
      expect(body.startsWith(doomed.body.slice(0, doomed.body.lastIndexOf('\n\n')))).toBe(true)
    }
    expect(expectWholeJsonStream(parseFrames(await spared.ended))).toMatchObject({ type: 'done' })
    const again = await Promise.all([1, 2].map(() => ask(url, sim({ text: 3 }))))
    await Promise.all(again.map(({ ended }) => ended))
    await eventually(() => again.every(workerOf))
    expect(again.map(workerOf).sort()).toEqual([2, 3])
    expect(claude.calls()).toBe(4)
  })

  it('are each replaced when they hang, and only then', async () => {
    // Seconds take a tenth of one, so that it is seen after three.
    const preload = `
      const real = setInterval
      globalThis.setInterval = (call, ms) => real(call, ms === 1000 ? 100 : ms)
      process.on('SIGUSR2', () => {
        process.getBuiltinModule('fs').writeSync(1, '{"message":"I hang"}\\n')
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
      })`
    const hurried = `--import data:text/javascript,${encodeURIComponent(preload)}`
    await using sluice = await startWorkers({ NODE_OPTIONS: hurried })
    const { url, primary, first, second, pids } = sluice
    process.kill(first, 'SIGUSR2')
    await eventually(() => primary.log.find(({ message }) => message === 'I hang'))
    // One of the two is handed to the worker that hangs.
    const asked = Promise.all([1, 2].map(() => ask(url, sim({ text: 3 }))))
    const [streams] = await Promise.all([asked, eventually(() => pids().has(3), 10_000)])
    for (const stream of streams)
      expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ type: 'done' })
    expect(primary.log.filter(({ level }) => level === 'error')).toMatchObject([
      { message: 'worker hangs: killed', worker: 1 },
      { message: 'worker died', worker: 1, signal: 'SIGKILL' },
    ])
    expect([first, second].map(isAlive)).toEqual([false, true])
  })

  it('take turns, share keys, and serve, stop and resume the streams of one another', async () => {
    await using sluice = await startWorkers({ LOG_LEVEL: 'debug' })
    const { url, claude, primary, workerOf } = sluice
    const streams: StreamResponse[] = []
    for (let n = 0; n < 6; n++) streams.push(await ask(url, endless))
    // As they take turns, one of two requests in a row meets the other worker.
    for (const stream of streams) {
      const resumed = await Promise.all([1, 2].map(() => open(`${url}${pathOf(stream)}?after=2`)))
      for (const reader of resumed) expect(firstId(await reader.until(/^id: .*\.8$/m))).toBe(`${idOf(stream)}.3`)
      const stopped = await Promise.all([1, 2].map(() => fetchAll(url + pathOf(stream), { method: 'DELETE' })))
      expect(stopped.map(({ body }) => JSON.parse(body).status)).toEqual(['cancelled', 'cancelled'])
      const whole = await stream.ended
      expect(expectWholeJsonStream(parseFrames(whole))).toMatchObject({ type: 'cancelled', by: 'stop' })
      for (const reader of resumed) expect(whole.endsWith(fromFirstId(await reader.ended))).toBe(true)
    }
    const workers = await eventually(() => streams.every(workerOf) && streams.map(workerOf))
    expect(workers.toSorted()).toEqual([1, 1, 1, 2, 2, 2])
    expect(claude.calls()).toBe(6)

    const headers = { 'idempotency-key': 'one', 'x-request-id': 'keyed' }
    const keyed = await Promise.all(Array.from({ length: 20 }, () => ask(url, sim({ text: 20 }), headers)))
    const bodies = await Promise.all(keyed.map(({ ended }) => ended))
    expect(new Set(bodies).size).toBe(1)
    expect(expectWholeJsonStream(parseFrames(bodies[0] as string))).toMatchObject({ type: 'done' })
    expect(claude.calls()).toBe(7)
    const requests = await eventually(() => {
      const lines = primary.log.filter((line) => line['message'] === 'request' && line['request_id'] === 'keyed')
      return lines.length === 20 && lines
    })
    expect(new Set(requests.map(({ worker }) => worker))).toEqual(new Set([1, 2]))
    expect(primary.log.filter(({ message }) => message === 'listening')).toMatchObject([{ url, workers: 2 }])
  })
})

describe.concurrent('the end of workers', () => {
  it('comes with SIGTERM to the whole process group, once their streams are at their end', async () => {
    await using sluice = await startWorkers()
    const { url, primary, first, second } = sluice
    const streams = [await ask(url, sim({ text: 300, delay_ms: 10 })), await ask(url, sim({ text: 300, delay_ms: 10 }))]
    for (const pid of [first, second, primary.pid]) process.kill(pid, 'SIGTERM')
    await eventually(async () => (await fetchAll(`${url}/readyz`)).status === 503)
    expect((await ask(url, endless)).status).toBe(503)
    for (const stream of streams)
      expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ type: 'done' })
    expect(await primary.terminate()).toBe(0)
    expect([first, second].filter(isAlive)).toEqual([])
    expect(primary.log.at(-1)).toMatchObject({ message: 'closed', code: 0 })
  })

  it('is hurried by a second SIGTERM', async () => {
    await using sluice = await startWorkers({ SLUICE_SERVER__DRAIN_MS: '60000', SLUICE_STREAMS__MAX_STREAMS: '2' })
    const { url, primary } = sluice
    const streams = [await ask(url, endless), await ask(url, endless)]
    // Each has its share of what all together may take.
    expect([(await ask(url, endless)).status, (await ask(url, endless)).status]).toEqual([503, 503])
    const since = performance.now()
    const ended = primary.terminate()
    await eventually(async () => (await fetchAll(`${url}/readyz`)).status === 503)
    await primary.terminate()
    expect(await ended).toBe(0)
    expect(performance.now() - since).toBeLessThan(5_000)
    for (const stream of streams) {
      expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ error: { code: 'shutting_down' } })
    }
  })

  it('follows that of a primary that is killed, once their streams are at their end', async () => {
    await using sluice = await startWorkers()
    const { url, primary, first, second } = sluice
    const streams = [await ask(url, sim({ text: 100, delay_ms: 10 })), await ask(url, sim({ text: 100, delay_ms: 10 }))]
    await primary.kill()
    for (const stream of streams)
      expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ type: 'done' })
    await eventually(() => ![first, second].some(isAlive), 5_000)
  })

  it('is that of one worker alone when it has a defect: others serve meanwhile, and one takes its place', async () => {
    const bomb = `data:text/javascript,process.on('SIGUSR2', () => { throw new Error('boom') })`
    await using sluice = await startWorkers({ NODE_OPTIONS: `--import "${bomb}"` })
    const { url, first, pids, workerOf } = sluice
    const stream = await ask(url, sim({ text: 100, delay_ms: 10 }))
    process.kill(first, 'SIGUSR2')
    await eventually(async () => {
      expect((await fetchAll(`${url}/readyz`)).status).toBe(200)
      return pids().has(3)
    }, 10_000)
    expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ type: 'done' })
    expect(workerOf(stream)).toBe(1)
  })
})

describe.concurrent('workers do not start', () => {
  const start = (settings: Record<string, string>) =>
    startReplica({ ANTHROPIC_BASE_URL: 'http://127.0.0.1:9', WORKERS: '2', ...settings }).then(
      (replica) => replica.close(),
      (error: Error) => error.message,
    )

  it('without a Redis to share', async () => {
    expect(await start({ WORKERS: '4' })).toContain(
      'sluice: server.workers: 4 workers share their streams and keys through Redis; set REDIS_URL, or run one worker\n',
    )
  })

  it('on a port that is taken, and say so once', async () => {
    await using taken = createServer().listen(0, '127.0.0.1')
    await eventually(() => taken.listening)
    const said = await start({ PORT: String(portOf(taken)), REDIS_URL: 'redis://127.0.0.1:9' })
    expect(String(said).match(/sluice: the port is taken/g)).toHaveLength(1)
  })
})
