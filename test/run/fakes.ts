import type { UpstreamEvent } from '../../src/core/events.ts'
import type { Claim, LogStore, Upstream, UpstreamStream } from '../../src/core/ports.ts'
import type { RunReport } from '../../src/core/report.ts'
import type { MessageRequest } from '../../src/core/request.ts'
import { Sweep } from '../../src/core/sweep.ts'
import type { Toolbox } from '../../src/core/tools.ts'
import { memoryStore } from '../../src/log/memory.ts'
import type { AttemptPolicy } from '../../src/run/attempts.ts'
import { RetryBudget } from '../../src/run/budget.ts'
import type { RunOptions } from '../../src/run/context.ts'
import { Streams, type StreamsOptions } from '../../src/run/streams.ts'
import type { ToolLimits } from '../../src/run/tool-limits.ts'
import { eventually } from '../support/client.ts'
import { decode } from '../support/logs.ts'

/** An answer of Claude that goes on until it is told to end. */
export interface FakeAnswer {
  readonly request: MessageRequest
  readonly aborted: boolean
  /** Sends a whole answer, to its end. */
  complete(): void
}

export interface FakeUpstream extends Upstream {
  readonly answers: FakeAnswer[]
}

const whole = [
  { type: 'message_start', message: { id: 'm', model: 'claude-test', usage: { input_tokens: 5, output_tokens: 1 } } },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello' } },
  { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 7 } },
  { type: 'message_stop' },
]
const wholeBody = whole.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')

/** A Claude that is asked, and answers when a test says so. */
export function fakeUpstream(): FakeUpstream {
  const answers: FakeAnswer[] = []
  return {
    answers,
    async open(request, signal) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      // Handled where it is read, if it is read at all.
      promise.catch(() => {})
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      answers.push({
        request,
        get aborted() {
          return signal.aborted
        },
        complete: resolve,
      })
      return answer(promise)
    },
    async forward() {},
    async close() {},
  }
}

function answer(ready: Promise<void>): UpstreamStream {
  return {
    requestId: 'req_test',
    bytes: wholeBody.length,
    lastByteAt: performance.now(),
    deliver(sink) {
      ready.then(
        () => sink.onEvents(decode(wholeBody) as UpstreamEvent[]),
        (failure) => sink.onEnd(failure),
      )
    },
    pause() {},
    resume() {},
    release() {},
    abandon() {},
  }
}

export const newStore = (): LogStore => memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 1e9 })

/** A store in which a claim waits for the test's word. */
export function slowToClaim(): { store: LogStore; answer: (earlier?: Claim) => void; fail: (error: Error) => void } {
  const { promise, resolve, reject } = Promise.withResolvers<Claim | undefined>()
  return { store: { ...newStore(), claim: () => promise }, answer: resolve, fail: reject }
}

/** A store whose logs fail to append what is `bad`. */
export function failing(bad: (type: string) => boolean): LogStore {
  const store = newStore()
  return {
    ...store,
    create(id, options) {
      const log = store.create(id, options)
      const { append } = log
      log.append = async (events) => {
        if (events.some(({ type }) => bad(type))) throw new Error('defect')
        await append.call(log, events)
      }
      return log
    },
  }
}

export interface TestStreams {
  readonly streams: Streams
  readonly upstream: FakeUpstream
  readonly sweep: Sweep
  readonly store: LogStore
  readonly reports: RunReport[]
  readonly faults: unknown[]
}

const hour = 3_600_000

export const toolLimits: ToolLimits = {
  max_steps: 16,
  total_ms: hour,
  max_result_bytes: 1_000,
  max_total_result_bytes: 2_000,
  max_tokens: 1_000_000,
  max_parallel: 8,
  approval_ms: hour,
}

export const noTools: Toolbox = { find: () => undefined, names: () => [], async close() {} }

export const noRecovery: AttemptPolicy = {
  retry: { max_attempts: 0, budget_ms: 0, max_retry_after_ms: 0, after_timeout: false },
  fallbackModels: [],
  recovery: { max_attempts: 0, prefill_models: [] },
  tools: toolLimits,
}

export function newStreams(options: Partial<StreamsOptions> = {}): TestStreams {
  const upstream = fakeUpstream()
  const reports: RunReport[] = []
  const faults: unknown[] = []
  const all = {
    upstream,
    store: newStore(),
    sweep: new Sweep(),
    timeouts: { headers_ms: hour, first_event_ms: hour, silence_ms: hour, stall_ms: hour, total_ms: hour },
    policy: noRecovery,
    budget: new RetryBudget({ budget_ratio: 0, budget_floor: 1_000 }),
    graceMs: hour,
    maxBytes: 1e9,
    prices: new Map(),
    toolbox: noTools,
    maxStreams: 10,
    pressure: { reason: undefined },
    onEnd: (report: RunReport) => void reports.push(report),
    onFault: (fault: unknown) => void faults.push(fault),
    ...options,
  }
  return { streams: new Streams(all), upstream, sweep: all.sweep, store: all.store, reports, faults }
}

export function asked(options: Partial<RunOptions> & { readonly prompt?: string } = {}): RunOptions {
  const { prompt = 'Hello?', ...rest } = options
  const request = { model: 'claude-test', max_tokens: 100, messages: [{ role: 'user', content: prompt }] }
  return { request: request as MessageRequest, principal: '', onDisconnect: 'finish', requestId: 'r', ...rest }
}

/** Lets Claude end every answer, and waits for the runs. */
export async function complete({ streams, upstream }: TestStreams): Promise<void> {
  for (const answer of upstream.answers) answer.complete()
  await eventually(() => streams.live === 0)
}
