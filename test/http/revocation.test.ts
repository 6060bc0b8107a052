import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Holder, holder } from '../support/access.ts'
import { eventually, fetchAll, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { startRedis } from '../support/redis.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

const [alice, bob] = [holder('alice'), holder('bob')]

/** A Sluice whose keys are in a file. */
async function startWithFile(holders: readonly Holder[], env: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-access-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'keys')
  const write = (...all: readonly Holder[]) =>
    writeFileSync(path, all.length > 0 ? all.map(({ line }) => line).join('') : '[]')
  write(...holders)
  const rig = await startRig({ env: { SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS_FILE: path, ...env } })
  return { rig, path, write }
}

const endless = sim({ text: 100_000, delay_ms: 10 })
const messages = [{ role: 'user', content: 'hi' }]
const begin = async ({ url }: Rig, { bearer }: Holder, more: object = {}) => {
  const body = { prompt: 'hi', model: endless, max_tokens: 100_000, ...more }
  const stream = await open(`${url}/stream`, { headers: bearer, body })
  await stream.until('"text"')
  return stream
}
const readAs = ({ url }: Rig, { bearer }: Holder, stream: StreamResponse) =>
  open(`${url}/streams/${stream.headers['x-stream-id']}`, { headers: bearer })
const statusOf = async ({ url }: Rig, { bearer }: Holder) =>
  (await fetchAll(`${url}/openapi.json`, { headers: bearer })).status

const revoked = { code: 'access_revoked', message: 'The key is not valid any more.', retryable: false }

/** An error, `[DONE]`, and nothing more. */
function expectCut(body: string): void {
  const frames = parseFrames(body)
  expect(JSON.parse(frames.at(-2)?.data ?? '{}')).toMatchObject({ type: 'error', error: revoked })
  expect(frames.at(-1)?.data).toBe('[DONE]')
}

async function expectGoingOn(stream: StreamResponse): Promise<void> {
  const had = stream.body.length
  await eventually(() => stream.body.length > had)
}

describe('a key that is gone from its file', () => {
  it('is refused at once, and all that its holder gets and has begun is cut off, in every format', async () => {
    const { rig, write } = await startWithFile([alice, bob])
    const asks: [path: string, body: object, end: RegExp][] = [
      ['/stream', { prompt: 'hi' }, /"code":"access_revoked"[^\n]*\n\ndata: \[DONE\]\n\n$/],
      [
        '/stream',
        { prompt: 'hi', format: 'text' },
        /event: stream_error\n[^\n]*access_revoked[^\n]*\n\ndata: \[DONE\]\n\n$/,
      ],
      ['/v1/messages', { messages, max_tokens: 9_999, stream: true }, /"type":"authentication_error"[^\n]*\n\n$/],
      ['/v1/chat/completions', { messages, stream: true }, /"code":"access_revoked"[^\n]*\n\ndata: \[DONE\]\n\n$/],
    ]
    const streams = await Promise.all(
      asks.map(async ([path, body]) => {
        const stream = await open(rig.url + path, { headers: alice.bearer, body: { model: endless, ...body } })
        await eventually(() => stream.body.length > 500, 5_000)
        return stream
      }),
    )
    const whole = fetchAll(`${rig.url}/v1/messages`, {
      headers: alice.bearer,
      body: { model: endless, max_tokens: 9_999, messages },
    })
    const waiting = fetchAll(`${rig.url}/stream`, {
      headers: alice.bearer,
      body: { prompt: 'hi', model: sim({ headers_ms: 60_000 }) },
    })
    const detached = await fetchAll(`${rig.url}/stream`, {
      headers: { ...alice.bearer, accept: 'application/json' },
      body: { prompt: 'hi', model: endless },
    })
    expect(detached.status).toBe(201)
    await eventually(() => rig.simulator.requests.length === 7)
    const other = await begin(rig, bob)
    expect(await statusOf(rig, alice)).toBe(200)

    write(bob)
    rig.app.reloadFiles()
    expect(await statusOf(rig, alice)).toBe(401)
    for (const [n, stream] of streams.entries()) expect(await stream.ended).toMatch(asks[n]?.[2] as RegExp)
    expect([(await whole).status, JSON.parse((await whole).body).error.type]).toEqual([401, 'authentication_error'])
    // Its response may have begun before, when there was nothing to wait for any more.
    expect((await waiting).body).toContain('access_revoked')
    await eventually(() => rig.app.streams.live === 1)
    await eventually(() => rig.simulator.open === 1)
    const ends = rig.log.filter(({ code }) => code === 'access_revoked')
    expect(ends.map(({ principal }) => principal)).toEqual(Array.from({ length: 7 }, () => 'alice'))
    await expectGoingOn(other)
    other.destroy()
  })

  it('is noticed without being told', async () => {
    const { rig, write } = await startWithFile([alice, bob])
    const stream = await begin(rig, alice)
    write(bob)
    await eventually(async () => (await statusOf(rig, alice)) === 401, 10_000)
    expectCut(await stream.ended)
    write(alice, bob)
    await eventually(async () => (await statusOf(rig, alice)) === 200, 10_000)
    // What was cut off is over, and hers again.
    const again = await readAs(rig, alice, stream)
    expectCut(await again.ended)
  })

  it('begins nothing that lasts by a request that was let in before and comes to its end after', async () => {
    const { rig, write } = await startWithFile([alice])
    const body = JSON.stringify({ prompt: 'hi', model: endless })
    const request = httpRequest(`${rig.url}/stream`, {
      method: 'POST',
      headers: { ...alice.bearer, 'content-type': 'application/json', 'content-length': body.length },
    })
    request.write(body.slice(0, 5))
    // A request of its own, so that the one before it has been let in for sure.
    expect(await statusOf(rig, alice)).toBe(200)
    write()
    rig.app.reloadFiles()
    request.end(body.slice(5))
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.resume()
    await once(response, 'close')
    await eventually(() => rig.log.find(({ code }) => code === 'access_revoked'), 5_000)
    expect([rig.app.streams.live, rig.simulator.requests.length]).toEqual([0, 1])
  })

  it('is cut off alone when its principal has another, and what that one began goes on', async () => {
    const next = holder('alice')
    const { rig, write } = await startWithFile([alice, next])
    const stream = await begin(rig, alice)
    const reader = await readAs(rig, next, stream)
    await expectGoingOn(reader)
    write(next)
    rig.app.reloadFiles()
    expectCut(await stream.ended)
    await expectGoingOn(reader)
    reader.destroy()
  })

  it('loses what it reads on another replica, though the run is still let go on there', async () => {
    await using redis = await startRedis()
    const env = { REDIS_URL: redis.url }
    const { rig: owner } = await startWithFile([alice], env)
    const besides = { ...env, ANTHROPIC_BASE_URL: owner.simulator.url }
    const { rig: other, write } = await startWithFile([alice], besides)
    const stream = await begin(owner, alice)
    const reader = await readAs(other, alice, stream)
    await expectGoingOn(reader)
    write()
    other.app.reloadFiles()
    expectCut(await reader.ended)
    await expectGoingOn(stream)
    stream.destroy()
  })

  it('stays valid when the file breaks, which is told', async () => {
    const { rig, path } = await startWithFile([alice])
    const stream = await begin(rig, alice)
    writeFileSync(path, `alice ${alice.key}`)
    rig.app.reloadFiles()
    rmSync(path)
    rig.app.reloadFiles()
    expect(await statusOf(rig, alice)).toBe(200)
    await expectGoingOn(stream)
    const told = rig.log.filter(({ level }) => level === 'error')
    expect(told.length).toBeGreaterThanOrEqual(2)
    expect(JSON.stringify(told)).not.toContain(alice.key)
    stream.destroy()
  })
})
