import type { UpstreamStream } from '../core/ports.ts'
import { type Deadline, nextDeadline, type Timeouts } from './clocks.ts'
import type { EventClock } from './pump.ts'

/** The attempt under way: how to interrupt it, and what its clocks look at. */
export class AttemptState implements EventClock {
  readonly interrupt = new AbortController()
  sentAt: number | undefined
  headersAt: number | undefined
  lastEventAt: number | undefined
  stream: UpstreamStream | undefined
  /** Readers have got something of it. */
  contentSent = false
  readonly #onFirstEvents: () => void

  constructor(onFirstEvents: () => void) {
    this.#onFirstEvents = onFirstEvents
  }

  tookEvents(): void {
    const first = this.lastEventAt === undefined
    this.lastEventAt = this.stream?.lastByteAt
    if (first) this.#onFirstEvents()
  }

  beganContent(): void {
    this.contentSent = true
  }

  /** Its clocks run no more. */
  over(): void {
    this.sentAt = undefined
  }

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
