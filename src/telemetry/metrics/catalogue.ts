import { errorTable } from '../../core/errors.ts'

/** One metric as it is documented and exposed; `docs/metrics.md` is made from this. */
export interface Described {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels?: readonly string[]
  readonly buckets?: readonly number[]
}

const call = ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model'] as const

/** Doubling from 160 ms on, as the conventions have it, up to beyond the longest answer that is allowed unless set. */
const durations = Array.from({ length: 14 }, (_, n) => Number((0.16 * 2 ** n).toFixed(2)))
/** Claude takes 0.3 s at best, and a minute when it thinks. */
const firstTokens = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 7.5, 10, 20, 30, 60, 120]
/** 400 tokens a second to 1. */
const perToken = [0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1]
/** 50 µs is a quiet process; a second is a Redis that hardly answers. */
const added = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1]
/** Powers of four, as the conventions have it. */
const tokenCounts = Array.from({ length: 14 }, (_, n) => 4 ** n)

/**
 * Names and labels follow OpenTelemetry's conventions for generative AI where these have one, written as Prometheus
 * writes them: `gen_ai_server_…` is what clients of Sluice see of a stream, `gen_ai_client_…` what Sluice sees of one call
 * to Claude. All else begins with `sluice_`.
 * @see https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
 */
export const catalogue = {
  gen_ai_server_request_duration_seconds: {
    type: 'histogram',
    help: 'From a request to the end of its stream, retries and continuations included.',
    labels: [...call, 'error_type'],
    buckets: durations,
  },
  gen_ai_server_time_to_first_token_seconds: {
    type: 'histogram',
    help: 'From a request to the first of its answer, over all attempts; of streams that came to that.',
    labels: call,
    buckets: firstTokens,
  },
  gen_ai_server_time_per_output_token_seconds: {
    type: 'histogram',
    help: 'From the first of an answer to its end, divided by its tokens after the first: one value for each whole answer.',
    labels: call,
    buckets: perToken,
  },
  gen_ai_client_operation_duration_seconds: {
    type: 'histogram',
    help: 'One call to Claude, from sending it to its end.',
    labels: [...call, 'error_type'],
    buckets: durations,
  },
  gen_ai_client_operation_time_to_first_chunk_seconds: {
    type: 'histogram',
    help: 'One call to Claude, from sending it to the first of its answer.',
    labels: call,
    buckets: firstTokens,
  },
  gen_ai_client_token_usage: {
    type: 'histogram',
    help: 'Tokens of a stream by gen_ai_token_type: input, those read from and written to the cache included, and output.',
    labels: [...call, 'gen_ai_token_type'],
    buckets: tokenCounts,
  },
  sluice_tokens_total: {
    type: 'counter',
    help: 'Tokens by kind, none of them counted twice: input, output, cache_read, cache_write.',
    labels: ['gen_ai_request_model', 'kind'],
  },
  sluice_cost_usd_total: {
    type: 'counter',
    help: 'US dollars by upstream.prices, however streams ended.',
    labels: ['gen_ai_request_model'],
  },
  sluice_streams_unpriced_total: {
    type: 'counter',
    help: 'Ended streams whose cost is not known, as a model has no price.',
    labels: ['gen_ai_request_model'],
  },
  sluice_streams_started_total: {
    type: 'counter',
    help: 'Streams begun, or taken over from a replica that died.',
  },
  sluice_streams_ended_total: {
    type: 'counter',
    help: 'Streams by their end: status done with the stop reason, error with the error code, cancelled with who did it.',
    labels: ['status', 'reason'],
  },
  sluice_streams_recovered_total: {
    type: 'counter',
    help: 'Streams that are done though their answer was lost in its middle at least once.',
  },
  sluice_extra_calls_total: {
    type: 'counter',
    help: 'Calls to Claude after the first of a stream: kind retry, fallback or continuation; the reason is the error code before.',
    labels: ['kind', 'reason'],
  },
  sluice_clocks_fired_total: {
    type: 'counter',
    help: 'Deadlines that ended a call to Claude, or with total_ms a stream, by their name in timeouts.',
    labels: ['clock'],
  },
  sluice_http_requests_total: {
    type: 'counter',
    help: 'HTTP responses, by method, route (its pattern; none where there is no such route) and status.',
    labels: ['method', 'route', 'status'],
  },
  sluice_http_errors_total: {
    type: 'counter',
    help: 'Requests that were answered with an error instead of a stream; reason tells why too_many_streams was one.',
    labels: ['code', 'reason'],
  },
  sluice_added_latency_seconds: {
    type: 'histogram',
    help: 'From bytes of Claude being read to their frames being written to a socket: four looks a second, at one client each.',
    buckets: added,
  },
  sluice_streams_live: { type: 'gauge', help: 'Streams under way.' },
  sluice_streams_unread: { type: 'gauge', help: 'Streams under way that nobody reads.' },
  sluice_readers: { type: 'gauge', help: 'Clients that get a stream, or wait for a whole answer, from this process.' },
  sluice_readers_lagging: { type: 'gauge', help: 'Readers for whom bytes wait, written and not taken by their side.' },
  sluice_reader_lag_events: {
    type: 'gauge',
    help: 'Events that the reader furthest behind on a live stream has yet to get.',
  },
  sluice_reader_lag_bytes: { type: 'gauge', help: 'Bytes that wait for the reader for whom most do.' },
  sluice_pressure: {
    type: 'gauge',
    help: '1 while new streams are refused for that reason: heap, memory or event_loop.',
    labels: ['reason'],
  },
  sluice_event_loop_turn_seconds: {
    type: 'gauge',
    help: 'A turn of the event loop on the average of the last second: so long waits what is ready.',
  },
  sluice_event_loop_utilization: {
    type: 'gauge',
    help: 'The share of the last second that the event loop worked, 0 to 1.',
  },
  sluice_draining: { type: 'gauge', help: '1 while this process is shutting down.' },
  sluice_extra_calls_left: {
    type: 'gauge',
    help: 'Retries, fallbacks and continuations that the budget of all streams allows at this moment.',
  },
  sluice_api_keys: { type: 'gauge', help: 'Anthropic API keys.' },
  sluice_api_keys_resting: {
    type: 'gauge',
    help: 'API keys that are not used just now, for a model at least, by the error code that they rest after.',
    labels: ['reason'],
  },
  sluice_redis_up: { type: 'gauge', help: '1 while Redis takes commands; not there without a store.url.' },
  sluice_redis_streams: {
    type: 'gauge',
    help: 'Streams of this process by how they stand to Redis: through, behind, apart or fenced.',
    labels: ['state'],
  },
  sluice_redis_unsent_events: { type: 'gauge', help: 'Events that Redis should have and has not yet.' },
  sluice_spans_total: {
    type: 'counter',
    help: 'Spans by what became of them: exported, failed or dropped; not there without traces.',
    labels: ['result'],
  },
} as const satisfies Record<string, Described>

export type MetricName = keyof typeof catalogue
export type NameOf<Type extends Described['type']> = {
  [Name in MetricName]: (typeof catalogue)[Name]['type'] extends Type ? Name : never
}[MetricName]

/** In the place of whatever is not known in advance. */
export const other = 'other'

const stopReasons: ReadonlySet<string> = new Set([
  'end_turn',
  'max_tokens',
  'stop_sequence',
  'tool_use',
  'pause_turn',
  'refusal',
  'model_context_window_exceeded',
])

export const stopReasonLabel = (reason: string | null) => (reason !== null && stopReasons.has(reason) ? reason : other)

export const clocks = ['headers_ms', 'first_event_ms', 'silence_ms', 'stall_ms', 'total_ms'] as const
export type ClockName = (typeof clocks)[number]
export const isClock = (name: string | undefined): name is ClockName => clocks.includes(name as ClockName)

/** All `reason`s of one `status`, so that each is there from the start: a first count that is also a new series is no rise. */
export const endings: readonly (readonly [status: string, reason: string])[] = [
  ...[...stopReasons, other].map((reason) => ['done', reason] as const),
  ...Object.keys(errorTable).map((code) => ['error', code] as const),
  ...['client', 'stop', 'shutdown', 'limit'].map((by) => ['cancelled', by] as const),
]

/** Why streams are refused, besides reasons that are an error code of their own. */
export const refusals = ['max_streams', 'max_total_bytes', 'heap', 'memory', 'event_loop'] as const
