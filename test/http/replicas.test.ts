import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, jsonFrames, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { readStream, startReader } from '../support/reader.ts'
import { startRedis } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'
import { judge } from '../support/transcript.ts'

/** Two replicas on one Redis, in front of one Claude. */
async function startPair(settings: Record<string, string> = {}) {
  await using stack = new AsyncDisposableStack()
  const redis = stack.use(await startRedis())
  const env = { REDIS_URL: redis.url, ...settings }
  const owner = stack.adopt(await openRig({ env }), (rig) => rig.close())
  const besides = { ...env, ANTHROPIC_BASE_URL: owner.simulator.url }
  const other = stack.adopt(await openRig({ env: besides }), (rig) => rig.close())
  const all = stack.move()
  return { redis, owner, other, claude: owner.simulator, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

const endless = sim({ text: 100_000, delay_ms: 10 })
const idOf = ({ headers }: StreamResponse) => String(headers['x-stream-id'])
const pathOf = (stream: StreamResponse) => `/streams/${idOf(stream)}`
const ask = ({ url }: Rig, body: object) =>
  open(`${url}/stream`, { body: { prompt: 'hi', max_tokens: 100_000, model: endless, ...body } })

/** Waits for so many frames more than a reader has: what came with them has gone both ways. */
async function more(stream: StreamResponse, count: number): Promise<void> {
  const had = parseFrames(stream.body).length
  await eventually(() => parseFrames(stream.body).length >= had + count, 10_000)
}

const upstreamClosed = ({ simulator }: Rig) => eventually(() => simulator.requests[0]?.abortedAt, 10_000)

describe.concurrent('a replica that does not run a stream', () => {
  it('attaches, and stops it for all readers of both', async () => {
    await using pair = await startPair()
    const { owner, other } = pair
    const stream = await ask(owner, {})
    await stream.until('"text"')
    const urls = [owner, other].map(({ url }) => url + pathOf(stream))
    const readers = await Promise.all(
      ['json', 'json', 'text'].flatMap((format) => urls.map((url) => open(`${url}?format=${format}`))),
    )
    await Promise.all(readers.map((reader) => more(reader, 3)))
    const stopped = await fetchAll(urls[1] as string, { method: 'DELETE' })
    expect([stopped.status, JSON.parse(stopped.body)]).toEqual([200, { id: idOf(stream), status: 'cancelled' }])
    const whole = await stream.ended
    expect(expectWholeJsonStream(parseFrames(whole))).toMatchObject({ type: 'cancelled', by: 'stop' })
    for (const [index, reader] of readers.entries()) {
      const body = await reader.ended
      if (index < 4) expect(body).toBe(whole)
      else
        expect(body).toMatch(/event: stream_error\ndata: \{"type":"cancelled","by":"stop".*\}\n\ndata: \[DONE\]\n\n$/)
    }
    await upstreamClosed(owner)
    const again = await fetchAll(urls[1] as string, { method: 'DELETE' })
    expect(JSON.parse(again.body).status).toBe('cancelled')
  })

  it('stops it as soon as its owner has, also when it has no reader of it', async () => {
    await using pair = await startPair()
    const tookMs: number[] = []
    for (let n = 0; n < 3; n++) {
      const stream = await ask(pair.owner, {})
      await stream.until('"text"')
      const since = performance.now()
      const stopped = await fetchAll(pair.other.url + pathOf(stream), { method: 'DELETE' })
      expect(JSON.parse(stopped.body).status).toBe('cancelled')
      tookMs.push(performance.now() - since)
    }
    expect(Math.min(...tookMs)).toBeLessThan(700)
  })

  it('lets an EventSource come back for as long as it cannot tell, and tells anybody else', async () => {
    await using pair = await startPair()
    const { owner, other, redis } = pair
    const stream = await ask(owner, {})
    await stream.until('"text"')
    await redis.kill()
    const resumed = { 'last-event-id': `${idOf(stream)}.2` }
    const asEventSource = { ...resumed, accept: 'text/event-stream' }
    for (const path of ['/stream?prompt=hi', pathOf(stream), '/stream?prompt=hi&format=text']) {
      const sentBack = await fetchAll(other.url + path, { headers: asEventSource })
      expect([sentBack.status, sentBack.headers['content-type']]).toEqual([200, 'text/event-stream; charset=utf-8'])
      expect(sentBack.body).toMatch(/^retry: \d+\n\n$/)
    }
    for (const [path, options] of [
      [pathOf(stream), { headers: resumed }],
      [`${pathOf(stream)}?format=openai`, { headers: asEventSource }],
      [pathOf(stream), { headers: { accept: 'application/json' } }],
      [pathOf(stream), { method: 'DELETE' }],
    ] as const) {
      const refused = await fetchAll(other.url + path, options)
      expect([refused.status, refused.headers['retry-after']]).toEqual([503, '1'])
      expect(JSON.parse(refused.body)).toMatchObject({ error: { code: 'store_unavailable', retryable: true } })
    }
    stream.destroy()
  })

  it('knows a chat whose answer is under way, and no other', async () => {
    await using pair = await startPair()
    const { owner, other } = pair
    const body = {
      id: 'chat-1',
      messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'hi' }] }],
      model: sim({ text: 60, delay_ms: 10 }),
    }
    const stream = await open(`${owner.url}/api/chat`, { body })
    await stream.until('text-delta')
    const resumed = await fetchAll(`${other.url}/api/chat/chat-1/stream`)
    expect([resumed.status, resumed.body]).toEqual([200, await stream.ended])
    for (const { url } of [owner, other]) {
      for (const chat of ['chat-1', 'chat-2']) {
        expect((await fetchAll(`${url}/api/chat/${chat}/stream`)).status).toBe(204)
      }
    }
    expect(owner.simulator.requests).toHaveLength(1)
  })
})

describe.concurrent('readers elsewhere', () => {
  it.each(['grace', 'cancel'])('hold a run of the policy %s, and end it when they leave', async (on_disconnect) => {
    const graceMs = 700
    await using pair = await startPair({ SLUICE_STREAMS__GRACE_MS: String(graceMs) })
    const stream = await ask(pair.owner, { on_disconnect })
    const elsewhere = await open(pair.other.url + pathOf(stream))
    await more(elsewhere, 20)
    stream.destroy()
    // Longer than the grace, in which a run without readers would end.
    await more(elsewhere, 150)
    expect(pair.owner.simulator.requests[0]?.abortedAt).toBeUndefined()
    const left = performance.now()
    elsewhere.destroy()
    const patience = on_disconnect === 'grace' ? graceMs : 0
    const tookMs = (await upstreamClosed(pair.owner)) - left
    expect(tookMs).toBeGreaterThan(patience - 50)
    expect(tookMs).toBeLessThan(patience + 4_000)
    const snapshot = await fetchAll(pair.other.url + pathOf(stream), { headers: { accept: 'application/json' } })
    expect(JSON.parse(snapshot.body)).toMatchObject({ status: 'cancelled', by: 'client' })
  })

  it('are gone when their replica is, some seconds later', async () => {
    await using pair = await startPair({ SLUICE_STREAMS__GRACE_MS: '100' })
    const { owner, redis } = pair
    await using mortal = await startReplica({ ANTHROPIC_BASE_URL: owner.simulator.url, REDIS_URL: redis.url })
    const stream = await ask(owner, {})
    const elsewhere = await open(mortal.url + pathOf(stream))
    await more(elsewhere, 20)
    stream.destroy()
    await more(elsewhere, 50)
    const killed = performance.now()
    await mortal.kill()
    const tookMs = (await upstreamClosed(owner)) - killed
    expect(tookMs).toBeGreaterThan(2_000)
    expect(tookMs).toBeLessThan(8_000)
  })
})

describe.concurrent('when the replica that runs a stream dies', () => {
  it('its reader goes on elsewhere: all it had, and one end that says so, within seven seconds', async () => {
    await using pair = await startPair()
    const { other, redis, claude } = pair
    await using owner = await startReplica({ ANTHROPIC_BASE_URL: claude.url, REDIS_URL: redis.url })
    const query = new URLSearchParams({ prompt: 'hi', model: endless, max_tokens: '100000' })
    const bases = [owner.url, other.url, other.url]
    const reader = startReader({ bases, path: `/stream?${query}` })
    await eventually(() => reader.transcript.frames.length > 50, 10_000)
    const killed = performance.now()
    await owner.kill()
    const transcript = await reader.ended
    const last = transcript.frames.at(-1)
    expect(JSON.parse(last?.data ?? '')).toMatchObject({
      type: 'error',
      partial: true,
      error: { code: 'replica_lost', retryable: true },
      usage: { measured: false },
    })
    expect((last?.at ?? 0) - killed).toBeLessThan(7_000)
    const golden = await readStream({ bases: [other.url], path: `/streams/${await reader.stream}` })
    expect(judge(transcript, golden)).toEqual(judge(golden))
    expect(judge(golden).terminals_wrong).toBe(0)
    await eventually(() => claude.open === 0, 5_000)
    expect(claude.requests).toHaveLength(1)
  })
})

describe.concurrent('readers of a replica that runs their stream', () => {
  const model = sim({ text: 300, delay_ms: 10 })
  const texts = (body: string) => jsonFrames(parseFrames(body)).filter(({ type }) => type === 'text')

  it.each(['frozen', 'killed'])('see all of it while Redis is %s', async (fate) => {
    await using pair = await startPair()
    const { owner, other, redis } = pair
    const stream = await ask(owner, { model })
    await stream.until('"text"')
    const longest = watchGaps(stream)
    if (fate === 'frozen') redis.freeze()
    else await redis.kill()
    const late = await open(owner.url + pathOf(stream))
    const body = await stream.ended
    expect(expectWholeJsonStream(parseFrames(body))).toMatchObject({ type: 'done' })
    expect(texts(body)).toHaveLength(300)
    expect(await late.ended).toBe(body)
    // A command that Redis does not answer is waited for once.
    expect(longest()).toBeLessThan(2_000)
    if (fate === 'frozen') redis.thaw()
    else await redis.start()
    // Frozen it forgot nothing, and gets what it lacks; killed it has forgotten all.
    const status = fate === 'frozen' ? 200 : 404
    const elsewhere = await eventually(async () => {
      const answer = await fetchAll(other.url + pathOf(stream))
      return answer.status === status && answer
    }, 10_000)
    expect(elsewhere.body).toEqual(fate === 'frozen' ? body : expect.stringContaining('stream_not_found'))
  })
})

/** The longest time without a byte, in milliseconds. */
function watchGaps(stream: StreamResponse): () => number {
  let at = performance.now()
  let longest = 0
  stream.message.on('data', () => {
    longest = Math.max(longest, performance.now() - at)
    at = performance.now()
  })
  return () => longest
}
