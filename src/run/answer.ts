import { setTimeout as delay } from 'node:timers/promises'
import { type ErrorCode, SluiceError, toSluiceError } from '../core/errors.ts'
import type { StreamLog } from '../core/ports.ts'
import type { AttemptReport } from '../core/report.ts'
import type { MessageRequest } from '../core/request.ts'
import type { ToolDecision } from '../core/tools.ts'
import { newSpanId, traceparentOf } from '../core/trace.ts'
import { AttemptState } from './attempt.ts'
import { type Attempt, attemptOf, firstAttempt, isRequestsFault, nextAttempt, openingOf } from './attempts.ts'
import type { Deadline } from './clocks.ts'
import type { RunContext, RunOptions } from './context.ts'
import type { Ledger } from './ledger.ts'
import { type Partial, partialOf, requestForRest } from './partial.ts'
import { pump } from './pump.ts'
import { Seam } from './seam.ts'
import { requestAfter, type Step, type StepEnd, stepsOf } from './steps.ts'
import { ToolCalls } from './tool-calls.ts'

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

/** How an attempt ended: with a message of Claude's, or without. */
type Ended = StepEnd | SluiceError

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
  tries: readonly AttemptReport[] = []
  upstreamBytes = 0
  upstreamRequestId: string | null = null
  /** What readers have of a message that upstream has lost, when it can be gone on with. */
  #partial: Partial | undefined
  /** Messages of Claude's that are whole, in an answer that can have several. */
  #steps: readonly Step[] = []
  readonly #tools: ToolCalls | undefined
  /** How long tools have been at work, in milliseconds. */
  #toolsMs = 0

  constructor(run: AnswerSignals, context: RunContext, options: RunOptions, ledger: Ledger) {
    this.#run = run
    this.#context = context
    this.#options = options
    this.#ledger = ledger
    const { request, taken } = options
    const since = performance.now() - ledger.startedAt
    this.attempt = taken ? { ...attemptOf(taken.history, request.model), since } : firstAttempt(request.model)
    const { toolbox, policy, onFault } = context
    if (options.tools) this.#tools = new ToolCalls({ log: run.log, toolbox, limits: policy.tools, taken, onFault })
  }

  /** When a clock ends the attempt under way, unless something happens before. */
  deadline(): Deadline | undefined {
    return this.#state?.deadline(this.#context.timeouts)
  }

  /** The attempt under way. */
  get current(): AttemptState | undefined {
    return this.#state
  }

  /** Ends the attempt under way, because of `failure` or because the run is to end. */
  interrupt(failure?: SluiceError): void {
    this.#state?.interrupt.abort(failure)
  }

  /** @returns whether the call of a tool waited for the decision, which is in the log then */
  async decide(call: string, decision: ToolDecision): Promise<boolean> {
    return (await this.#tools?.decide(call, decision)) ?? false
  }

  /** @returns why the answer is not whole; `undefined` when it is */
  async complete(): Promise<SluiceError | undefined> {
    let ended = await this.#first()
    let told = ended
    while (ended !== 'end' && !this.#run.ending) {
      const next = this.#next(ended)
      if (next instanceof SluiceError) told = next
      if (!next || next instanceof SluiceError) break
      this.attempt = next
      ended = await this.#try(ended)
      // When another request than the client's is refused, what it should hear of is why that one was made.
      if (!(ended instanceof SluiceError) || !next.mode || !isRequestsFault(ended)) told = ended
    }
    this.#tools?.noneWaits()
    if (told === 'end') return undefined
    return told instanceof SluiceError ? told : new SluiceError('stopped')
  }

  async #first(): Promise<Ended> {
    const { taken } = this.#options
    this.#context.budget.begun(performance.now())
    if (taken) return this.#lost(new SluiceError('replica_lost'))
    return this.#run.ending ? new SluiceError('stopped') : this.#try(undefined)
  }

  /** What follows, if the policy has an answer to it and, on a failure, the budget allows for one more call. */
  #next(ended: Ended): Attempt | SluiceError | undefined {
    const { policy, budget, prices } = this.#context
    const now = performance.now()
    const elapsedMs = now - this.#ledger.startedAt - this.#toolsMs
    const failure = ended instanceof SluiceError ? ended : undefined
    if (failure) this.failedAttempts.push(failure.code)
    const outcome = failure
      ? { failure, contentSent: this.#contentSent, continuable: this.#partial !== undefined, elapsedMs }
      : { end: ended as StepEnd, outputTokens: this.#ledger.usage().output_tokens, elapsedMs }
    const next = nextAttempt(this.attempt, outcome, policy, Math.random())
    if (!next || next instanceof SluiceError) return next
    if (failure && !calledNobody(failure) && !budget.take(now)) return undefined
    this.#ledger.nextRequest(prices.get(this.attempt.model))
    if (next.step > this.attempt.step) this.#ledger.nextStep()
    return next
  }

  /** Of the message under way. */
  get #contentSent(): boolean {
    return this.#state ? this.#state.contentSent : this.#ledger.contentSent
  }

  /** @param before how the attempt before ended */
  async #try(before: Ended | undefined): Promise<Ended> {
    const { attempt } = this
    let failure: SluiceError | undefined
    const { log } = this.#run
    const state = new AttemptState(() => {
      this.#run.onPhase()
      this.#run.onFirstEvents()
    })
    this.#state = state
    const { signal } = state.interrupt
    const { trace } = this.#options
    const spanId = trace && newSpanId()
    const seam = this.#seam(attempt)
    try {
      if (attempt.delayMs > 0) await delay(attempt.delayMs, undefined, { signal })
      if ((await this.#answerCalls(signal)) === 'shared') return 'end'
      const request = this.#request()
      const adopted = this.#options.taken !== undefined
      // The first one has been let in with the stream.
      if (before) await this.#context.limiter?.takeMore({ ...this.#ledger.soFar(), stream: log.id, adopted, request })
      signal.throwIfAborted()
      state.sentAt = performance.now()
      this.#run.onPhase()
      const traceparent = trace && spanId && traceparentOf(trace, spanId)
      const stream = await this.#context.upstream.open(request, signal, traceparent)
      state.opened(stream)
      this.#run.onPhase()
      failure = await pump(stream, {
        log,
        ledger: this.#ledger,
        progressOf: this.#options.progress ? this.#options.request.max_tokens : undefined,
        maxBytes: this.#context.maxBytes - this.upstreamBytes,
        clock: state,
        opening: before instanceof SluiceError ? openingOf(attempt, before) : undefined,
        seam,
      })
      if (failure) return state.contentSent ? await this.#lost(failure) : failure
      return await this.#whole()
    } catch (thrown) {
      failure = toSluiceError(signal.reason instanceof SluiceError ? signal.reason : thrown)
      return failure
    } finally {
      const ended = { before, spanId, failure: this.#run.ending ? undefined : failure }
      // Not pushed: an array that grows gets room for 17.
      if (state.sentAt !== undefined) this.tries = [...this.tries, state.report(attempt, state.sentAt, ended)]
      state.over()
      this.upstreamBytes += state.stream?.bytes ?? 0
      this.upstreamRequestId = state.stream?.requestId ?? this.upstreamRequestId
    }
  }

  #seam({ mode }: Attempt): Seam | undefined {
    if (!this.#partial || (mode !== 'prefill' && mode !== 'quote')) return undefined
    return new Seam(this.#partial, mode, () => this.#ledger.stepUsage())
  }

  #request(): MessageRequest {
    const { request } = this.#options
    const { model, mode } = this.attempt
    const asked = requestAfter(model === request.model ? request : { ...request, model }, this.#steps)
    return this.#partial && (mode === 'prefill' || mode === 'quote')
      ? requestForRest(asked, this.#partial, mode)
      : asked
  }

  /** Looks how Claude has left a message that is whole. */
  async #whole(): Promise<StepEnd> {
    const { stopReason } = this.#ledger
    this.#partial = undefined
    if (!this.#tools || (stopReason !== 'tool_use' && stopReason !== 'pause_turn')) return 'end'
    this.#steps = stepsOf(await this.#run.log.history())
    return this.#steps.at(-1)?.end ?? 'end'
  }

  /**
   * Gives the calls of the last step their results, those that have none yet.
   * @returns how that step had been left
   */
  async #answerCalls(signal: AbortSignal): Promise<StepEnd | undefined> {
    const step = this.#steps.at(-1)
    const began = performance.now()
    try {
      if (!this.#tools || !(await this.#tools.answer(step, signal))) return undefined
    } finally {
      this.#toolsMs += performance.now() - began
    }
    this.#steps = stepsOf(await this.#run.log.history())
    return step?.end
  }

  /**
   * Looks what readers have of an answer that was lost in its middle.
   * @returns `failure`, unless nothing is missing of the last message but the end mark
   */
  async #lost(failure: SluiceError): Promise<Ended> {
    const { recovery } = this.#context.policy
    if (!this.#ledger.contentSent || this.#run.ending || recovery.max_attempts === 0) return failure
    const { log } = this.#run
    const history = await log.history()
    const steps = stepsOf(history)
    const last = steps.at(-1)
    this.#partial = last?.end ? undefined : partialOf(last?.events ?? history, this.#options.request)
    if (this.#options.tools) this.#steps = last?.end ? steps : steps.slice(0, -1)
    if (this.#options.taken && !this.#state) this.#tools?.countEarlier(steps)
    if (last?.end) return last.end
    if (!this.#partial?.stopped) return failure
    await log.append([{ type: 'message_stop' }])
    return this.#whole()
  }
}

/** The call that follows is the first of this process: all keys were cooling down, or another process has died. */
function calledNobody({ code, reason }: SluiceError): boolean {
  return reason === 'cooldown' || code === 'replica_lost'
}
