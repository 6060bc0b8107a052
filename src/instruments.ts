import type { Logger } from 'pino'
import type { Config } from './config.ts'
import type { RunReport } from './core/report.ts'
import { beginTrace, type TraceContext } from './core/trace.ts'
import type { Connection } from './delivery/connection.ts'
import type { Colleagues } from './gathering.ts'
import type { Exposition } from './http/metrics.ts'
import type { HttpWatch } from './http/watch.ts'
import type { Streams } from './run/streams.ts'
import { History } from './telemetry/history.ts'
import type { Sources } from './telemetry/metrics/gauges.ts'
import { lagOf } from './telemetry/metrics/gauges.ts'
import type { Metrics } from './telemetry/metrics/metrics.ts'
import type { Traces } from './telemetry/traces.ts'
import { readVersion } from './version.ts'

/** One of several workers. */
export interface WorkerPlace {
  readonly id: number
  readonly colleagues: Colleagues
}

/** What is looked at of a Sluice that runs. */
export interface Observed extends Sources {
  readonly streams: Streams
  readonly readers: {
    readonly open: Iterable<Connection>
    /** One of them. */
    readonly any: Connection | undefined
    readonly collecting: number
  }
}

/** How often one client is looked at for the latency that Sluice adds, in milliseconds. */
const sampleMs = 250
/** The length of a bucket, and how often to see whether it is over, in milliseconds. */
const bucketMs = 10_000
const bucketLookMs = 1_000

/** Metrics, traces and the history of the last hour: what is off is not loaded. */
export class Instruments {
  readonly history = new History()
  /** Places a run in a trace; without traces there is none. */
  readonly beginTrace: ((traceparent: string | undefined) => TraceContext) | undefined
  readonly #config: Config
  readonly #worker: WorkerPlace | undefined
  readonly #module: typeof import('./telemetry/metrics/metrics.ts') | undefined
  #metrics: Metrics | undefined
  #traces: Traces | undefined
  #timers: NodeJS.Timeout[] = []
  #bucketsUntil = lastEnd()

  private constructor(
    config: Config,
    worker: WorkerPlace | undefined,
    module: typeof import('./telemetry/metrics/metrics.ts') | undefined,
  ) {
    this.#config = config
    this.#worker = worker
    this.#module = module
    const { otlp_endpoint, trace_sample_ratio } = config.telemetry
    if (otlp_endpoint !== undefined) this.beginTrace = (traceparent) => beginTrace(traceparent, trace_sample_ratio)
  }

  static async open(config: Config, logger: Logger, worker: WorkerPlace | undefined): Promise<Instruments> {
    const { metrics, otlp_endpoint } = config.telemetry
    const instruments = new Instruments(
      config,
      worker,
      metrics ? await import('./telemetry/metrics/metrics.ts') : undefined,
    )
    if (otlp_endpoint !== undefined) await instruments.#openTraces(otlp_endpoint, logger)
    return instruments
  }

  async #openTraces(endpoint: string, logger: Logger): Promise<void> {
    const { Traces } = await import('./telemetry/traces.ts')
    const { telemetry, upstream } = this.#config
    this.#traces = new Traces({
      endpoint,
      headers: telemetry.otlp_headers,
      service: telemetry.service_name,
      version: readVersion(),
      worker: this.#worker?.id,
      server: new URL(upstream.base_url).hostname,
      log: logger,
      onSpans: (result, spans) => this.#metrics?.exported(result, spans),
    })
  }

  /** Begins to look. */
  observe(observed: Observed): void {
    const models = namedModels(this.#config)
    this.#metrics = this.#module && new this.#module.Metrics(observed, { models, worker: this.#worker?.id })
    this.#worker?.colleagues.answer('metrics', async () => this.#metrics?.counted())
    this.#timers = [
      ...(this.#metrics ? [setInterval(() => this.#sample(observed), sampleMs)] : []),
      setInterval(() => this.#closeBucket(observed), bucketLookMs),
    ]
    for (const timer of this.#timers) timer.unref()
  }

  ended(report: RunReport): void {
    this.history.ended(report)
    this.#metrics?.ended(report)
    this.#traces?.record(report)
  }

  /** Of HTTP requests; without metrics nobody wants to hear of them. */
  get watch(): HttpWatch | undefined {
    return this.#module && ((...answer) => this.#metrics?.answered(...answer))
  }

  /** What Prometheus gets: of all workers, each under its own label. */
  get exposition(): Exposition | undefined {
    const module = this.#module
    if (!module) return undefined
    return {
      contentType: module.contentType,
      text: async () => {
        const all = this.#worker
          ? await this.#worker.colleagues.ask('metrics')
          : [(await this.#metrics?.counted()) ?? []]
        return module.exposition(all as object[][])
      },
    }
  }

  /** Stops looking, and sends what is left of traces. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#traces?.close()
  }

  /** Times that are taken anyway are compared: nothing is done per frame. */
  #sample({ streams, readers }: Observed): void {
    const connection = readers.any
    if (!connection) return
    const readAt = streams.lastByteAt(connection.log)
    const delay = readAt === undefined ? undefined : connection.delaySince(readAt)
    if (delay !== undefined) this.#metrics?.addedLatency(delay)
  }

  /** Buckets end at whole tens of seconds, so that those of several workers are of the same time. */
  #closeBucket({ streams, readers, pressure }: Observed): void {
    const until = lastEnd()
    if (until <= this.#bucketsUntil) return
    this.#bucketsUntil = until
    let liveTokens = 0
    for (const { outputTokens } of streams.list()) liveTokens += outputTokens
    this.history.close({
      until,
      live: streams.live,
      begun: streams.begun,
      liveTokens,
      readers: lagOf(readers.open).readers + readers.collecting,
      memoryBytes: process.memoryUsage.rss(),
      loopTurnMs: pressure.loop.turnMs,
    })
  }
}

/** When a bucket ended last, in milliseconds since the epoch. */
function lastEnd(): number {
  const now = Date.now()
  return now - (now % bucketMs)
}

/** Models that the operator has named: the only ones that are labels. */
function namedModels({ upstream, presets }: Config): ReadonlySet<string> {
  const ofPresets = Object.values(presets).flatMap(({ model }) => (typeof model === 'string' ? [model] : []))
  return new Set([upstream.default_model, ...upstream.fallback_models, ...Object.keys(upstream.prices), ...ofPresets])
}
