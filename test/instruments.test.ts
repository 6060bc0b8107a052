import { expect, it, vi } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { Instruments, type Observed } from '../src/instruments.ts'
import { createLogger } from '../src/telemetry/logger.ts'
import { seriesOf } from './support/metrics.ts'
import { report } from './support/reports.ts'

const observed = {
  streams: { live: 2, begun: 3, draining: false, list: () => [{ outputTokens: 10 }, { outputTokens: 5 }] },
  readers: { open: [], any: undefined, collecting: 1 },
  pressure: { reason: undefined, loop: { turnMs: 2, utilization: 0.5 } },
  keys: 1,
  restingKeys: () => ({}),
  extraCallsLeft: () => 10,
  storeHealth: () => undefined,
} as unknown as Observed

const open = (env: Record<string, string> = {}) =>
  Instruments.open(loadConfig(env), createLogger('silent', { write() {} }), undefined)

it('closes a bucket of the history every ten seconds, with or without metrics', async () => {
  const instruments = await open({ SLUICE_TELEMETRY__METRICS: 'false' })
  vi.useFakeTimers()
  try {
    instruments.observe(observed)
    instruments.ended(report)
    vi.advanceTimersByTime(20_000)
    const [first, second, ...others] = instruments.history.recent()
    expect(others).toEqual([])
    expect(first).toMatchObject({ live: 2, begun: 3, done: 1, readers: 1, outputTokens: 31 + 15, loopTurnMs: 2 })
    expect(first?.memoryBytes).toBeGreaterThan(1e7)
    expect(second).toMatchObject({ begun: 0, done: 0, outputTokens: 0 })
    await instruments.close()
    vi.advanceTimersByTime(60_000)
    expect(instruments.history.recent()).toHaveLength(2)
  } finally {
    vi.useRealTimers()
  }
  expect(instruments.exposition).toBeUndefined()
})

it('has the models that the settings name as labels, those of presets among them', async () => {
  const instruments = await open({
    SLUICE_UPSTREAM__FALLBACK_MODELS: 'claude-fallback',
    SLUICE_PRESETS__SUPPORT: JSON.stringify({ model: 'claude-preset' }),
  })
  instruments.observe(observed)
  const models = ['claude-opus-5-5', 'claude-fallback', 'claude-preset', 'claude-made-up']
  for (const model of models) instruments.ended({ ...report, model })
  const series = seriesOf((await instruments.exposition?.text()) ?? '')
  const cost = (model: string) => series.get(`sluice_cost_usd_total{gen_ai_request_model="${model}"}`)
  expect([...models, 'other'].map(cost)).toEqual([0.25, 0.25, 0.25, undefined, 0.25])
  await instruments.close()
})
