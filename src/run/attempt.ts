import type { UpstreamStream } from '../core/ports.ts'
import { type Deadline, nextDeadline, type Timeouts } from './clocks.ts'

/** The attempt under way: how to interrupt it, and what its clocks look at. */
export class AttemptState {
  readonly interrupt = new AbortController()
  sentAt: number | undefined
  headersAt: number | undefined
  lastEventAt: number | undefined
  stream: UpstreamStream | undefined

  opened(stream: UpstreamStream): void {
    this.stream = stream
    this.headersAt = performance.now()
  }

  /** `undefined` while the attempt waits to be sent. */
  deadline(timeouts: Timeouts): Deadline | undefined {
    const { sentAt, headersAt, lastEventAt, stream } = this
    if (sentAt === undefined) return undefined
    return nextDeadline(timeouts, { sentAt, headersAt, lastEventAt, lastByteAt: stream?.lastByteAt ?? sentAt })
  }
}
