import { createRequire } from 'node:module'
import { AggregatorRegistry, Registry } from 'prom-client'
import { errorTable, type SluiceError } from '../../core/errors.ts'
import type { TerminalEvent } from '../../core/events.ts'
import type { AttemptReport, RunReport } from '../../core/report.ts'
import {
  catalogue,
  clocks,
  type Described,
  endings,
  isClock,
  type MetricName,
  type NameOf,
  other,
  refusals,
  stopReasonLabel,
} from './catalogue.ts'
import { readings, type Sources } from './gauges.ts'
import { Count, Distribution, Family, type MetricJson } from './tallies.ts'

/**
 * Of prom-client's own metrics those that cost nothing between scrapes. Its event loop lag wakes the process a hundred
 * times a second, and listing all handles is slow where they are thousands.
 */
const processMetrics = [
  'processCpuTotal',
  'processStartTime',
  'osMemoryHeap',
  'processOpenFileDescriptors',
  'processMaxFileDescriptors',
  'heapSizeAndUsed',
  'version',
  'gc',
]

export interface MetricsOptions {
  /** Whose names may be a label: clients choose models, and each name would be series that stay. */
  readonly models: ReadonlySet<string>
  /** Which of several workers this is. */
  readonly worker?: number | undefined
}

/** What one process has counted, as other processes get it. */
export type Counted = object

/** Says of all that it asks Claude for a message: the conventions want it said. */
const operation = { gen_ai_operation_name: 'chat', gen_ai_provider_name: 'anthropic' }

const counter = (name: NameOf<'counter'>) => new Family(name, catalogue[name], () => new Count())
function histogram(name: NameOf<'histogram'>, constant = {}): Family<Distribution> {
  return new Family(name, catalogue[name], () => new Distribution(catalogue[name].buckets), constant)
}

/** Counts what ends and what fails; everything else is read when somebody asks. */
export class Metrics {
  readonly #process = new Registry()
  readonly #models: ReadonlySet<string>
  readonly #worker: number | undefined
  readonly #sources: Sources
  readonly #durations = histogram('gen_ai_server_request_duration_seconds', operation)
  readonly #firstTokens = histogram('gen_ai_server_time_to_first_token_seconds', operation)
  readonly #perToken = histogram('gen_ai_server_time_per_output_token_seconds', operation)
  readonly #calls = histogram('gen_ai_client_operation_duration_seconds', operation)
  readonly #firstChunks = histogram('gen_ai_client_operation_time_to_first_chunk_seconds', operation)
  readonly #usage = histogram('gen_ai_client_token_usage', operation)
  readonly #tokens = counter('sluice_tokens_total')
  readonly #cost = counter('sluice_cost_usd_total')
  readonly #unpriced = counter('sluice_streams_unpriced_total')
  readonly #ended = counter('sluice_streams_ended_total')
  readonly #recovered = counter('sluice_streams_recovered_total')
  readonly #extraCalls = counter('sluice_extra_calls_total')
  readonly #clocks = counter('sluice_clocks_fired_total')
  readonly #requests = counter('sluice_http_requests_total')
  readonly #errors = counter('sluice_http_errors_total')
  readonly #added = histogram('sluice_added_latency_seconds')
  readonly #spans = counter('sluice_spans_total')
  readonly #families: readonly Family<Count | Distribution>[] = [
    ...[this.#durations, this.#firstTokens, this.#perToken, this.#calls, this.#firstChunks, this.#usage, this.#added],
    ...[this.#tokens, this.#cost, this.#unpriced, this.#ended, this.#recovered, this.#extraCalls, this.#clocks],
    ...[this.#requests, this.#errors, this.#spans],
  ]

  constructor(sources: Sources, { models, worker }: MetricsOptions) {
    this.#sources = sources
    this.#models = models
    this.#worker = worker
    const load = createRequire(import.meta.url)
    for (const name of processMetrics) {
      const collect = load(`prom-client/lib/metrics/${name}.js`) as (registry: Registry, config: object) => void
      collect(this.#process, {})
    }
    this.#begin()
  }

  /** Series that are there before anything has happened: a first count would be no rise otherwise. */
  #begin(): void {
    for (const [status, reason] of endings) this.#ended.of(status, reason)
    for (const clock of clocks) this.#clocks.of(clock)
    for (const code of Object.keys(errorTable)) this.#errors.of(code)
    for (const reason of refusals) this.#errors.of('too_many_streams', reason)
    for (const single of [this.#recovered, this.#added]) single.of()
  }

  /** A run has ended. */
  ended(report: RunReport): void {
    const { terminal, timing, failure } = report
    const model = this.#labelOf(report.model)
    const seconds = (report.endedAt - report.startedAt) / 1_000
    this.#durations.of(model, terminal.type === 'error' ? terminal.error.code : '').observe(seconds)
    if (timing.ttft_ms !== null) {
      this.#firstTokens.of(model).observe(timing.ttft_ms / 1_000)
      const more = terminal.type === 'done' ? terminal.usage.output_tokens - 1 : 0
      if (more > 0) this.#perToken.of(model).observe(Math.max(0, seconds - timing.ttft_ms / 1_000) / more)
    }
    this.#ended.of(terminal.type, reasonOf(terminal)).add()
    if (terminal.type === 'done' && terminal.recovered > 0) this.#recovered.of().add()
    if (failure?.reason === 'total_ms') this.#clocks.of(failure.reason).add()
    this.#charge(model, report)
    for (const attempt of report.tries) this.#attempted(attempt)
  }

  #charge(model: string, { terminal, costUsd }: RunReport): void {
    const { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens } = terminal.usage
    const read = cache_read_input_tokens ?? 0
    const written = cache_creation_input_tokens ?? 0
    const input = input_tokens + read + written
    this.#tokens.of(model, 'input').add(input_tokens)
    this.#tokens.of(model, 'output').add(output_tokens)
    this.#tokens.of(model, 'cache_read').add(read)
    this.#tokens.of(model, 'cache_write').add(written)
    if (input > 0) this.#usage.of(model, 'input').observe(input)
    if (output_tokens > 0) this.#usage.of(model, 'output').observe(output_tokens)
    if (costUsd === null) this.#unpriced.of(model).add()
    else this.#cost.of(model).add(costUsd)
  }

  #attempted({ kind, model, after, sentAt, contentAt, endedAt, failure }: AttemptReport): void {
    if (kind !== 'first' && kind !== 'step') {
      this.#extraCalls.of(kind === 'prefill' || kind === 'quote' ? 'continuation' : kind, after ?? other).add()
    }
    if (isClock(failure?.reason)) this.#clocks.of(failure.reason).add()
    const label = this.#labelOf(model)
    this.#calls.of(label, failure?.code).observe((endedAt - sentAt) / 1_000)
    if (contentAt !== undefined) this.#firstChunks.of(label).observe((contentAt - sentAt) / 1_000)
  }

  /** @param route its pattern, `undefined` where there is none: what a client wrote is no label */
  answered(method: string, route: string | undefined, status: number, failure: SluiceError | undefined): void {
    this.#requests.of(method, route ?? 'none', String(status)).add()
    if (failure === undefined) return
    const { code, reason = '' } = failure
    this.#errors.of(code, code === 'too_many_streams' && isRefusal(reason) ? reason : '').add()
  }

  addedLatency(ms: number): void {
    this.#added.of().observe(ms / 1_000)
  }

  exported(result: 'exported' | 'failed' | 'dropped', spans: number): void {
    this.#spans.of(result).add(spans)
  }

  /** Everything as it is now, to be sent to another process. */
  async counted(): Promise<Counted[]> {
    const all = [
      ...(await this.#process.getMetricsAsJSON()),
      ...this.#families.map((family) => family.json()).filter(({ values }) => values.length > 0),
      ...metricsOf(readings(this.#sources)),
    ]
    // Workers tell of themselves under a label of their own, so that nothing of theirs is ever added up.
    const label = this.#worker === undefined ? {} : { worker: String(this.#worker) }
    return all.map((metric) => ({
      ...metric,
      aggregator: 'sum',
      values: (metric.values as MetricJson['values']).map((each) => ({
        ...each,
        labels: { ...each.labels, ...label },
      })),
    }))
  }

  #labelOf(model: string | null): string {
    return model !== null && this.#models.has(model) ? model : other
  }
}

/** What Prometheus reads, of one process or of several. */
export const contentType = Registry.PROMETHEUS_CONTENT_TYPE
export function exposition(counted: readonly Counted[][]): Promise<string> {
  return AggregatorRegistry.aggregate([...counted]).metrics()
}

const isRefusal = (reason: string) => (refusals as readonly string[]).includes(reason)

function metricsOf(read: ReturnType<typeof readings>): MetricJson[] {
  return Object.entries(read).map(([name, values]) => {
    const { help, type, labels: [label = ''] = [] } = catalogue[name as MetricName] as Described
    const all = typeof values === 'number' ? [{ labels: {}, value: values }] : valuesBy(label, values)
    return { name, help, type, values: all }
  })
}

function valuesBy(label: string, values: Readonly<Record<string, number>>): MetricJson['values'] {
  return Object.entries(values).map(([each, value]) => ({ labels: { [label]: each }, value }))
}

function reasonOf(terminal: TerminalEvent): string {
  switch (terminal.type) {
    case 'done':
      return stopReasonLabel(terminal.stop_reason)
    case 'error':
      return terminal.error.code
    case 'cancelled':
      return terminal.by
  }
}
