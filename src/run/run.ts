import { setTimeout as delay } from 'node:timers/promises'
import { SluiceError, toSluiceError } from '../core/errors.ts'
import type { CancelledBy, Echo, TerminalEvent } from '../core/events.ts'
import type { LogStore, OwnerSignals, StreamLog, Upstream } from '../core/ports.ts'
import { newStreamId } from '../core/position.ts'
import type { RunReport } from '../core/report.ts'
import type { DisconnectPolicy, MessageRequest } from '../core/request.ts'
import type { Sweep, Swept } from '../core/sweep.ts'
import type { Price } from '../core/usage.ts'
import { AttemptState } from './attempt.ts'
import { type Attempt, firstAttempt, nextAttempt, type Outcome, type RetryOptions } from './attempts.ts'
import { clockErrors, type Timeouts } from './clocks.ts'
import { Ledger } from './ledger.ts'
import { pump } from './pump.ts'

/** What a run needs from the outside. */
export interface RunContext {
  readonly upstream: Upstream
  readonly store: LogStore
  readonly sweep: Sweep
  readonly timeouts: Timeouts
  readonly retry: RetryOptions
  readonly graceMs: number
  readonly maxBytes: number
  readonly prices: ReadonlyMap<string, Price>
}

export interface RunOptions {
  /** Of its stream; a new one unless given. */
  readonly id?: string | undefined
  /** The idempotency key that was claimed for that id. */
  readonly key?: string | undefined
  readonly request: MessageRequest
  readonly onDisconnect: DisconnectPolicy
  /** Of the HTTP request, for the log. */
  readonly requestId: string
  readonly echo?: Echo | undefined
  /** Tell now and then how far the answer is. */
  readonly progress?: boolean | undefined
  /** Another name to find the stream by while it is live, such as a chat's id. */
  readonly alias?: string | undefined
}

/** A run that does not end when it is told to is told again, so many milliseconds later. */
const remindMs = 100

/** Why a run ends before Claude does. */
type Ending = { readonly cancelled: CancelledBy } | { readonly error: SluiceError }

/**
 * One generation: attempts at an answer, pumped into a log until exactly one terminal event ends it. It runs the same
 * way whoever listens; what the leaving of the last reader means is the disconnect policy.
 */
export class Run implements OwnerSignals, Swept {
  readonly log: StreamLog
  /** Resolves when the log has its first event: from then on its id is good for something, on every replica. */
  readonly logged: Promise<void>
  /** Resolves at upstream's first event that is no ping, or at the end, with the failure if it came to nothing. */
  readonly opened: Promise<SluiceError | undefined>
  /** Resolves when the log is sealed. */
  readonly ended: Promise<RunReport>

  readonly #context: RunContext
  readonly #options: RunOptions
  readonly #ledger = new Ledger(performance.now())
  readonly #logging = Promise.withResolvers<void>()
  readonly #opening = Promise.withResolvers<SluiceError | undefined>()
  #ending: Ending | undefined
  #attempt: AttemptState | undefined
  /** Since when nobody reads; `undefined` while somebody does. */
  #lonelySince: number | undefined = this.#ledger.startedAt
  #hadReader = false
  /** No clock runs any more. */
  #over = false
  #upstreamBytes = 0
  #upstreamRequestId: string | null = null

  constructor(context: RunContext, options: RunOptions) {
    this.#context = context
    this.#options = options
    this.logged = this.#logging.promise
    this.opened = this.#opening.promise
    const { id = newStreamId(), key, alias } = options
    this.log = context.store.create(id, { owner: this, key, alias })
    context.sweep.due(this, this.#dueAt())
    this.ended = this.#generate().catch((fault) => {
      this.#leaveSweep()
      this.#logging.resolve()
      this.#opening.resolve(toSluiceError(fault))
      throw fault
    })
  }

  onReaders(count: number): void {
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

  onFenced(): void {
    this.#end({ error: new SluiceError('replica_lost', { reason: 'fenced' }) })
  }

  /** Ends the run because the process has to. */
  async shutDown(): Promise<void> {
    this.#end({ error: new SluiceError('shutting_down') })
    await Promise.allSettled([this.ended])
  }

  tick(now: number): number {
    if (now >= this.#totalAt) this.#end({ error: new SluiceError('total_timeout', { reason: 'total_ms' }) })
    if (now >= this.#abandonedAt) this.#end({ cancelled: 'client' })
    const next = this.#attempt?.deadline(this.#context.timeouts)
    if (next && now >= next.at) {
      this.#attempt?.interrupt.abort(new SluiceError(clockErrors[next.clock], { reason: next.clock }))
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
    const attempt = this.#attempt?.deadline(this.#context.timeouts)
    return Math.min(this.#totalAt, this.#abandonedAt, attempt?.at ?? Number.POSITIVE_INFINITY)
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
    this.#attempt?.interrupt.abort()
  }

  async #generate(): Promise<RunReport> {
    const { log } = this
    let attempt: Attempt = firstAttempt
    let failure: SluiceError | undefined
    const { model } = this.#options.request
    const created = Math.floor(log.createdAt.getTime() / 1000)
    await log.append([{ type: 'start', stream: log.id, model, created, echo: this.#options.echo ?? {} }])
    this.#logging.resolve()
    for (let next: Attempt | undefined = attempt; next && !this.#ending; ) {
      attempt = next
      failure = await this.#try(attempt)
      // An answer that is whole is done, even when somebody wanted to end it in the same moment.
      if (!failure) this.#ending = undefined
      next = failure && nextAttempt(attempt, this.#outcome(failure), this.#context.retry, Math.random())
    }
    if (this.#ending && 'error' in this.#ending) failure = this.#ending.error
    const now = performance.now()
    const terminal = this.#terminal(failure, now)
    this.#leaveSweep()
    await log.append([terminal])
    this.#opening.resolve(terminal.type === 'error' ? failure : undefined)
    return {
      stream: log.id,
      requestId: this.#options.requestId,
      model,
      terminal,
      timing: this.#ledger.timing(now),
      attempts: attempt.number,
      failure: terminal.type === 'error' ? failure : undefined,
      upstreamBytes: this.#upstreamBytes,
      upstreamRequestId: this.#upstreamRequestId,
    }
  }

  #outcome(failure: SluiceError): Outcome {
    const elapsedMs = performance.now() - this.#ledger.startedAt
    return { failure, contentSent: this.#ledger.contentSent, elapsedMs }
  }

  /** @returns why the attempt came to nothing; `undefined` when the answer is whole */
  async #try({ delayMs }: Attempt): Promise<SluiceError | undefined> {
    const state = new AttemptState(() => {
      this.#hurry()
      this.#opening.resolve(undefined)
    })
    this.#attempt = state
    const { signal } = state.interrupt
    try {
      if (delayMs > 0) await delay(delayMs, undefined, { signal })
      state.sentAt = performance.now()
      this.#hurry()
      const stream = await this.#context.upstream.open(this.#options.request, signal)
      state.opened(stream)
      this.#hurry()
      return await pump(stream, {
        log: this.log,
        ledger: this.#ledger,
        progressOf: this.#options.progress ? this.#options.request.max_tokens : undefined,
        maxBytes: this.#context.maxBytes - this.#upstreamBytes,
        clock: state,
      })
    } catch (thrown) {
      return toSluiceError(signal.reason instanceof SluiceError ? signal.reason : thrown)
    } finally {
      this.#attempt = undefined
      this.#upstreamBytes += state.stream?.bytes ?? 0
      this.#upstreamRequestId = state.stream?.requestId ?? this.#upstreamRequestId
    }
  }

  #terminal(failure: SluiceError | undefined, now: number): TerminalEvent {
    const ledger = this.#ledger
    const usage = ledger.usage()
    const timing = ledger.timing(now)
    if (this.#ending && 'cancelled' in this.#ending) return { type: 'cancelled', by: this.#ending.cancelled, usage }
    if (failure) return { type: 'error', error: failure.toPublic(), partial: ledger.contentSent, usage, timing }
    return ledger.done(now, this.#context.prices.get(this.#options.request.model), this.#upstreamRequestId)
  }
}
