import { describe, expect, it } from 'vitest'
import { beginTrace, continueTrace, traceparentOf } from '../../src/core/trace.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'

describe('a traceparent', () => {
  it.each([
    ['sampled', `00-${traceId}-${spanId}-01`, true],
    ['not sampled', `00-${traceId}-${spanId}-00`, false],
    ['with flags of tomorrow', `00-${traceId}-${spanId}-fe`, false],
    ['of a later version, which says more', `01-${traceId}-${spanId}-01-what`, true],
  ])('%s is followed', (_, header, sampled) => {
    const trace = beginTrace(header, sampled ? 0 : 1)
    expect(trace).toMatchObject({ traceId, parentSpanId: spanId, sampled })
    expect(trace.spanId).toMatch(/^[\da-f]{16}$/)
    expect(trace.spanId).not.toBe(spanId)
  })

  it.each([
    ['nothing', ''],
    ['no version', `${traceId}-${spanId}-01`],
    ['version ff', `ff-${traceId}-${spanId}-01`],
    ['more than version 00 has', `00-${traceId}-${spanId}-01-x`],
    ['upper case', `00-${traceId.toUpperCase()}-${spanId}-01`],
    ['a trace of zeros', `00-${'0'.repeat(32)}-${spanId}-01`],
    ['a span of zeros', `00-${traceId}-${'0'.repeat(16)}-01`],
    ['ids that are too long', `00-${traceId}0-${spanId}-01`],
    ['a line break behind it', `00-${traceId}-${spanId}-01\n`],
  ])('that is none, with %s, begins a new trace', (_, header) => {
    const trace = beginTrace(header, 1)
    expect(trace.traceId).toMatch(/^[\da-f]{32}$/)
    expect(trace).toMatchObject({ sampled: true })
    expect(trace).not.toHaveProperty('parentSpanId')
    expect(trace.traceId).not.toBe(traceId)
  })
})

it('keeps the share of new traces that it is told to', () => {
  const kept = (ratio: number) =>
    Array.from({ length: 4_000 }, () => beginTrace(undefined, ratio)).filter((t) => t.sampled)
  expect(kept(0)).toHaveLength(0)
  expect(kept(1)).toHaveLength(4_000)
  expect(Math.abs(kept(0.25).length - 1_000)).toBeLessThan(200)
})

it('says to others where a call stands, and goes on for who has died', () => {
  const trace = beginTrace(`00-${traceId}-${spanId}-01`, 1)
  expect(traceparentOf(trace, 'b7ad6b7169203331')).toBe(`00-${traceId}-b7ad6b7169203331-01`)
  expect(continueTrace(trace)).toMatchObject({ traceId, parentSpanId: trace.spanId, sampled: true })
})
