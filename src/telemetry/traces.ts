import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace as traceApi,
} from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AlwaysOnSampler, BatchSpanProcessor, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace'
import type { AttemptReport, RunReport } from '../core/report.ts'
import type { TraceContext } from '../core/trace.ts'

export interface TracesOptions {
  /** Of the collector, without `/v1/traces`. */
  readonly endpoint: string
  readonly headers: Readonly<Record<string, string>>
  readonly service: string
  readonly version: string
  readonly worker: number | undefined
  /** Host of Claude's API. */
  readonly server: string
  readonly log: { warn(fields: object, message: string): void; info(fields: object, message: string): void }
  onSpans(result: 'exported' | 'failed' | 'dropped', spans: number): void
  /** How long spans wait for others, and how long the collector has for a batch, in milliseconds. */
  readonly gatherMs?: number
  readonly exportMs?: number
}

/** Spans that wait for the collector, or are on their way to it; more are dropped. */
const maxWaiting = 2_048
/** How long the end of the process waits for the last ones, in milliseconds. */
const closeMs = 500

/**
 * Spans of ended runs for an OpenTelemetry collector. They are made of the report at a run's end, with the ids that were
 * given out at its beginning: while a stream runs, nothing is done for its trace. No provider is registered globally, as
 * whoever finds one, the SDK of Anthropic for one, would begin to trace by itself.
 */
export class Traces {
  readonly #options: TracesOptions
  readonly #provider: TracerProvider
  readonly #tracer: Tracer
  /** What the next span that is made is called. */
  #ids = { traceId: '', spanId: '' }
  #waiting = 0
  #failing = false

  constructor(options: TracesOptions) {
    this.#options = options
    const { endpoint, headers, service, version, worker, gatherMs = 2_000, exportMs = 5_000 } = options
    const exporter = new OTLPTraceExporter({
      url: `${endpoint.replace(/\/+$/, '')}/v1/traces`,
      headers: { ...headers },
      timeoutMillis: exportMs,
      concurrencyLimit: 1,
    })
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        'service.name': service,
        'service.version': version,
        'process.pid': process.pid,
        ...(worker !== undefined && { 'sluice.worker': worker }),
      }),
      // Who is sampled was decided at the beginning.
      sampler: new AlwaysOnSampler(),
      idGenerator: { generateTraceId: () => this.#ids.traceId, generateSpanId: () => this.#ids.spanId },
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: this.#counted(exporter),
          maxQueueSize: maxWaiting,
          scheduledDelayMillis: gatherMs,
          exportTimeoutMillis: exportMs + 1_000,
        }),
      ],
    })
    this.#tracer = this.#provider.getTracer('sluice', version)
  }

  record(report: RunReport): void {
    const { trace, tries } = report
    if (!trace?.sampled) return
    const spans = 1 + tries.length
    if (this.#waiting + spans > maxWaiting) {
      this.#options.onSpans('dropped', spans)
      return
    }
    this.#waiting += spans
    // Times in reports are of the monotonic clock.
    const epoch = Date.now() - performance.now()
    const context = this.#recordRun(report, trace, epoch)
    for (const [index, attempt] of tries.entries()) this.#recordAttempt(attempt, index + 1, trace, context, epoch)
  }

  /** Sends what there is, for as long as there is time. */
  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, closeMs)
    // What keeps it from being sent has been told.
    await Promise.race([this.#provider.shutdown().catch(() => {}), promise])
    clearTimeout(timer)
  }

  #recordRun(report: RunReport, trace: TraceContext, epoch: number): Context {
    const { terminal, timing, startedAt, endedAt, tries } = report
    this.#ids = trace
    const span = this.#tracer.startSpan(
      `chat ${report.requestedModel ?? ''}`,
      { kind: SpanKind.SERVER, startTime: epoch + startedAt, attributes: attributesOf(report) },
      contextOf(trace, trace.parentSpanId),
    )
    if (timing.ttft_ms !== null) span.addEvent('first_token', {}, epoch + startedAt + timing.ttft_ms)
    for (const [index, { kind, after, sentAt }] of tries.entries()) {
      if (kind === 'first') continue
      const name = kind === 'retry' || kind === 'step' ? kind : 'recovery'
      const about = {
        'sluice.attempt.number': index + 1,
        'sluice.attempt.kind': kind,
        ...(after && { 'error.type': after }),
      }
      span.addEvent(name, about, epoch + sentAt)
    }
    if (terminal.type === 'error') span.setStatus({ code: SpanStatusCode.ERROR, message: terminal.error.code })
    span.end(epoch + endedAt)
    return contextOf(trace, trace.spanId)
  }

  #recordAttempt(attempt: AttemptReport, number: number, trace: TraceContext, parent: Context, epoch: number): void {
    const { model, kind, sentAt, contentAt, endedAt, failure, upstreamRequestId, spanId = '' } = attempt
    this.#ids = { traceId: trace.traceId, spanId }
    const span = this.#tracer.startSpan(
      `chat ${model}`,
      {
        kind: SpanKind.CLIENT,
        startTime: epoch + sentAt,
        attributes: {
          ...operation,
          'gen_ai.request.model': model,
          'server.address': this.#options.server,
          'sluice.attempt.number': number,
          'sluice.attempt.kind': kind,
          ...(upstreamRequestId !== null && { 'sluice.upstream_request_id': upstreamRequestId }),
          ...(failure && { 'error.type': failure.code }),
        },
      },
      parent,
    )
    if (contentAt !== undefined) span.addEvent('first_token', {}, epoch + contentAt)
    if (failure) span.setStatus({ code: SpanStatusCode.ERROR, message: failure.code })
    span.end(epoch + endedAt)
  }

  /** Says once that spans get lost, and once that they do not any more. */
  #counted(exporter: SpanExporter): SpanExporter {
    return {
      export: (spans, done) =>
        exporter.export(spans, (result) => {
          const isExported = result.error === undefined && result.code === 0
          this.#waiting -= spans.length
          this.#options.onSpans(isExported ? 'exported' : 'failed', spans.length)
          this.#tell(!isExported, result.error)
          done(result)
        }),
      forceFlush: async () => exporter.forceFlush?.(),
      shutdown: () => exporter.shutdown(),
    }
  }

  #tell(failing: boolean, error: (Error & { code?: unknown }) | undefined): void {
    if (failing === this.#failing) return
    this.#failing = failing
    const { log } = this.#options
    // A message may quote what a stranger has answered.
    if (failing) log.warn({ reason: String(error?.code ?? error?.name ?? 'unknown') }, 'traces cannot be exported')
    else log.info({}, 'traces are exported again')
  }
}

const operation = { 'gen_ai.operation.name': 'chat', 'gen_ai.provider.name': 'anthropic' }

/** Never a prompt, an answer, or a name of a client. */
function attributesOf(report: RunReport): Attributes {
  const { terminal, requestedModel, responseModel, messageId, costUsd, attempts, stream, requestId, preset } = report
  const { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens } = terminal.usage
  const [read, written] = [cache_read_input_tokens ?? 0, cache_creation_input_tokens ?? 0]
  return {
    ...operation,
    'gen_ai.request.model': requestedModel ?? '',
    'gen_ai.request.stream': true,
    ...(responseModel !== null && { 'gen_ai.response.model': responseModel }),
    ...(messageId !== null && { 'gen_ai.response.id': messageId }),
    ...(terminal.type === 'done' &&
      terminal.stop_reason !== null && { 'gen_ai.response.finish_reasons': [terminal.stop_reason] }),
    'gen_ai.usage.input_tokens': input_tokens + read + written,
    'gen_ai.usage.output_tokens': output_tokens,
    'gen_ai.usage.cache_read.input_tokens': read,
    'gen_ai.usage.cache_creation.input_tokens': written,
    ...(terminal.type === 'error' && { 'error.type': terminal.error.code }),
    'sluice.stream': stream,
    ...(requestId !== null && { 'sluice.request_id': requestId }),
    'sluice.status': terminal.type,
    ...(preset !== undefined && { 'sluice.preset': preset }),
    ...(terminal.type === 'cancelled' && { 'sluice.cancelled_by': terminal.by }),
    'sluice.attempts': attempts,
    ...(costUsd !== null && { 'sluice.cost_usd': costUsd }),
  }
}

function contextOf({ traceId }: TraceContext, spanId: string | undefined): Context {
  if (spanId === undefined) return ROOT_CONTEXT
  return traceApi.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true })
}
