import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { errorTable, SluiceError } from '../../../src/core/errors.ts'
import type { RunReport } from '../../../src/core/report.ts'
import { catalogue } from '../../../src/telemetry/metrics/catalogue.ts'
import type { Sources } from '../../../src/telemetry/metrics/gauges.ts'
import { exposition, Metrics } from '../../../src/telemetry/metrics/metrics.ts'
import { failed } from '../../support/logs.ts'
import { namesOf, type Series, seriesOf } from '../../support/metrics.ts'
import { attempt, report } from '../../support/reports.ts'

const quiet: Sources = {
  streams: { live: 3, begun: 7, draining: false, list: () => [] },
  readers: { open: [{ lag: { events: 2, bytes: 0 } }, { lag: { events: 1, bytes: 500 } }], collecting: 1 },
  pressure: { reason: 'heap', loop: { turnMs: 1.5, utilization: 0.25 } },
  keys: 2,
  restingKeys: () => ({ upstream_rate_limited: 1 }),
  extraCallsLeft: () => 9.8,
  storeHealth: () => ({ up: false, streams: { through: 1, behind: 2, apart: 0, fenced: 0 }, unsentEvents: 30 }),
}

const newMetrics = (worker?: number) => new Metrics(quiet, { models: new Set(['claude-test', 'claude-b']), worker })
const read = async (...all: Metrics[]): Promise<Series> =>
  seriesOf(await exposition(await Promise.all(all.map((each) => each.counted()))))

const chat = 'gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="claude-test"'

/** A run that was retried, fell back, was gone on with, and failed at last. */
const troubled: RunReport = {
  ...report,
  terminal: { ...failed, usage: { input_tokens: 1, output_tokens: 2, cache_read_input_tokens: 3 } },
  failure: new SluiceError('upstream_stalled', { reason: 'silence_ms' }),
  costUsd: null,
  tries: [
    { ...attempt, contentAt: undefined, failure: new SluiceError('upstream_overloaded', { reason: '529' }) },
    { ...attempt, kind: 'retry', after: 'upstream_overloaded', failure: new SluiceError('upstream_overloaded') },
    { ...attempt, kind: 'fallback', model: 'claude-b', after: 'upstream_overloaded' },
    {
      ...attempt,
      kind: 'quote',
      after: 'upstream_truncated',
      failure: new SluiceError('upstream_stalled', { reason: 'silence_ms' }),
    },
    { ...attempt, kind: 'step' },
  ],
}

describe('metrics of a run', () => {
  it('tell of one that went well', async () => {
    const metrics = newMetrics()
    metrics.ended(report)
    const series = await read(metrics)
    const expected = {
      'sluice_streams_ended_total{reason="end_turn",status="done"}': 1,
      [`gen_ai_server_request_duration_seconds_sum{${chat}}`]: 2,
      [`gen_ai_server_request_duration_seconds_bucket{${chat},le="1.28"}`]: 0,
      [`gen_ai_server_request_duration_seconds_bucket{${chat},le="2.56"}`]: 1,
      [`gen_ai_server_time_to_first_token_seconds_sum{${chat}}`]: 0.5,
      [`gen_ai_server_time_per_output_token_seconds_sum{${chat}}`]: 0.05,
      [`gen_ai_client_operation_duration_seconds_count{${chat}}`]: 1,
      'sluice_tokens_total{gen_ai_request_model="claude-test",kind="output"}': 31,
      'sluice_cost_usd_total{gen_ai_request_model="claude-test"}': 0.25,
    }
    for (const [key, value] of Object.entries(expected)) expect(series.get(key), key).toBe(value)
  })

  it('tell of each call, each clock and each way to go on', async () => {
    const metrics = newMetrics()
    metrics.ended(troubled)
    metrics.ended({ ...report, failure: new SluiceError('total_timeout', { reason: 'total_ms' }), terminal: failed })
    const series = await read(metrics)
    const expected = {
      'sluice_streams_ended_total{reason="upstream_truncated",status="error"}': 2,
      'sluice_clocks_fired_total{clock="silence_ms"}': 1,
      'sluice_clocks_fired_total{clock="total_ms"}': 1,
      'sluice_clocks_fired_total{clock="headers_ms"}': 0,
      'sluice_extra_calls_total{kind="retry",reason="upstream_overloaded"}': 1,
      'sluice_extra_calls_total{kind="fallback",reason="upstream_overloaded"}': 1,
      'sluice_extra_calls_total{kind="continuation",reason="upstream_truncated"}': 1,
      [`gen_ai_client_operation_duration_seconds_count{error_type="upstream_overloaded",${chat}}`]: 2,
      'sluice_streams_unpriced_total{gen_ai_request_model="claude-test"}': 1,
      'sluice_tokens_total{gen_ai_request_model="claude-test",kind="cache_read"}': 3,
      // Read from the cache is input as well.
      [`gen_ai_client_token_usage_sum{${chat},gen_ai_token_type="input"}`]: 5,
    }
    for (const [key, value] of Object.entries(expected)) expect(series.get(key), key).toBe(value)
  })

  it('are few, however many names of models clients make up', async () => {
    const metrics = newMetrics()
    metrics.ended(troubled)
    const before = (await read(metrics)).size
    for (let n = 0; n < 10_000; n++) {
      const model = `made-up-${n}`
      metrics.ended({ ...report, model, tries: [{ ...attempt, model }], terminal: { ...failed, type: 'error' } })
    }
    const series = await read(metrics)
    expect(series.size - before).toBeLessThan(120)
    expect([...series.keys()].some((key) => key.includes('made-up'))).toBe(false)
    expect(series.get('sluice_cost_usd_total{gen_ai_request_model="other"}')).toBe(2_500)
  })

  it('do not take a stop reason of tomorrow, or of a stranger, for a label', async () => {
    const metrics = newMetrics()
    const terminal = { ...report.terminal, type: 'done', stop_reason: 'a "new" one' } as RunReport['terminal']
    metrics.ended({ ...report, terminal })
    expect((await read(metrics)).get('sluice_streams_ended_total{reason="other",status="done"}')).toBe(1)
  })
})

it('reads how things stand when it is asked', async () => {
  const series = await read(newMetrics())
  const expected = {
    sluice_streams_live: 3,
    sluice_streams_started_total: 7,
    sluice_readers: 3,
    sluice_readers_lagging: 1,
    sluice_reader_lag_events: 2,
    sluice_reader_lag_bytes: 500,
    'sluice_pressure{reason="heap"}': 1,
    'sluice_pressure{reason="memory"}': 0,
    sluice_event_loop_turn_seconds: 0.0015,
    sluice_extra_calls_left: 9,
    'sluice_api_keys_resting{reason="upstream_rate_limited"}': 1,
    'sluice_api_keys_resting{reason="upstream_auth"}': 0,
    sluice_redis_up: 0,
    'sluice_redis_streams{state="behind"}': 2,
    sluice_redis_unsent_events: 30,
  }
  for (const [key, value] of Object.entries(expected)) expect(series.get(key), key).toBe(value)
})

it('counts why requests are refused', async () => {
  const metrics = newMetrics()
  metrics.answered('POST', '/stream', 503, new SluiceError('too_many_streams', { reason: 'memory' }))
  metrics.answered('POST', '/stream', 503, new SluiceError('upstream_unreachable', { reason: 'ECONNREFUSED' }))
  metrics.answered('GET', undefined, 404, new SluiceError('route_not_found'))
  const series = await read(metrics)
  expect(series.get('sluice_http_errors_total{code="too_many_streams",reason="memory"}')).toBe(1)
  expect(series.get('sluice_http_errors_total{code="upstream_unreachable"}')).toBe(1)
  expect(series.get('sluice_http_requests_total{method="GET",route="none",status="404"}')).toBe(1)
})

it('has the series of every error from the start: a first one is a rise from 0', async () => {
  const series = await read(newMetrics())
  for (const code of Object.keys(errorTable)) {
    expect(series.get(`sluice_streams_ended_total{reason="${code}",status="error"}`)).toBe(0)
    expect(series.get(`sluice_http_errors_total{code="${code}"}`)).toBe(0)
  }
})

it('exposes all that is in the catalogue, and nothing else that begins like it', async () => {
  const metrics = newMetrics()
  metrics.ended(report)
  metrics.ended(troubled)
  metrics.answered('GET', '/healthz', 200, undefined)
  metrics.addedLatency(0.07)
  metrics.exported('exported', 2)
  const exposed = [...namesOf(await read(metrics))].filter((name) => /^(sluice|gen_ai)_/.test(name))
  expect(exposed.sort()).toEqual(Object.keys(catalogue).sort())
})

it('tells of several workers side by side, adding nothing up', async () => {
  const [first, second] = [newMetrics(1), newMetrics(2)]
  first.ended(report)
  for (let n = 0; n < 2; n++) second.ended(report)
  // As it goes between processes.
  const counted = JSON.parse(JSON.stringify([await first.counted(), await second.counted()]))
  const text = await exposition(counted)
  const series = seriesOf(text)
  const ended = (worker: number) =>
    series.get(`sluice_streams_ended_total{reason="end_turn",status="done",worker="${worker}"}`)
  expect([ended(1), ended(2)]).toEqual([1, 2])
  expect(series.get('process_start_time_seconds{worker="2"}')).toBeGreaterThan(0)
  expect(text.match(/^# TYPE sluice_streams_ended_total/gm)).toHaveLength(1)
})

const root = join(import.meta.dirname, '../../..')
const processNames = new Set([
  'process_resident_memory_bytes',
  'process_cpu_seconds_total',
  'process_start_time_seconds',
])

/** Names of metrics in what Grafana and Prometheus are told, `up` aside. */
function namesIn(text: string): string[] {
  const names = [...text.matchAll(/\b(?:sluice|gen_ai|process|nodejs)_[a-z_]+\b/g)].map(([name]) => name)
  const labels = new Set(Object.values(catalogue).flatMap((each) => ('labels' in each ? [...each.labels] : [])))
  return names.map((name) => name.replace(/_(bucket|sum|count)$/, '')).filter((name) => !labels.has(name as never))
}

it.each([
  ['config/grafana-dashboard.json', 25],
  ['config/prometheus/rules.yaml', 9],
])('%s names metrics that there are', (file, least) => {
  const names = new Set(namesIn(readFileSync(join(root, file), 'utf8')))
  expect(names.size).toBeGreaterThanOrEqual(least)
  expect([...names].filter((name) => !Object.hasOwn(catalogue, name) && !processNames.has(name))).toEqual([])
})
