import type { Delta } from '../core/delta.ts'
import type { ClaudeEvent, DoneEvent, ProgressEvent, Timing } from '../core/events.ts'
import { costOf, estimateUsage, mergeUsage, noUsage, type Price, type Usage } from '../core/usage.ts'

const progressIntervalMs = 250
/** A rate over less time than this says nothing. */
const leastSeconds = 0.1

/** Keeps account of one run: tokens, times, and how Claude said it stopped. */
export class Ledger {
  readonly startedAt: number
  #firstContentAt: number | undefined
  #lastProgressAt: number
  #usage: Usage = noUsage
  /** Claude's own final count is in. */
  #measured = false
  #characters = 0
  /** Claude has begun a message. */
  begun = false
  stopReason: string | null = null
  stopSequence: string | null = null
  stopDetails: unknown = null

  constructor(startedAt: number) {
    this.startedAt = startedAt
    this.#lastProgressAt = startedAt
  }

  observe(event: ClaudeEvent | Delta): void {
    switch (event.type) {
      case 'message_start':
        this.begun = true
        this.#usage = mergeUsage(noUsage, event.message.usage)
        this.#measured = false
        this.#characters = 0
        break
      case 'delta':
        this.#characters += event.escaped.length
        break
      case 'message_delta':
        this.#usage = mergeUsage(this.#usage, event.usage)
        this.#measured ||= typeof event.usage?.output_tokens === 'number'
        this.stopReason = event.delta.stop_reason ?? null
        this.stopSequence = event.delta.stop_sequence ?? null
        this.stopDetails = event.delta.stop_details ?? null
        break
    }
  }

  noteContent(): void {
    this.#firstContentAt ??= performance.now()
  }

  get contentSent(): boolean {
    return this.#firstContentAt !== undefined
  }

  /**
   * How far the answer is, if it is time to say so again.
   * @param maxTokens the request's `max_tokens`
   */
  progress(maxTokens: number): ProgressEvent | undefined {
    const now = performance.now()
    if (now - this.#lastProgressAt < progressIntervalMs) return undefined
    this.#lastProgressAt = now
    const { output_tokens } = this.usage()
    const { duration_ms, tokens_per_second } = this.timing(now)
    const percent = maxTokens > 0 ? Math.min(100, Math.round((output_tokens / maxTokens) * 1000) / 10) : 100
    return { type: 'progress', output_tokens, percent, tokens_per_second, elapsed_ms: duration_ms }
  }

  /** Measured when Claude gave its final count, else an estimate that says so. */
  usage(): Usage {
    return this.#measured ? this.#usage : estimateUsage(this.#usage, this.#characters)
  }

  /** The end of an answer that is whole. */
  done(now: number, price: Price | undefined, upstreamRequestId: string | null): DoneEvent {
    const usage = this.usage()
    return {
      type: 'done',
      stop_reason: this.stopReason,
      ...(this.stopSequence !== null && { stop_sequence: this.stopSequence }),
      ...(this.stopDetails !== null && { stop_details: this.stopDetails }),
      usage,
      cost_usd: costOf(usage, price),
      timing: this.timing(now),
      recovered: 0,
      upstream_request_id: upstreamRequestId,
    }
  }

  timing(now: number): Timing {
    const first = this.#firstContentAt
    const seconds = first === undefined ? 0 : (now - first) / 1000
    return {
      ttft_ms: first === undefined ? null : Math.round(first - this.startedAt),
      duration_ms: Math.round(now - this.startedAt),
      tokens_per_second: seconds >= leastSeconds ? Math.round((this.usage().output_tokens / seconds) * 10) / 10 : null,
    }
  }
}
