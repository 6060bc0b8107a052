import { discreet } from '../core/discreet.ts'
import { SluiceError, toSluiceError } from '../core/errors.ts'
import type { CancelledBy, LogEvent, TerminalEvent } from '../core/events.ts'
import type { OwnerSignals, StreamLog } from '../core/ports.ts'
import { newStreamId } from '../core/position.ts'
import type { LiveRun, RunReport } from '../core/report.ts'
import type { Alarm, Swept } from '../core/sweep.ts'
import type { ToolDecision } from '../core/tools.ts'
import { Answer, type AnswerSignals } from './answer.ts'
import { clockErrors } from './clocks.ts'
import type { Plan, RunContext, RunOptions } from './context.ts'
import { Ledger, ledgerOf } from './ledger.ts'

/** A run that does not end when it is told to is told again, so many milliseconds later. */
const remindMs = 100

/** Why a run ends before Claude does. */
type Ending = { readonly cancelled: CancelledBy } | { readonly error: SluiceError }

/**
 * One generation: attempts at an answer, pumped into a log until exactly one terminal event ends it. It runs the same
 * way whoever listens; what the leaving of the last reader means is the disconnect policy.
 */
export class Run implements OwnerSignals, Swept, AnswerSignals {
  readonly log: StreamLog
  alarm: Alarm | undefined
  /** Resolves when the log has its first event: from then on its id is good for something, on every replica. */
  readonly logged: Promise<void>
  /** Resolves at upstream's first event that is no ping, or at the end, with the failure if it came to nothing. */
  readonly opened: Promise<SluiceError | undefined>
  /** Resolves when the log is sealed. */
  readonly ended: Promise<RunReport>

  readonly #context: RunContext
  readonly #options: RunOptions
  readonly #ledger: Ledger
  readonly #logging = Promise.withResolvers<void>()
  readonly #opening = Promise.withResolvers<SluiceError | undefined>()
  #ending: Ending | undefined
  readonly #answer: Answer
  /** Since when nobody reads; `undefined` while somebody does. */
  #lonelySince: number | undefined = performance.now()
  #hadReader = false
  #readers = 0
  /** No clock runs any more. */
  #over = false

  constructor(context: RunContext, options: RunOptions) {
    this.#context = context
    this.#options = options
    this.#ledger = options.taken ? ledgerOf(options.taken, context.prices) : new Ledger(performance.now())
    this.#ledger.keepsNames = options.trace !== undefined
    this.logged = this.#logging.promise
    this.opened = this.#opening.promise
    const { id = newStreamId(), principal, key, alias, taken } = options
    const plan = context.policy.recovery.max_attempts > 0 ? () => JSON.stringify(planOf(options)) : undefined
    this.log = taken?.log ?? context.store.create(id, { owner: this, principal, key, alias, plan })
    this.#answer = new Answer(this, context, options, this.#ledger)
    taken?.log.own(this)
    context.sweep.due(this, this.#dueAt())
    this.ended = this.#generate().catch((fault) => {
      this.#leaveSweep()
      this.#logging.resolve()
      this.#opening.resolve(toSluiceError(fault))
      throw fault
    })
  }

  onReaders(count: number): void {
    this.#readers = count
    this.#lonelySince = count > 0 ? undefined : performance.now()
    if (count > 0) this.#hadReader = true
    else if (this.#options.onDisconnect === 'cancel') this.#end({ cancelled: 'client' })
    else this.#hurry()
  }

  async onStop(): Promise<void> {
    this.#end({ cancelled: 'stop' })
    // A run that fails to end has been reported by whoever started it.
    await Promise.allSettled([this.ended])
  }

  onDecision(call: string, decision: ToolDecision): Promise<boolean> {
    return this.#answer.decide(call, decision)
  }

  onFenced(): void {
    this.#end({ error: new SluiceError('replica_lost', { reason: 'fenced' }) })
  }

  /** Ends the run for a reason that lies in none of what it does. */
  async fail(error: SluiceError): Promise<void> {
    this.#end({ error })
    await Promise.allSettled([this.ended])
  }

  onPhase(): void {
    this.#hurry()
  }

  onFirstEvents(): void {
    this.#opening.resolve(undefined)
  }

  get lastByteAt(): number | undefined {
    return this.#answer.current?.stream?.lastByteAt
  }

  get ending(): boolean {
    return this.#ending !== undefined
  }

  tick(now: number): number {
    if (now >= this.#totalAt) this.#end({ error: new SluiceError('total_timeout', { reason: 'total_ms' }) })
    if (now >= this.#abandonedAt) this.#end({ cancelled: 'client' })
    const next = this.#answer.deadline()
    if (next && now >= next.at) {
      this.#answer.interrupt(new SluiceError(clockErrors[next.clock], { reason: next.clock }))
    }
    const at = this.#dueAt()
    return at > now ? at : now + remindMs
  }

  /** A new phase has begun: its deadline may come before the one that the sweep knows of. */
  #hurry(): void {
    if (!this.#over) this.#context.sweep.due(this, this.#dueAt())
  }

  #leaveSweep(): void {
    this.#over = true
    this.#context.sweep.delete(this)
  }

  /** When a clock is next to be looked at. */
  #dueAt(): number {
    return Math.min(this.#totalAt, this.#abandonedAt, this.#answer.deadline()?.at ?? Number.POSITIVE_INFINITY)
  }

  get #totalAt(): number {
    return this.#ledger.startedAt + this.#context.timeouts.total_ms
  }

  /** When the absence of readers ends the run. */
  get #abandonedAt(): number {
    const policy = this.#options.onDisconnect
    if (this.#lonelySince === undefined || policy === 'finish') return Number.POSITIVE_INFINITY
    // Before anybody came, `cancel` waits as long as `grace` does: one client may open a stream for another to read.
    return this.#lonelySince + (policy === 'cancel' && this.#hadReader ? 0 : this.#context.graceMs)
  }

  /** The first reason to end wins; the attempt under way is interrupted and the pump sees why. */
  #end(ending: Ending): void {
    this.#ending ??= ending
    this.#answer.interrupt()
  }

  async #generate(): Promise<RunReport> {
    const { log } = this
    const answer = this.#answer
    if (!this.#options.taken) await log.append([this.#start()])
    this.#logging.resolve()
    let failure = this.#discreet(await answer.complete())
    // An answer that is whole is done, even when somebody wanted to end it in the same moment.
    if (!failure) this.#ending = undefined
    else if (this.#ending && 'error' in this.#ending) failure = this.#ending.error
    const now = performance.now()
    const terminal = this.#terminal(failure, now)
    this.#leaveSweep()
    await log.append([terminal])
    this.#opening.resolve(terminal.type === 'error' ? failure : undefined)
    return {
      stream: log.id,
      principal: log.principal,
      adopted: this.#options.taken !== undefined,
      requestId: this.#options.requestId,
      preset: this.#options.preset,
      model: answer.attempt.model,
      requestedModel: this.#options.request.model,
      terminal,
      costUsd: this.#ledger.cost(this.#context.prices.get(answer.attempt.model)),
      timing: this.#ledger.timing(now),
      startedAt: this.#ledger.startedAt,
      endedAt: now,
      attempts: answer.attempt.number,
      tries: answer.tries,
      failedAttempts: answer.failedAttempts,
      failure: terminal.type === 'error' ? failure : undefined,
      messageId: this.#ledger.messageId,
      responseModel: this.#ledger.responseModel,
      trace: this.#options.trace,
      upstreamBytes: answer.upstreamBytes,
      upstreamRequestId: answer.upstreamRequestId,
    }
  }

  #discreet(failure: SluiceError | undefined): SluiceError | undefined {
    const { preset, request } = this.#options
    return failure && preset !== undefined ? discreet(failure, request) : failure
  }

  /** What it has come to by now. */
  describe(now: number): LiveRun {
    const { attempt, current } = this.#answer
    const { id, principal } = this.log
    const { ttft_ms, duration_ms } = this.#ledger.timing(now)
    return {
      stream: id,
      principal,
      model: attempt.model,
      preset: this.#options.preset,
      state: this.ending ? 'ending' : (current?.phase ?? 'waiting'),
      ageMs: duration_ms,
      ttftMs: ttft_ms,
      outputTokens: this.#ledger.usage().output_tokens,
      readers: this.#readers,
      recoveries: attempt.continuations,
    }
  }

  #start(): LogEvent {
    const { log } = this
    const { request, echo = {}, tools } = this.#options
    const created = Math.floor(log.createdAt.getTime() / 1000)
    return { type: 'start', stream: log.id, model: request.model, created, echo, ...(tools && { tools }) }
  }

  #terminal(failure: SluiceError | undefined, now: number): TerminalEvent {
    const ledger = this.#ledger
    const usage = ledger.usage()
    const timing = ledger.timing(now)
    if (this.#ending && 'cancelled' in this.#ending) return { type: 'cancelled', by: this.#ending.cancelled, usage }
    if (failure) return { type: 'error', error: failure.toPublic(), partial: ledger.contentSent, usage, timing }
    const { attempt, upstreamRequestId } = this.#answer
    const price = this.#context.prices.get(attempt.model)
    return ledger.done(now, { price, upstreamRequestId, recovered: attempt.continuations })
  }
}

function planOf({ request, onDisconnect, requestId, progress, tools, preset, trace }: Plan): Plan {
  return { request, onDisconnect, requestId, progress, tools, preset, trace }
}
