import { fastify } from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Bucket } from '../../src/core/history.ts'
import type { OpsNow } from '../../src/core/ops.ts'
import type { Operators } from '../../src/http/operators.ts'
import { opsRoutes } from '../../src/http/ops.ts'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, jsonFrames, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { sim, startRig } from '../support/sluice.ts'

const token = 'a-token-of-operators'
const asOperator = { authorization: `Bearer ${token}` }
const endless = encodeURIComponent(sim({ text: 100_000, delay_ms: 20 }))

const framesOf = ({ body }: StreamResponse) => jsonFrames(parseFrames(body))

describe('what operators see', () => {
  it('is the last hour, then how things stand, with each stream under way', async () => {
    const alice = holder('alice')
    const rig = await startRig({ env: { ...lettingIn(alice), OPS_TOKEN: token } })
    const reader = await open(`${rig.url}/stream?prompt=hi&max_tokens=100000&model=${endless}`, {
      headers: alice.bearer,
    })
    const watcher = await open(`${rig.url}/ops/events`, { headers: asOperator })
    expect(watcher.headers['content-type']).toBe('text/event-stream; charset=utf-8')
    const frames = await eventually(() => {
      const seen = framesOf(watcher)
      return seen.length >= 3 && seen
    }, 6_000)
    expect(frames[0]).toEqual({ type: 'hour', buckets: [] })
    expect(frames.at(-1)).toMatchObject({
      type: 'now',
      live: 1,
      readers: 1,
      apiKeys: 1,
      restingKeys: 0,
      pressure: null,
    })
    const [stream] = (frames.at(-1) as { streams: Record<string, unknown>[] }).streams
    expect(stream).toMatchObject({ principal: 'alice', state: 'streaming', readers: 1, recoveries: 0 })
    expect(stream?.['tokensPerSecond']).toBeGreaterThan(0)
    watcher.destroy()
    reader.destroy()
  })

  it('is theirs alone: a key of a client opens nothing of it', async () => {
    const alice = holder('alice')
    const rig = await startRig({ env: { ...lettingIn(alice), OPS_TOKEN: token } })
    for (const headers of [{}, alice.bearer]) {
      expect((await fetchAll(`${rig.url}/ops/events`, { headers })).status).toBe(401)
      expect((await fetchAll(`${rig.url}/ops/streams/s_x`, { method: 'DELETE', headers })).status).toBe(401)
    }
  })

  it('is nothing to whoever comes through a proxy, without a token', async () => {
    const rig = await startRig()
    const answer = await fetchAll(`${rig.url}/ops/events`, { headers: { 'x-forwarded-for': '192.0.2.1' } })
    expect(answer.status).toBe(404)
  })

  it('ends with the server', async () => {
    const rig = await startRig()
    const watcher = await open(`${rig.url}/ops/events`)
    const from = performance.now()
    await rig.app.shutDown()
    expect(performance.now() - from).toBeLessThan(2_000)
    watcher.destroy()
  })
})

it('tells each watcher of each bucket once, whenever it has come', async () => {
  const app = fastify()
  onTestFinished(() => app.close())
  const buckets = [10_000].map((until) => ({ until }) as Bucket)
  const now = { type: 'now', live: 0 } as OpsNow
  opsRoutes(app, { admit() {} } as unknown as Operators, {
    hour: async () => [...buckets],
    look: async () => ({ now, later: buckets.slice(-6) }),
    stop: async () => false,
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const told = (watcher: StreamResponse) =>
    framesOf(watcher).flatMap((frame) => ((frame['buckets'] ?? []) as Bucket[]).map(({ until }) => until))
  const first = await open(`${url}/ops/events`)
  await first.until('"now"')
  buckets.push({ until: 20_000 } as Bucket)
  const second = await open(`${url}/ops/events`)
  await second.until('"now"')
  buckets.push({ until: 30_000 } as Bucket)
  for (const watcher of [first, second]) {
    await eventually(() => framesOf(watcher).filter(({ type }) => type === 'now').length >= 3, 8_000)
    expect(told(watcher)).toEqual([10_000, 20_000, 30_000])
    watcher.destroy()
  }
})

describe('what operators do', () => {
  it('stops a stream, whosever it is', async () => {
    const alice = holder('alice')
    const rig = await startRig({ env: { ...lettingIn(alice), OPS_TOKEN: token } })
    const reader = await open(`${rig.url}/stream?prompt=hi&max_tokens=100000&model=${endless}`, {
      headers: alice.bearer,
    })
    const id = String(reader.headers['x-stream-id'])
    const stopped = await fetchAll(`${rig.url}/ops/streams/${id}`, { method: 'DELETE', headers: asOperator })
    expect(JSON.parse(stopped.body)).toEqual({ id, status: 'cancelled' })
    await eventually(() => framesOf(reader).at(-1)?.['type'] === 'cancelled')
    await eventually(() => rig.simulator.open === 0)
    const again = await fetchAll(`${rig.url}/ops/streams/${id}`, { method: 'DELETE', headers: asOperator })
    expect(again.status).toBe(404)
  })
})
