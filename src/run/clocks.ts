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

/** A clock, and when it ends the attempt unless something happens before, in milliseconds of the monotonic clock. */
export interface Deadline {
  readonly clock: Clock
  readonly at: number
}

/** The first of the clocks that run. `total_ms` is the run's own. */
export function nextDeadline(timeouts: Timeouts, progress: Progress): Deadline {
  const { sentAt, headersAt, lastByteAt, lastEventAt } = progress
  if (headersAt === undefined) return { clock: 'headers_ms', at: sentAt + timeouts.headers_ms }
  const silence: Deadline = { clock: 'silence_ms', at: lastByteAt + timeouts.silence_ms }
  const other: Deadline =
    lastEventAt === undefined
      ? { clock: 'first_event_ms', at: headersAt + timeouts.first_event_ms }
      : { clock: 'stall_ms', at: lastEventAt + timeouts.stall_ms }
  return silence.at <= other.at ? silence : other
}

export const clockErrors: Record<Clock, ErrorCode> = {
  headers_ms: 'upstream_timeout',
  first_event_ms: 'upstream_timeout',
  silence_ms: 'upstream_stalled',
  stall_ms: 'upstream_stalled',
  total_ms: 'total_timeout',
}
