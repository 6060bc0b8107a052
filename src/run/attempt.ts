import { SluiceError } from '../core/errors.ts'
import type { UpstreamStream } from '../core/ports.ts'
import type { AttemptReport, LiveRun } from '../core/report.ts'
import type { Attempt } from './attempts.ts'
import { type Deadline, nextDeadline, type Timeouts } from './clocks.ts'
import type { EventClock } from './pump.ts'
import type { StepEnd } from './steps.ts'

/** What an attempt does not know itself of its end. */
interface AttemptEnd extends Pick<AttemptReport, 'failure' | 'spanId'> {
  /** How the attempt before ended. */
  readonly before: SluiceError | StepEnd | undefined
}

/** The attempt under way: how to interrupt it, and what its clocks look at. */
export class AttemptState implements EventClock {
  readonly interrupt = new AbortController()
  sentAt: number | undefined
  headersAt: number | undefined
  lastEventAt: number | undefined
  stream: UpstreamStream | undefined
  contentAt: number | undefined
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
    this.contentAt = performance.now()
  }

  /** Readers have got something of it. */
  get contentSent(): boolean {
    return this.contentAt !== undefined
  }

  /** How far it is. */
  get phase(): Exclude<LiveRun['state'], 'ending'> {
    if (this.sentAt === undefined) return 'waiting'
    if (this.stream === undefined) return 'sent'
    return this.contentSent ? 'streaming' : 'opened'
  }

  /** @param ended why and how, as far as it does not know itself */
  report(attempt: Attempt, sentAt: number, ended: AttemptEnd): AttemptReport {
    const { model, mode, retries, step } = attempt
    const { before, failure, spanId } = ended
    const { headersAt, contentAt, stream } = this
    return {
      kind: retries > 0 ? 'retry' : (mode ?? (step > 1 ? 'step' : 'first')),
      model,
      after: before instanceof SluiceError ? before.code : undefined,
      sentAt,
      headersAt,
      contentAt,
      endedAt: performance.now(),
      failure,
      upstreamRequestId: stream?.requestId ?? failure?.upstreamRequestId ?? null,
      spanId,
    }
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
