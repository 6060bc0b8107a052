import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, open } from '../support/client.ts'
import { startRig } from '../support/sluice.ts'

const id = 'self-test-1'
const stateOf = async (url: string) => JSON.parse((await fetchAll(`${url}/self-test/${id}`)).body)

describe('the self-test', () => {
  it('is a stream like any other, without Claude', async () => {
    const rig = await startRig()
    const sent = { 'last-event-id': 'a.7', origin: rig.url, 'idempotency-key': 'k' }
    const { status, headers, frames } = await fetchAll(`${rig.url}/self-test?id=${id}&frames=3&interval_ms=5`, {
      headers: sent,
    })
    expect(status).toBe(200)
    expect(headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-stream-id': id,
    })
    expect(frames.map((frame) => frame.id)).toEqual([`${id}.1`, `${id}.2`, `${id}.3`, `${id}.4`, undefined])
    expect(frames.at(-1)?.data).toBe('[DONE]')
    const [hello, ...ticks] = frames.slice(0, -1).map(({ data }) => JSON.parse(data ?? ''))
    expect(hello).toMatchObject({ type: 'hello', heartbeat_ms: 15_000, http: '1.1', seen: sent })
    expect(ticks.map(({ n }) => n)).toEqual([1, 2, 3])
    const times = ticks.map(({ sent_ms }) => sent_ms)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect(rig.simulator.requests).toHaveLength(0)
    expect(await stateOf(rig.url)).toEqual({ state: 'sent' })
  })

  it('leaves out on demand what asks proxies not to buffer', async () => {
    const rig = await startRig()
    const { headers } = await fetchAll(`${rig.url}/self-test?id=${id}&frames=1&interval_ms=5&bare=true`)
    expect(headers).not.toHaveProperty('x-accel-buffering')
    expect(headers['cache-control']).toBe('no-cache, no-transform')
  })

  it('knows whether its reader stayed', async () => {
    const rig = await startRig()
    const stream = await open(`${rig.url}/self-test?id=${id}&frames=1&idle_ms=60000`)
    await stream.until('hello')
    expect(await stateOf(rig.url)).toEqual({ state: 'open' })
    stream.destroy()
    await eventually(async () => (await stateOf(rig.url)).state === 'left', 1_000)
  })

  it('holds no more than a few at a time, and remembers no more than some', async () => {
    const rig = await startRig()
    const streams = await Promise.all(
      Array.from({ length: 32 }, (_, n) => open(`${rig.url}/self-test?id=self-test-open-${n}&idle_ms=60000&frames=1`)),
    )
    expect((await fetchAll(`${rig.url}/self-test?id=self-test-more`)).status).toBe(503)
    for (const stream of streams) stream.destroy()
    const ask = (n: number) => fetchAll(`${rig.url}/self-test?id=self-test-end-${n}&frames=1&interval_ms=5`)
    await eventually(async () => (await ask(0)).status === 200, 1_000)
    for (let n = 1; n <= 256; n += 16) await Promise.all(Array.from({ length: 16 }, (_, more) => ask(n + more)))
    expect((await fetchAll(`${rig.url}/self-test/self-test-end-0`)).status).toBe(404)
    expect((await fetchAll(`${rig.url}/self-test/self-test-end-256`)).status).toBe(200)
  })

  it.each([
    ['no id', 'frames=1'],
    ['a short id', 'id=a'],
    ['an id with a line break', 'id=self-test%0Adata:x'],
    ['no end', `id=${id}&frames=100000`],
    ['an endless silence', `id=${id}&idle_ms=999999999`],
    ['what it does not know', `id=${id}&model=x`],
  ])('refuses %s', async (_, query) => {
    const rig = await startRig()
    expect((await fetchAll(`${rig.url}/self-test?${query}`)).status).toBe(400)
  })
})
