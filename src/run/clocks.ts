import type { ErrorCode } from '../core/errors.ts'

/** How long each phase of a stream may last, in milliseconds. */
export interface Timeouts {
  /** From sending the request to upstream's response headers. */
  readonly headers_ms: number
  /** From the headers to the first event that is no ping. */
  readonly first_event_ms: number
  /** Without a single byte; pings count as bytes. */
  readonly silence_ms: number
  /** With nothing but pings, after the first event. */
  readonly stall_ms: number
  /** From the request to the end, over all attempts. */
  readonly total_ms: number
}

export type Clock = keyof Timeouts

/** What one attempt has come to, in milliseconds of the monotonic clock. */
export interface Progress {
  readonly sentAt: number
  readonly headersAt: number | undefined
  readonly lastByteAt: number
  readonly lastEventAt: number | undefined
}

/** The clock that ends an attempt at `now`, if one does. `total_ms` is the run's own. */
export function expiredClock(timeouts: Timeouts, progress: Progress, now: number): Clock | undefined {
  const { sentAt, headersAt, lastByteAt, lastEventAt } = progress
  if (headersAt === undefined) return now - sentAt >= timeouts.headers_ms ? 'headers_ms' : undefined
  if (now - lastByteAt >= timeouts.silence_ms) return 'silence_ms'
  if (lastEventAt === undefined) return now - headersAt >= timeouts.first_event_ms ? 'first_event_ms' : undefined
  return now - lastEventAt >= timeouts.stall_ms ? 'stall_ms' : undefined
}

export const clockErrors: Record<Clock, ErrorCode> = {
  headers_ms: 'upstream_timeout',
  first_event_ms: 'upstream_timeout',
  silence_ms: 'upstream_stalled',
  stall_ms: 'upstream_stalled',
  total_ms: 'total_timeout',
}
