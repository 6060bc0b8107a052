import type { Delta } from '../core/delta.ts'
import {
  type ClaudeEvent,
  type DoneEvent,
  isTerminal,
  isToolEvent,
  type LogEvent,
  type ProgressEvent,
  type Timing,
} from '../core/events.ts'
import type { OrphanLog } from '../core/ports.ts'
import { addUsage, costOf, estimateUsage, mergeUsage, noUsage, type Price, type Usage } from '../core/usage.ts'

const progressIntervalMs = 250
/** A rate over less time than this says nothing. */
const leastSeconds = 0.1

/** The log of a run that died with its process, and what it holds. */
export interface Taken {
  readonly log: OrphanLog
  readonly history: readonly LogEvent[]
}

/** What the ledger does not know of an answer that is whole. */
interface Outcome {
  readonly price: Price | undefined
  readonly upstreamRequestId: string | null
  readonly recovered: number
}

/** Keeps account of one run: tokens, times, and how Claude said it stopped. */
export class Ledger {
  readonly startedAt: number
  #firstContentAt: number | undefined
  #lastProgressAt: number
  /** Of the attempts before this one. */
  #earlier: Usage | undefined
  #earlierCost: number | null = 0
  /** Of those of them that were for the message under way. */
  #earlierOfStep: Usage | undefined
  #usage: Usage = noUsage
  /** Claude's own final count is in. */
  #measured = false
  #characters = 0
  /** Some of the answer was sent by another process. */
  hasContent = false
  /** Claude has begun a message. */
  begun = false
  stopReason: string | null = null
  stopSequence: string | null = null
  stopDetails: unknown = null
  /** Keep what Claude calls the message, and the model that it has written it with. */
  keepsNames = false
  messageId: string | null = null
  responseModel: string | null = null

  constructor(startedAt: number) {
    this.startedAt = startedAt
    this.#lastProgressAt = startedAt
  }

  observe(event: ClaudeEvent | Delta): void {
    switch (event.type) {
      case 'message_start':
        this.begun = true
        this.#usage = mergeUsage(noUsage, event.message.usage)
        if (!this.keepsNames) break
        this.messageId = event.message.id ?? null
        this.responseModel = event.message.model ?? null
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
    if (!this.hasContent) this.#firstContentAt ??= performance.now()
  }

  get contentSent(): boolean {
    return this.hasContent || this.#firstContentAt !== undefined
  }

  /**
   * How far the answer is, in several steps the one under way, if it is time to say so again.
   * @param maxTokens the request's `max_tokens`
   */
  progress(maxTokens: number): ProgressEvent | undefined {
    const now = performance.now()
    if (now - this.#lastProgressAt < progressIntervalMs) return undefined
    this.#lastProgressAt = now
    const { output_tokens } = this.usage()
    const { duration_ms, tokens_per_second } = this.timing(now)
    const share = this.stepUsage().output_tokens / maxTokens
    const percent = maxTokens > 0 ? Math.min(100, Math.round(share * 1000) / 10) : 100
    return { type: 'progress', output_tokens, percent, tokens_per_second, elapsed_ms: duration_ms }
  }

  /** Measured when Claude gave its final count, else an estimate that says so. */
  usage(): Usage {
    return this.#with(this.#earlier)
  }

  /** The same of the message under way alone, with all requests that were made for it. */
  stepUsage(): Usage {
    return this.#with(this.#earlierOfStep)
  }

  #with(earlier: Usage | undefined): Usage {
    // A request that Claude has not begun to answer adds nothing, and what came before it may be measured.
    if (earlier && !this.begun) return earlier
    return earlier ? addUsage(earlier, this.#latest()) : this.#latest()
  }

  #latest(): Usage {
    return this.#measured ? this.#usage : estimateUsage(this.#usage, this.#characters)
  }

  /**
   * Another request is made for the same answer: what the one before has cost stays on the account.
   * @param price of the model that was asked before
   */
  nextRequest(price: Price | undefined): void {
    if (this.begun) {
      this.#earlierCost = sum(this.#earlierCost, costOf(this.#latest(), price))
      this.#earlierOfStep = this.stepUsage()
      this.#earlier = this.usage()
    }
    this.begun = false
    this.#usage = noUsage
    this.#measured = false
    this.#characters = 0
  }

  /** The next request is for a message of its own, which `max_tokens` is for. */
  nextStep(): void {
    this.#earlierOfStep = undefined
  }

  /**
   * What was seen so far has cost in US dollars; `null` when the price of some of it is not known.
   * @param price of the model that was asked last
   */
  cost(price: Price | undefined): number | null {
    // Nothing costs nothing, whatever the price.
    if (!this.begun && this.#characters === 0) return this.#earlierCost
    return sum(this.#earlierCost, costOf(this.#latest(), price))
  }

  /** By the requests before the one that is next. */
  soFar(): { readonly usage: Usage; readonly costUsd: number | null } {
    return { usage: this.usage(), costUsd: this.#earlierCost }
  }

  /** The end of an answer that is whole. */
  done(now: number, { price, upstreamRequestId, recovered }: Outcome): DoneEvent {
    const usage = this.usage()
    return {
      type: 'done',
      stop_reason: this.stopReason,
      ...(this.stopSequence !== null && { stop_sequence: this.stopSequence }),
      ...(this.stopDetails !== null && { stop_details: this.stopDetails }),
      usage,
      cost_usd: this.cost(price),
      timing: this.timing(now),
      recovered,
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

/** An unknown cost makes the sum unknown. */
function sum(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a + b
}

/** The account of a run that another process has kept, as far as its log tells. */
export function ledgerOf(
  { log, history }: { log: Pick<OrphanLog, 'createdAt'>; history: readonly LogEvent[] },
  prices: ReadonlyMap<string, Price>,
): Ledger {
  const ledger = new Ledger(performance.now() - (Date.now() - log.createdAt.getTime()))
  let model = ''
  for (const event of history) {
    if (event.type === 'start' || event.type === 'recovery') model = event.model ?? model
    if (event.type === 'start' || event.type === 'progress' || event.type === 'unknown') continue
    if (event.type === 'recovery' || isToolEvent(event) || isTerminal(event)) continue
    if (event.type === 'message_start') {
      ledger.nextRequest(prices.get(model))
      ledger.nextStep()
    }
    ledger.observe(event)
    // Nothing of an answer is stored before some of its content is; when that came it does not say.
    ledger.hasContent = true
  }
  return ledger
}
