import { Agent, get, type IncomingMessage } from 'node:http'
import { describe, expect, it } from 'vitest'
import { formats } from '../../src/formats/registry.ts'
import { eventually, fetchAll, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { startRedis } from '../support/redis.ts'
import { startReplica, startUpstream } from '../support/replica.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'
import { hasDoneMark } from '../support/transcript.ts'

/** Two replicas on one Redis, in front of one Claude. */
async function startPair(drainMs: number, settings: Record<string, string> = {}) {
  await using stack = new AsyncDisposableStack()
  const redis = stack.use(await startRedis())
  const env = { REDIS_URL: redis.url, SLUICE_SERVER__DRAIN_MS: String(drainMs), ...settings }
  const owner = stack.adopt(await openRig({ env }), closeAtOnce)
  const besides = { ...env, ANTHROPIC_BASE_URL: owner.simulator.url }
  const other = stack.adopt(await openRig({ env: besides }), closeAtOnce)
  const all = stack.move()
  return { redis, owner, other, claude: owner.simulator, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

/** Whatever it drains still. */
function closeAtOnce(rig: Rig): Promise<void> {
  void rig.app.shutDown()
  return rig.close()
}

const endless = sim({ text: 100_000, delay_ms: 10 })
const brief = sim({ text: 250, delay_ms: 10 })
const pathOf = ({ headers }: StreamResponse) => `/streams/${headers['x-stream-id']}`
const bodyOf = (model: string) => ({ prompt: 'hi', model, max_tokens: 100_000 })
const ask = ({ url }: Rig, model: string, key = 'k') =>
  open(`${url}/stream`, { body: bodyOf(model), headers: { 'idempotency-key': key } })

/** What a client that comes back by itself has got, and where it goes on. */
function handedOver(body: string) {
  const [, frames = '', retry] = /^(.*\n\n)retry: (\d+)\n\n$/s.exec(body) ?? []
  expect(frames).toContain('id: ')
  expect(body).not.toContain('[DONE]')
  expect(Number(retry)).toBeGreaterThanOrEqual(500)
  expect(Number(retry)).toBeLessThanOrEqual(2_000)
  return { frames, lastEventId: parseFrames(frames).at(-1)?.id ?? '' }
}

const returning = ['format=json', 'format=text', 'format=json&smooth=word']
const staying = Object.keys(formats).filter((format) => format !== 'json' && format !== 'text')

/** Reads a stream in these ways, and waits until each has some of the answer. */
async function read({ url }: Rig, stream: StreamResponse, queries: readonly string[]) {
  const readers = await Promise.all(queries.map((query) => open(`${url}${pathOf(stream)}?${query}`)))
  await Promise.all(readers.map((reader) => reader.until('lets ')))
  return readers
}

/** Goes on at another replica, and gives the whole. */
async function goOn({ url }: Rig, stream: StreamResponse, query: string, body: string): Promise<string> {
  const { frames, lastEventId } = handedOver(body)
  const headers = { 'last-event-id': lastEventId }
  const rest = await fetchAll(`${url}${pathOf(stream)}?${query}`, { headers })
  expect(rest.status).toBe(200)
  return frames + rest.body
}

/** An end that is no part of the log: an error without an id, and `[DONE]` where the format has it. */
function expectEndOfItsOwn(format: string, body: string): void {
  const frames = parseFrames(body)
  const told = frames.slice(frames.findLastIndex(({ id }) => id !== undefined) + 1)
  if (hasDoneMark(format)) expect(told.pop()).toEqual({ data: '[DONE]' })
  expect([format, JSON.stringify(told)]).toEqual([format, expect.stringContaining('shutting down')])
}

describe.concurrent('a replica that shuts down', () => {
  it('hands nobody over when nobody could take over', async () => {
    const rig = await openRig({ env: { SLUICE_SERVER__DRAIN_MS: '500' } })
    const stream = await open(`${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model: endless })}`)
    const [text] = await read(rig, stream, ['format=text'])
    const closed = rig.close()
    expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ error: { code: 'shutting_down' } })
    expect(await text?.ended).toMatch(/event: stream_error\n.*"shutting_down".*\n\ndata: \[DONE\]\n\n$/)
    await closed
  })

  it('hands over who comes back by itself; its runs, and all others, go on to their end', async () => {
    await using pair = await startPair(15_000)
    const { owner, other, claude } = pair
    const stream = await ask(owner, brief)
    await stream.until('"text"')
    const leaving = await read(owner, stream, returning)
    const remaining = await read(
      owner,
      stream,
      staying.map((format) => `format=${format}`),
    )
    const since = performance.now()
    const closed = owner.app.shutDown()
    const goneOn = await Promise.all(
      leaving.map(async (reader, index) => goOn(other, stream, returning[index] as string, await reader.ended)),
    )
    const whole = await stream.ended
    expect(expectWholeJsonStream(parseFrames(whole))).toMatchObject({ type: 'done' })
    expect(goneOn[0]).toBe(whole)
    for (const [index, query] of returning.entries()) {
      expect(goneOn[index]).toBe((await fetchAll(`${other.url}${pathOf(stream)}?${query}`)).body)
    }
    for (const [index, format] of staying.entries()) {
      const golden = await fetchAll(`${other.url}${pathOf(stream)}?format=${format}`)
      expect(await remaining[index]?.ended).toBe(golden.body)
    }
    await closed
    expect(performance.now() - since).toBeLessThan(12_000)
    expect([claude.requests.length, claude.requests[0]?.finished]).toEqual([1, true])
  })

  it('lets go of the connection too: who comes back over it would be where it was', async () => {
    await using pair = await startPair(10_000)
    const agent = new Agent({ keepAlive: true })
    const query = new URLSearchParams({ prompt: 'hi', model: brief })
    const response = await new Promise<IncomingMessage>((resolve) => {
      get(`${pair.owner.url}/stream?${query}`, { agent }, resolve)
    })
    const { socket } = response
    response.once('data', () => void pair.owner.app.shutDown())
    await eventually(() => response.complete, 5_000)
    await eventually(() => socket.destroyed || socket.readableEnded, 3_000).finally(() => agent.destroy())
  })

  it('keeps a reader that could not say where it was', async () => {
    await using pair = await startPair(15_000)
    const { redis, owner } = pair
    redis.freeze()
    // Its start waits for Redis, and no frame comes before it.
    const stream = await open(`${owner.url}/stream?${new URLSearchParams({ prompt: 'hi', model: sim({ text: 9 }) })}`)
    const closed = owner.app.shutDown()
    expect(stream.body).toBe('')
    expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({ type: 'done' })
    redis.thaw()
    await closed
  })

  it('ends what is left after drain_ms, for those who have moved away too', async () => {
    await using pair = await startPair(1_500)
    const { owner, other } = pair
    const stream = await ask(owner, endless)
    await stream.until('"text"')
    const [leaving] = await read(owner, stream, ['format=json'])
    const closed = owner.app.shutDown()
    const goneOn = goOn(other, stream, 'format=json', (await leaving?.ended) ?? '')
    const body = await stream.ended
    expect(expectWholeJsonStream(parseFrames(body))).toMatchObject({
      type: 'error',
      partial: true,
      error: { code: 'shutting_down', retryable: true },
    })
    expect(await goneOn).toBe(body)
    await closed
  })
})

describe.concurrent('a replica that shuts down with readers of another', () => {
  it('hands over who comes back by itself, and keeps the others until they are at the end', async () => {
    await using pair = await startPair(15_000)
    const { owner, other, claude } = pair
    const stream = await ask(owner, brief)
    const joined = await ask(other, brief)
    const leaving = await read(other, stream, returning)
    const remaining = await read(
      other,
      stream,
      staying.map((format) => `format=${format}`),
    )
    const since = performance.now()
    const closed = other.app.shutDown()
    for (const [index, query] of returning.entries()) {
      const whole = await goOn(owner, stream, query, (await leaving[index]?.ended) ?? '')
      expect(whole).toBe((await fetchAll(`${owner.url}${pathOf(stream)}?${query}`)).body)
    }
    expect(await joined.ended).toBe(await stream.ended)
    for (const [index, format] of staying.entries()) {
      const golden = await fetchAll(`${owner.url}${pathOf(stream)}?format=${format}`)
      expect(await remaining[index]?.ended).toBe(golden.body)
    }
    await closed
    expect(performance.now() - since).toBeLessThan(12_000)
    expect(claude.requests).toHaveLength(1)
  })

  it('waits for them no longer than drain_ms, and tells them apart from the stream', async () => {
    await using pair = await startPair(1_500)
    const { owner, other, claude } = pair
    const stream = await ask(owner, endless)
    const joined = await ask(other, endless)
    const remaining = await read(
      other,
      stream,
      staying.map((format) => `format=${format}`),
    )
    const since = performance.now()
    await other.app.shutDown()
    expect(performance.now() - since).toBeGreaterThan(1_450)
    expectEndOfItsOwn('json', await joined.ended)
    for (const [index, format] of staying.entries()) expectEndOfItsOwn(format, (await remaining[index]?.ended) ?? '')
    const seen = parseFrames(stream.body).length
    await eventually(() => parseFrames(stream.body).length > seen + 20, 10_000)
    expect(claude.requests[0]?.abortedAt).toBeUndefined()
  })

  it('lets nobody think meanwhile that they have left', async () => {
    await using pair = await startPair(15_000)
    const { owner, other, claude } = pair
    const body = { ...bodyOf(endless), on_disconnect: 'cancel' }
    const stream = await open(`${owner.url}/stream`, { body })
    const [last] = await read(other, stream, ['format=json'])
    const framesOfLast = () => parseFrames(last?.body ?? '').length
    // By then the owner has heard of it.
    await eventually(() => framesOfLast() > 60, 10_000)
    stream.destroy()
    const seen = framesOfLast()
    await eventually(() => framesOfLast() > seen + 60, 10_000)
    void other.app.shutDown()
    const { lastEventId } = handedOver((await last?.ended) ?? '')
    const { retry } = parseFrames((await last?.ended) ?? '').at(-1) as { retry?: string }
    await new Promise((resolve) => setTimeout(resolve, Number(retry)))
    const back = await open(owner.url + pathOf(stream), { headers: { 'last-event-id': lastEventId } })
    await eventually(() => back.body.length > 10_000 || back.body.includes('[DONE]'), 10_000)
    expect(back.body).not.toContain('"type":"cancelled"')
    expect(claude.requests[0]?.abortedAt).toBeUndefined()
  })
})

describe.concurrent('a process that is asked to end', () => {
  const drainMs = 1_000

  it.each(['memory', 'Redis', 'a frozen Redis'])('is gone within drain_ms and two seconds (%s)', async (store) => {
    await using redis = await startRedis()
    await using claude = await startUpstream()
    await using replica = await startReplica({
      ANTHROPIC_BASE_URL: claude.url,
      SLUICE_SERVER__DRAIN_MS: String(drainMs),
      ...(store !== 'memory' && { REDIS_URL: redis.url }),
    })
    const readers = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        n % 2
          ? open(`${replica.url}/stream`, { body: bodyOf(endless) })
          : open(`${replica.url}/stream?${new URLSearchParams({ prompt: 'hi', model: endless, max_tokens: '9999' })}`),
      ),
    )
    await Promise.all(readers.map((reader) => reader.until('"text"')))
    if (store === 'a frozen Redis') redis.freeze()
    const since = performance.now()
    expect(await replica.terminate()).toBe(0)
    const tookMs = performance.now() - since
    for (const [n, reader] of readers.entries()) {
      const body = await reader.ended
      if (n % 2 === 0 && store !== 'memory') handedOver(body)
      else expect(body).toMatch(/"shutting_down".*\n\ndata: \[DONE\]\n\n$/)
    }
    expect(tookMs).toBeLessThan(drainMs + 2_000)
    await eventually(() => claude.open === 0, 5_000)
  })
})
