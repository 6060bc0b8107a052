import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, open, parseFrames } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

const endless = sim({ text: 100_000, delay_ms: 5 })

function streams(rig: Rig, count: number, model: string) {
  return Promise.all(
    Array.from({ length: count }, () =>
      open(`${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model, max_tokens: '100000' })}`),
    ),
  )
}

describe('shutting down', () => {
  it('is not ready and takes no new runs, but lets live ones end by themselves', async () => {
    const rig = await startRig({ env: { SLUICE_SERVER__DRAIN_MS: '5000' } })
    const [stream] = await streams(rig, 1, sim({ text: 60, delay_ms: 5 }))
    await stream?.until('"text"')
    const closed = rig.app.shutDown()
    const ready = await fetchAll(`${rig.url}/readyz`)
    expect([ready.status, ready.body, ready.headers.connection]).toEqual([503, '{"status":"draining"}', 'close'])
    const refused = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi' } })
    expect([refused.status, refused.headers['retry-after'], JSON.parse(refused.body).error.code]).toEqual([
      503,
      '1',
      'shutting_down',
    ])
    const second = await open(`${rig.url}/streams/${stream?.headers['x-stream-id']}`)
    expect(expectWholeJsonStream(parseFrames((await stream?.ended) as string))['type']).toBe('done')
    expect(expectWholeJsonStream(parseFrames(await second.ended))['type']).toBe('done')
    await closed
  })

  it('ends what is left after drain_ms with a terminal frame for every reader', async () => {
    const rig = await startRig({ env: { SLUICE_SERVER__DRAIN_MS: '200' } })
    const readers = await streams(rig, 100, endless)
    await Promise.all(readers.map((reader) => reader.until('"text"')))
    const started = performance.now()
    await rig.app.shutDown()
    expect(performance.now() - started).toBeGreaterThan(190)
    expect(performance.now() - started).toBeLessThan(1_700)
    for (const reader of readers) {
      const terminal = expectWholeJsonStream(parseFrames(await reader.ended))
      expect(terminal).toMatchObject({
        type: 'error',
        partial: true,
        error: { code: 'shutting_down', retryable: true },
      })
    }
    await eventually(() => rig.simulator.open === 0)
  })

  it('waits no longer when it is asked twice', async () => {
    const rig = await startRig({ env: { SLUICE_SERVER__DRAIN_MS: '60000' } })
    const [reader] = await streams(rig, 1, endless)
    await reader?.until('"text"')
    const first = rig.app.shutDown()
    await Promise.all([first, rig.app.shutDown()])
    expect(expectWholeJsonStream(parseFrames((await reader?.ended) as string))).toMatchObject({
      error: { code: 'shutting_down' },
    })
  })
})
