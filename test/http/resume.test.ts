import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Format } from '../../src/core/format.ts'
import { formats } from '../../src/formats/registry.ts'
import { startChaos } from '../support/chaos.ts'
import { fetchAll, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { openRig, type Rig, type RigOptions, sim } from '../support/sluice.ts'
import { hasDoneMark } from '../support/transcript.ts'

const json = { accept: 'application/json' }
const unknown = 's_0123456789012345678901'

/** A second replica, before the same Claude. */
const besides = (first: Rig, env: RigOptions['env'] = {}) =>
  openRig({ env: { ANTHROPIC_BASE_URL: first.simulator.url, ...env } })

let redis: Redis
/** Where streams run, and where they are resumed. */
let places: Record<string, { owner: Rig; other: Rig }>
let stranger: Rig
beforeAll(async () => {
  redis = await startRedis()
  const env = { REDIS_URL: redis.url }
  const memory = await openRig()
  const owner = await openRig({ env })
  const other = await besides(owner, env)
  stranger = await besides(owner, { ...env, SLUICE_STORE__PREFIX: 'stranger' })
  places = { memory: { owner: memory, other: memory }, 'Redis, on the other replica': { owner, other } }
})
afterAll(async () => {
  const rigs = new Set(Object.values(places).flatMap(({ owner, other }) => [stranger, other, owner]))
  for (const rig of rigs) await rig.close()
  await redis.close()
})

type View = Record<string, string>
const queryOf = (fields: View) => new URLSearchParams(fields).toString()
const idOf = ({ headers }: Pick<StreamResponse, 'headers'>) => String(headers['x-stream-id'])
const codeOf = ({ status, body }: { status: number; body: string }) => [status, JSON.parse(body).error.code]

const neverAsked = 'a resume'

/** How often Claude was asked this. */
function calls({ simulator }: Rig, prompt: string): number {
  return simulator.requests.filter(({ body }) => JSON.stringify(body).includes(JSON.stringify(prompt))).length
}

/** All the ways to go on after frame `n` of a stream. */
function ways({ url }: Rig, id: string, n: number, view: View): [url: string, headers: Record<string, string>][] {
  const header = { 'last-event-id': `${id}.${n}` }
  return [
    [`${url}/stream?${queryOf({ prompt: neverAsked, key: 'never-used', ...view })}`, header],
    [`${url}/streams/${id}?${queryOf(view)}`, header],
    [`${url}/streams/${id}?${queryOf({ ...view, after: '999999' })}`, header],
    [`${url}/streams/${id}?${queryOf({ ...view, after: String(n) })}`, {}],
  ]
}

/** What follows after frame `n`, to the byte. */
const tailOf = (body: string, n: number) => body.split('\n\n').slice(n).join('\n\n')

/** Goes on after each frame in every way, as soon as `frames` has it, and compares with the stream that was never cut. */
async function expectExactTails(rig: Rig, stream: StreamResponse, view: View, frames: AsyncIterable<number>) {
  const id = idOf(stream)
  const resumed: Promise<[n: number, way: number, status: number, body: string]>[] = []
  for await (const n of frames) {
    for (const [way, [url, headers]] of ways(rig, id, n, view).entries()) {
      resumed.push(fetchAll(url, { headers }).then(({ status, body }) => [n, way, status, body]))
    }
  }
  const body = await stream.ended
  const last = Math.max(...parseFrames(body).map((frame) => Number(frame.id?.split('.')[1] ?? 0)))
  expect(resumed).toHaveLength(4 * (last + 1))
  for (const [n, way, status, rest] of await Promise.all(resumed)) {
    expect([n, way, status, rest]).toEqual([n, way, ...(n === last ? [204, ''] : [200, tailOf(body, n)])])
  }
}

/** 0, and the numbers of frames as they come. */
async function* numbersOf(stream: StreamResponse) {
  for (let n = 0; ; n++) {
    const frame = `id: ${idOf(stream)}.${n}\n`
    if (n > 0 && !(await stream.until(frame)).includes(frame)) return
    yield n
  }
}

const scenario = { text: 4, thinking: 2, tool: 'get_weather' }
const slow = sim({ ...scenario, delay_ms: 15 })
const quick = sim(scenario)
const plain: View[] = Object.keys(formats).map((format) => ({ format }))
const smoothed: View[] = Object.values<Format>(formats)
  .filter(({ smoothable }) => smoothable)
  .map(({ name }) => ({ format: name, smooth: 'word' }))

describe.each(['memory', 'Redis, on the other replica'])('resuming after every frame (%s)', (place) => {
  async function expectExact(view: View, when: 'live' | 'finished') {
    const { owner, other } = places[place] as (typeof places)['']
    const prompt = `${when}, ${place}, ${queryOf(view)}`
    const model = when === 'live' ? slow : quick
    const stream = await open(`${owner.url}/stream?${queryOf({ prompt, model, ...view })}`)
    expect(stream.status).toBe(200)
    if (when === 'finished') await stream.ended
    await expectExactTails(other, stream, view, numbersOf(stream))
    expect([calls(owner, prompt), calls(owner, neverAsked)]).toEqual([1, 0])
  }

  it.each(plain)('is exact while the stream is live: %o', (view) => expectExact(view, 'live'))
  it.each(plain)('is exact when the stream is finished: %o', (view) => expectExact(view, 'finished'))
  // Pacing is waiting: at the same time.
  it.concurrent.each(smoothed)('is exact while the stream is live: %o', (view) => expectExact(view, 'live'))
  it.concurrent.each(smoothed)('is exact when the stream is finished: %o', (view) => expectExact(view, 'finished'))

  it('refuses what is no position of the stream, and what it has not sent', async () => {
    const { owner, other } = places[place] as (typeof places)['']
    const finished = await open(`${owner.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 3 }) } })
    const live = await open(`${owner.url}/stream?${queryOf({ prompt: 'hi', model: sim({ text: 5, silence_at: 4 }) })}`)
    const count = parseFrames(await finished.ended).length - 1
    await live.until('"text"')
    for (const [stream, future] of [
      [finished, count + 1],
      [live, 5_000],
    ] as const) {
      const id = idOf(stream)
      const malformed = [
        'nonsense',
        id,
        `${id}.`,
        `${id}.01`,
        `${id}.-1`,
        `${id}.1.2`,
        `${id}.1e3`,
        `${id}.9${'9'.repeat(15)}`,
      ]
      const attempts = [owner, other].flatMap(({ url }) => [
        ...ways({ url } as Rig, id, future, {}).filter((_, way) => way !== 2),
        ...malformed.flatMap((position) =>
          [`${url}/stream?prompt=hi`, `${url}/streams/${id}`].map(
            (path) => [path, { 'last-event-id': position }] as const,
          ),
        ),
        [`${url}/streams/${id}`, { 'last-event-id': `${unknown}.1` }] as const,
        [`${url}/streams/${id}`, { 'last-event-id': `${idOf(stream === live ? finished : live)}.1` }] as const,
        [`${url}/streams/${id}?after=x`, {}] as const,
      ])
      for (const [url, headers] of attempts) {
        const answer = await fetchAll(url, { headers })
        expect([url, headers, ...codeOf(answer)]).toEqual([url, headers, 400, 'invalid_position'])
      }
    }
    live.destroy()
  })

  it('gives the same snapshot, of a live stream and of a finished one', async () => {
    const { owner, other } = places[place] as (typeof places)['']
    const models = [sim({ ...scenario, silence_at: 9 }), quick]
    for (const [index, model] of models.entries()) {
      const stream = await open(`${owner.url}/stream?${queryOf({ prompt: 'hi', model })}`)
      await stream.until(index === 0 ? '"sluice "' : '[DONE]')
      const snapshots = [owner, other].map(({ url }) => fetchAll(`${url}/streams/${idOf(stream)}`, { headers: json }))
      const [mine, theirs] = (await Promise.all(snapshots)).map(({ body }) => JSON.parse(body))
      expect(theirs).toEqual(mine)
      expect(theirs).toMatchObject({ id: idOf(stream), status: index === 0 ? 'running' : 'done' })
      expect(theirs.message.content.length).toBeGreaterThan(0)
      stream.destroy()
    }
  })
})

it('a stream of another deployment on the same Redis is as unknown as one that never was', async () => {
  const { owner } = places['Redis, on the other replica'] as (typeof places)['']
  const { headers } = await fetchAll(`${stranger.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 3 }) } })
  const took: Record<string, number[]> = { foreign: [], never: [] }
  const bodies = new Set<string>()
  for (let round = 0; round < 15; round++) {
    for (const [kind, id] of Object.entries({ foreign: idOf({ headers }), never: unknown })) {
      for (const [url, headers] of [...ways(owner, id, 1, {}), [`${owner.url}/streams/${id}`, json] as const]) {
        const since = performance.now()
        const answer = await fetchAll(url, { headers: { ...headers, 'x-request-id': 'same' } })
        took[kind]?.push(performance.now() - since)
        expect(codeOf(answer)).toEqual([404, 'stream_not_found'])
        bodies.add(answer.body)
      }
    }
  }
  expect(bodies.size).toBe(1)
  const [foreign, never] = Object.values(took).map((each) => each.toSorted((a, b) => a - b)[each.length >> 1] as number)
  expect(Math.abs((foreign as number) - (never as number))).toBeLessThan(5)
})

/** An owner in a process of its own whose way to Redis can be cut, and a replica that sees Redis all the time. */
async function startPair() {
  await using stack = new AsyncDisposableStack()
  const own = stack.use(await startRedis())
  const way = stack.use(await startChaos(own.port))
  const other = stack.adopt(await openRig({ env: { REDIS_URL: own.url } }), (rig) => rig.close())
  const owner = stack.use(await startReplica({ ANTHROPIC_BASE_URL: other.simulator.url, REDIS_URL: way.url }))
  const all = stack.move()
  return { way, other, owner, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

async function cutOff({ way }: Awaited<ReturnType<typeof startPair>>): Promise<void> {
  await way.refuse(true)
  way.cutAll()
}

describe.concurrent('what is lost is announced', () => {
  it('what the owner sends while it is cut off from Redis is waited for elsewhere, and comes when it is back', async () => {
    await using pair = await startPair()
    const model = sim({ text: 300, delay_ms: 10 })
    const stream = await open(`${pair.owner.url}/stream?${queryOf({ prompt: 'hi', model })}`)
    await stream.until('.20\n')
    await cutOff(pair)
    const seen = parseFrames(stream.body).length + 10
    await stream.until(`.${seen}\n`)
    const resumed = await open(`${pair.other.url}/streams/${idOf(stream)}?after=${seen}`)
    await pair.way.refuse(false)
    const rest = tailOf(await stream.ended, seen)
    expect([resumed.status, (await resumed.ended) === rest]).toEqual([200, true])
  })

  it('what a dead owner had sent and Redis never got is 410 to who has it, and the rest ends for who has not', async () => {
    await using pair = await startPair()
    const model = sim({ text: 5_000, delay_ms: 5 })
    const stream = await open(`${pair.owner.url}/stream?${queryOf({ prompt: 'hi', model, max_tokens: '5000' })}`)
    await stream.until('.20\n')
    const follower = await open(`${pair.other.url}/streams/${idOf(stream)}`)
    await cutOff(pair)
    await stream.until(`.${parseFrames(stream.body).length + 50}\n`)
    await pair.owner.kill()
    await stream.ended
    const kept = parseFrames(await follower.ended)
    expect(kept.slice(0, -2)).toEqual(parseFrames(stream.body).slice(0, kept.length - 2))
    expect(JSON.parse(kept.at(-2)?.data ?? '')).toMatchObject({ error: { code: 'replica_lost' }, partial: true })
    for (const [url, headers] of ways(pair.other, idOf(stream), kept.length + 5, {}).filter((_, way) => way !== 2)) {
      expect(codeOf(await fetchAll(url, { headers }))).toEqual([410, 'resume_unavailable'])
    }
    expect((await fetchAll(`${pair.other.url}/streams/${idOf(stream)}?after=${kept.length - 1}`)).status).toBe(204)
    expect(pair.other.simulator.requests).toHaveLength(1)
  })

  it('a stream that vanishes from Redis ends in-band for its followers, in a frame that is no position', async () => {
    await using stack = new AsyncDisposableStack()
    const own = stack.use(await startRedis())
    const env = { REDIS_URL: own.url }
    const owner = stack.adopt(await openRig({ env }), (rig) => rig.close())
    const other = stack.adopt(await besides(owner, env), (rig) => rig.close())
    const model = sim({ text: 200, delay_ms: 10 })
    const stream = await open(`${owner.url}/stream?${queryOf({ prompt: 'hi', model })}`)
    const path = `/streams/${idOf(stream)}`
    const names = Object.keys(formats)
    const followers = await Promise.all(names.map((format) => open(`${other.url}${path}?format=${format}`)))
    await Promise.all(followers.map((follower) => follower.until('lets ')))
    await own.command('FLUSHALL')
    for (const [index, format] of names.entries()) {
      const frames = parseFrames((await followers[index]?.ended) ?? '')
      const after = frames.findLastIndex(({ id }) => id !== undefined) + 1
      const told = frames.slice(after)
      expect(after).toBeGreaterThan(3)
      if (hasDoneMark(format)) expect(told.pop()).toEqual({ data: '[DONE]' })
      expect([format, JSON.stringify(told)]).toEqual([format, expect.stringContaining('no longer held')])
      // An EventSource that nobody closed comes back now: only a status makes it stop.
      const header = { 'last-event-id': frames[after - 1]?.id ?? '' }
      const again = await fetchAll(`${other.url}/stream?prompt=hi&format=${format}`, { headers: header })
      expect([format, again.status]).toEqual([format, 404])
    }
    // Its own readers have all of it.
    expect(parseFrames(await stream.ended).at(-2)?.data).toContain('"type":"done"')
    expect((await fetchAll(`${owner.url}${path}`)).body).toBe(stream.body)
    expect(owner.simulator.requests).toHaveLength(1)
  })
})
