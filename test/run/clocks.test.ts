import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorTable } from '../../src/core/errors.ts'
import { type Clock, clockErrors, nextDeadline, type Progress, type Timeouts } from '../../src/run/clocks.ts'

const timeouts: Timeouts = { headers_ms: 30, first_event_ms: 120, silence_ms: 45, stall_ms: 300, total_ms: 900 }
const sent: Progress = { sentAt: 1_000, headersAt: undefined, lastByteAt: 1_000, lastEventAt: undefined }
const opened: Progress = { ...sent, headersAt: 1_010, lastByteAt: 1_010 }

/** The clock that has run out by `now`. */
function expiredClock(timeouts: Timeouts, progress: Progress, now: number): Clock | undefined {
  const { clock, at } = nextDeadline(timeouts, progress)
  return now >= at ? clock : undefined
}

it.each<[string, Progress, number, Clock | undefined]>([
  ['before the headers, just in time', sent, 1_029, undefined],
  ['before the headers, late', sent, 1_030, 'headers_ms'],
  ['silent after the headers, just in time', opened, 1_054, undefined],
  ['silent after the headers', opened, 1_055, 'silence_ms'],
  ['only pings, just in time', { ...opened, lastByteAt: 1_120 }, 1_129, undefined],
  ['only pings', { ...opened, lastByteAt: 1_120 }, 1_130, 'first_event_ms'],
  ['an event, then pings, just in time', { ...opened, lastEventAt: 1_100, lastByteAt: 1_390 }, 1_399, undefined],
  ['an event, then pings', { ...opened, lastEventAt: 1_100, lastByteAt: 1_390 }, 1_400, 'stall_ms'],
  ['an event, then silence', { ...opened, lastEventAt: 1_100, lastByteAt: 1_100 }, 1_145, 'silence_ms'],
  [
    'a first event, however late the headers were',
    { ...opened, lastEventAt: 1_129, lastByteAt: 1_129 },
    1_170,
    undefined,
  ],
])('judges a stream with %s', (_, progress, now, clock) => {
  expect(expiredClock(timeouts, progress, now)).toBe(clock)
})

describe('a clock', () => {
  const ms = fc.integer({ min: 1, max: 1_000 })
  const anyTimeouts = fc.record({ headers_ms: ms, first_event_ms: ms, silence_ms: ms, stall_ms: ms, total_ms: ms })
  const anyProgress = fc.tuple(fc.nat(500), fc.nat(500), fc.nat(500), fc.nat(2)).map(([a, b, c, phase]): Progress => {
    const headersAt = phase > 0 ? a : undefined
    const lastEventAt = phase > 1 ? a + b : undefined
    return { sentAt: 0, headersAt, lastEventAt, lastByteAt: phase === 0 ? 0 : a + b + c }
  })

  it('once expired stays so until something happens, and none fires before its time', () => {
    fc.assert(
      fc.property(anyTimeouts, anyProgress, fc.nat(1_000), fc.nat(1_000), (timeouts, progress, wait, longer) => {
        const { sentAt, headersAt, lastByteAt, lastEventAt } = progress
        const now = lastByteAt + wait
        const clock = expiredClock(timeouts, progress, now)
        const since = {
          headers_ms: sentAt,
          first_event_ms: headersAt,
          silence_ms: lastByteAt,
          stall_ms: lastEventAt,
          total_ms: 0,
        }
        if (clock) {
          expect(now - (since[clock] as number)).toBeGreaterThanOrEqual(timeouts[clock])
          expect(expiredClock(timeouts, progress, now + longer)).toBeDefined()
        } else {
          expect(now).toBeLessThan(lastByteAt + (headersAt === undefined ? timeouts.headers_ms : timeouts.silence_ms))
        }
      }),
    )
  })
})

it('has an error for every clock, one that a client may hear of', () => {
  expect(Object.keys(clockErrors).sort()).toEqual(Object.keys(timeouts).sort())
  for (const code of Object.values(clockErrors)) expect(errorTable[code].status).toBe(504)
})
