import { describe, expect, it } from 'vitest'
import { Delta } from '../../src/core/delta.ts'
import { errorTable } from '../../src/core/errors.ts'
import type { LogEvent } from '../../src/core/events.ts'
import type { StreamLog } from '../../src/core/ports.ts'
import { memoryStore } from '../../src/log/memory.ts'
import { endOrphan } from '../../src/run/orphan.ts'
import { logOf, start } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'

const nobody = { onReaders() {}, async onStop() {}, onDecision: async () => false, onFenced() {} }

const wholeRecordings = [...recordings].filter(([, recording]) =>
  logOf(recording).some(({ type }) => type === 'message_stop'),
)

/** A log that was begun so long ago, in milliseconds. */
function orphan(events: readonly LogEvent[], agoMs = 0): StreamLog {
  const store = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 1e9 })
  const log = store.create('s', { owner: nobody }, new Date(Date.now() - agoMs))
  log.append(events)
  return log
}

const begin = {
  type: 'message_start',
  message: { usage: { input_tokens: 50, output_tokens: 1 } },
} as unknown as LogEvent
const text = new Delta('text', 0, 'x'.repeat(200))
const progress: LogEvent = { type: 'progress', output_tokens: 9, percent: 9, tokens_per_second: 9, elapsed_ms: 9 }
const unknown: LogEvent = { type: 'unknown', event: { type: 'new_event' } }

describe('a log whose run is gone', () => {
  it.each<[string, LogEvent[], boolean, object]>([
    ['nothing', [], false, { input_tokens: 0, output_tokens: 0, measured: false }],
    ['no answer yet', [start], false, { input_tokens: 0, output_tokens: 0, measured: false }],
    ['a piece of it', [start, begin, text], true, { input_tokens: 50, output_tokens: 50, measured: false }],
    [
      'what is not for counting',
      [start, begin, progress, unknown, text, progress],
      true,
      { input_tokens: 50, output_tokens: 50, measured: false },
    ],
  ])('ends as lost after %s', async (_, events, partial, usage) => {
    const log = orphan(events)
    const report = await endOrphan(log, new Map())
    const { message, retryable } = errorTable.replica_lost
    expect(report.terminal).toEqual({
      type: 'error',
      error: { code: 'replica_lost', message, retryable },
      partial,
      usage,
      timing: { ttft_ms: null, duration_ms: expect.any(Number), tokens_per_second: null },
    })
    expect(await log.history()).toEqual([...events, report.terminal])
    expect(await log.terminal()).toEqual(report.terminal)
  })

  it('lasted from its own beginning, on whichever replica that was', async () => {
    const { terminal, timing } = await endOrphan(orphan([start, begin, text], 12_345), new Map())
    expect(timing.duration_ms).toBeGreaterThanOrEqual(12_345)
    expect(timing.duration_ms).toBeLessThan(15_000)
    expect(terminal).toMatchObject({ timing })
  })

  it('is reported as what it was', async () => {
    const report = await endOrphan(orphan([start, begin, text]), new Map())
    expect(report).toMatchObject({
      stream: 's',
      model: 'claude-test',
      requestId: null,
      upstreamRequestId: null,
      upstreamBytes: 0,
      attempts: 0,
    })
    expect(report.failure?.code).toBe('replica_lost')
    expect((await endOrphan(orphan([]), new Map())).model).toBeNull()
  })

  it.each([...recordings])('accounts for what there is of %s, wherever it broke off', async (_, recording) => {
    const whole = logOf(recording).slice(0, -1)
    const { usage } = expectedOf(recording)
    const counted = whole.findLastIndex(({ type }) => type === 'message_delta')
    const stops = whole.findIndex(({ type }) => type === 'message_stop')
    for (const length of [2, Math.ceil(whole.length / 2), stops]) {
      const { terminal } = await endOrphan(orphan(whole.slice(0, length)), new Map())
      expect(terminal).toMatchObject({ partial: true, usage: { input_tokens: expect.any(Number) } })
      if (counted >= 0 && length > counted) expect(terminal.usage).toMatchObject(usage)
      else expect(terminal.usage.measured).toBe(false)
    }
  })

  it.each(wholeRecordings)('ends %s well where only its end was missing', async (_, recording) => {
    const { terminal, failure } = await endOrphan(orphan(logOf(recording).slice(0, -1)), new Map())
    expect(failure).toBeUndefined()
    const { usage } = expectedOf(recording)
    expect(terminal).toMatchObject({ type: 'done', usage, cost_usd: null, recovered: 0 })
  })

  it('tells when its end cannot be written', async () => {
    const log = orphan([start, { type: 'cancelled', by: 'stop', usage: { input_tokens: 0, output_tokens: 0 } }])
    await expect(endOrphan(log, new Map())).rejects.toThrow(/sealed/)
  })
})
