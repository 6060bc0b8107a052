import { setTimeout as delay } from 'node:timers/promises'
import { type ErrorCode, SluiceError, toSluiceError } from '../core/errors.ts'
import type { RecoveryEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import type { MessageRequest } from '../core/request.ts'
import { AttemptState } from './attempt.ts'
import { type Attempt, attemptOf, firstAttempt, isRequestsFault, nextAttempt } from './attempts.ts'
import type { Deadline } from './clocks.ts'
import type { RunContext, RunOptions } from './context.ts'
import type { Ledger } from './ledger.ts'
import { type Partial, partialOf, requestForRest } from './partial.ts'
import { pump } from './pump.ts'
import { Seam } from './seam.ts'

/** What a run hears about its answer, and what the answer asks of it. */
export interface AnswerSignals {
  readonly log: StreamLog
  /** The run is to end: no further attempt. */
  readonly ending: boolean
  /** A clock has begun to run that may be due before all others. */
  onPhase(): void
  /** Upstream has said something, or a later attempt has. */
  onFirstEvents(): void
}

/** One answer in one log: attempts at it, one after the other, until it is whole or nothing more can be done. */
export class Answer {
  readonly #run: AnswerSignals
  readonly #context: RunContext
  readonly #options: RunOptions
  readonly #ledger: Ledger
  /** The latest. */
  attempt: Attempt
  #state: AttemptState | undefined
  /** Why attempts failed. */
  readonly failedAttempts: ErrorCode[] = []
  upstreamBytes = 0
  upstreamRequestId: string | null = null
  /** What readers have of an answer that upstream has lost, when it can be gone on with. */
  #partial: Partial | undefined

  constructor(run: AnswerSignals, context: RunContext, options: RunOptions, ledger: Ledger) {
    this.#run = run
    this.#context = context
    this.#options = options
    this.#ledger = ledger
    const { request, taken } = options
    const since = performance.now() - ledger.startedAt
    this.attempt = taken ? { ...attemptOf(taken.history, request.model), since } : firstAttempt(request.model)
  }

  /** When a clock ends the attempt under way, unless something happens before. */
  deadline(): Deadline | undefined {
    return this.#state?.deadline(this.#context.timeouts)
  }

  /** Ends the attempt under way, because of `failure` or because the run is to end. */
  interrupt(failure?: SluiceError): void {
    this.#state?.interrupt.abort(failure)
  }

  /** @returns why the answer is not whole; `undefined` when it is */
  async complete(): Promise<SluiceError | undefined> {
    let failure = await this.#first()
    let told = failure
    while (failure && !this.#run.ending) {
      const next = this.#next(failure)
      if (!next) break
      this.attempt = next
      failure = await this.#try(failure)
      // When another request than the client's is refused, what it should hear of is why that one was made.
      if (!failure || !next.mode || !isRequestsFault(failure)) told = failure
    }
    return told
  }

  async #first(): Promise<SluiceError | undefined> {
    const { taken } = this.#options
    this.#context.budget.begun(performance.now())
    if (taken) return this.#lost(new SluiceError('replica_lost'))
    return this.#run.ending ? new SluiceError('stopped') : this.#try(undefined)
  }

  /** What follows on a failure, if the policy has an answer to it and the budget allows for one more call. */
  #next(failure: SluiceError): Attempt | undefined {
    this.failedAttempts.push(failure.code)
    const { policy, budget, prices } = this.#context
    const now = performance.now()
    const outcome = {
      failure,
      contentSent: this.#state ? this.#state.contentSent : this.#ledger.contentSent,
      continuable: this.#partial !== undefined,
      elapsedMs: now - this.#ledger.startedAt,
    }
    const next = nextAttempt(this.attempt, outcome, policy, Math.random())
    if (!next) return undefined
    if (!calledNobody(failure) && !budget.take(now)) return undefined
    this.#ledger.nextRequest(prices.get(this.attempt.model))
    return next
  }

  /** @param before why the attempt before failed */
  async #try(before: SluiceError | undefined): Promise<SluiceError | undefined> {
    const { attempt } = this
    const { log } = this.#run
    const state = new AttemptState(() => {
      this.#run.onPhase()
      this.#run.onFirstEvents()
    })
    this.#state = state
    const { signal } = state.interrupt
    const seam = this.#seam(attempt)
    try {
      if (attempt.delayMs > 0) await delay(attempt.delayMs, undefined, { signal })
      state.sentAt = performance.now()
      this.#run.onPhase()
      const stream = await this.#context.upstream.open(this.#request(), signal)
      state.opened(stream)
      this.#run.onPhase()
      const failure = await pump(stream, {
        log,
        ledger: this.#ledger,
        progressOf: this.#options.progress ? this.#options.request.max_tokens : undefined,
        maxBytes: this.#context.maxBytes - this.upstreamBytes,
        clock: state,
        opening: before && openingOf(attempt, before),
        seam,
      })
      return failure && (state.contentSent ? await this.#lost(failure) : failure)
    } catch (thrown) {
      return toSluiceError(signal.reason instanceof SluiceError ? signal.reason : thrown)
    } finally {
      state.over()
      this.upstreamBytes += state.stream?.bytes ?? 0
      this.upstreamRequestId = state.stream?.requestId ?? this.upstreamRequestId
    }
  }

  #seam({ mode }: Attempt): Seam | undefined {
    if (!this.#partial || (mode !== 'prefill' && mode !== 'quote')) return undefined
    return new Seam(this.#partial, mode, () => this.#ledger.usage())
  }

  #request(): MessageRequest {
    const { request } = this.#options
    const { model, mode } = this.attempt
    const asked = model === request.model ? request : { ...request, model }
    return this.#partial && (mode === 'prefill' || mode === 'quote')
      ? requestForRest(asked, this.#partial, mode)
      : asked
  }

  /**
   * Looks what readers have of an answer that was lost in its middle.
   * @returns `failure`; `undefined` when nothing is missing but the end mark
   */
  async #lost(failure: SluiceError): Promise<SluiceError | undefined> {
    const { recovery } = this.#context.policy
    if (!this.#ledger.contentSent || this.#run.ending || recovery.max_attempts === 0) return failure
    const { log } = this.#run
    const history = await log.history()
    const whole = history.at(-1)?.type === 'message_stop'
    this.#partial = whole ? undefined : partialOf(history, this.#options.request)
    if (!whole && !this.#partial?.stopped) return failure
    if (!whole) await log.append([{ type: 'message_stop' }])
    return undefined
  }
}

/** The call that follows is the first of this process: all keys were cooling down, or another process has died. */
function calledNobody({ code, reason }: SluiceError): boolean {
  return reason === 'cooldown' || code === 'replica_lost'
}

function openingOf({ number, mode, model }: Attempt, { code }: SluiceError): RecoveryEvent | undefined {
  return mode && { type: 'recovery', reason: code, attempt: number, mode, ...(mode === 'fallback' && { model }) }
}
