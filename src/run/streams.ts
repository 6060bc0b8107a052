import { setTimeout as delay } from 'node:timers/promises'
import { Bag } from '../core/bag.ts'
import { SluiceError } from '../core/errors.ts'
import type { Claim, OrphanLog, Pressure, StreamLog } from '../core/ports.ts'
import { newStreamId } from '../core/position.ts'
import type { LiveRun, RunReport } from '../core/report.ts'
import type { MessageRequest } from '../core/request.ts'
import { continueTrace } from '../core/trace.ts'
import type { Plan, RunContext, RunOptions } from './context.ts'
import { fingerprintOf, nameOf } from './names.ts'
import { offer } from './offer.ts'
import { endOrphan } from './orphan.ts'
import { Run } from './run.ts'

export interface StreamsOptions extends RunContext {
  /** Runs at one time; more are refused. */
  readonly maxStreams: number
  /** Whether this process can bear another one. */
  readonly pressure: Pressure
  /** Called at the end of every run. */
  onEnd(report: RunReport): void
}

/** Decides whether one more stream may begin, by what its reader has used. */
export interface Admission {
  /**
   * Takes what the stream may use.
   * @param request as Claude gets it
   * @throws SluiceError
   */
  take(stream: string, request: MessageRequest): Promise<void>
  /** It never began. */
  giveBack(stream: string): void
}

/** A stream that was asked for. */
export interface Begun {
  readonly log: StreamLog
  /** What writes it; `undefined` when the stream was there before. */
  readonly run: Run | undefined
}

/** How long runs get to write their terminal event when they have to end, in milliseconds. */
const endMs = 1_000

/** The runs of this process: admits them, finds their logs, ends them. */
export class Streams {
  readonly #options: StreamsOptions
  readonly #live = new Bag<Run>()
  #draining = false
  /** Runs that this process has begun, or taken over. */
  begun = 0
  /** Whatever would begin now, nobody would end. */
  #drained = false
  /** Keys being claimed: each may become a run. */
  #claiming = 0
  #onIdle = () => {}

  constructor(options: StreamsOptions) {
    this.#options = options
  }

  get live(): number {
    return this.#live.size
  }

  get draining(): boolean {
    return this.#draining
  }

  /** The runs under way, as they are now. */
  list(): LiveRun[] {
    const now = performance.now()
    return Array.from(this.#live, (run) => run.describe(now))
  }

  /** Ends a live stream, whosever it is and wherever it runs. @returns false when there is none of that name */
  async stop(id: string): Promise<boolean> {
    const log = await this.#options.store.find(id)
    if (!log || (await log.terminal())) return false
    await log.stop()
    return true
  }

  /** When upstream's last bytes for a log came, in milliseconds of the monotonic clock, if its run is here. */
  lastByteAt(log: StreamLog): number | undefined {
    for (const run of this.#live) if (run.log === log) return run.lastByteAt
    return undefined
  }

  /** @throws SluiceError `invalid_request`, `shutting_down` or `too_many_streams`, before anything is sent to Claude */
  start(options: RunOptions): Run {
    const offering = offer(options, this.#options.toolbox)
    this.#admit()
    return this.#run(offering)
  }

  /**
   * Starts a run, or joins the one that the same key has begun.
   * @throws SluiceError as `start`; `key_reused` for another request under the key, `resume_unavailable` when its stream
   * is not held any more, `store_unavailable` when nobody can tell
   * @param admission has the last word on a new run, and none on one that is there
   */
  async begin(options: RunOptions, admission?: Admission): Promise<Begun> {
    const { principal } = options
    const alias = nameOf(principal, options.alias)
    const key = nameOf(principal, options.key)
    if (key === undefined && !admission) return begunBy(this.start({ ...options, alias }))
    const offering = offer(options, this.#options.toolbox)
    this.#admit()
    const { id = newStreamId() } = options
    this.#claiming++
    try {
      // What is there already costs nothing again.
      const known = key !== undefined && admission && (await this.#options.store.claimed(key))
      if (key !== undefined && known) return await this.#join(known, fingerprintOf(options.request), principal)
      await admission?.take(id, offering.request)
      return await this.#claim({ ...offering, id, key, alias }, fingerprintOf(options.request), admission)
    } finally {
      this.#claiming--
      this.#checkIdle()
    }
  }

  /**
   * Runs what has been let in, unless its key was another's by then.
   * @param fingerprint of what the client has written: the tools that are offered with it come and go
   */
  async #claim(
    options: RunOptions & { readonly id: string },
    fingerprint: string,
    admission: Admission | undefined,
  ): Promise<Begun> {
    const { id, key, alias, principal } = options
    let run: Run | undefined
    try {
      const claim = { id, fingerprint, alias, principal }
      const earlier = key === undefined ? undefined : await this.#options.store.claim(key, claim)
      if (earlier) return await this.#join(earlier, fingerprint, principal)
      // Whoever asks again finds it lost, and the key free.
      if (this.#drained) throw new SluiceError('shutting_down', { retryAfterMs: 1_000 })
      run = this.#run(options)
      return begunBy(run)
    } finally {
      if (!run) admission?.giveBack(id)
    }
  }

  async #join({ id, fingerprint }: Claim, asked: string, principal: string): Promise<Begun> {
    if (fingerprint !== asked) throw new SluiceError('key_reused')
    const log = await this.find(id, principal)
    if (!log) throw new SluiceError('resume_unavailable')
    return { log, run: undefined }
  }

  /**
   * Takes care of a log whose run died with its replica: goes on with it where that is allowed, or ends it.
   * @param plan as that run gave it to the store
   */
  async adopt(log: OrphanLog, plan: string | undefined): Promise<void> {
    const { policy, prices, onEnd, onFault } = this.#options
    const goesOn = plan !== undefined && policy.recovery.max_attempts > 0 && !this.#draining
    try {
      const history = await log.history()
      const todo = goesOn ? (JSON.parse(plan) as Plan) : undefined
      // Its readers went with the replica, and with them the wish for the rest.
      if (todo && todo.onDisconnect !== 'cancel')
        return void this.#run({
          ...todo,
          trace: todo.trace && continueTrace(todo.trace),
          principal: log.principal,
          taken: { log, history },
        })
    } catch (fault) {
      onFault(fault)
    }
    await endOrphan(log, prices).then(onEnd, (fault) => onFault(fault, log.id))
  }

  #admit(): void {
    if (this.#draining) throw new SluiceError('shutting_down', { retryAfterMs: 1_000 })
    const { maxStreams, store, pressure } = this.#options
    const full = this.#live.size + this.#claiming >= maxStreams ? 'max_streams' : store.full && 'max_total_bytes'
    const reason = full || pressure.reason
    if (reason !== undefined) throw new SluiceError('too_many_streams', { retryAfterMs: 1_000, reason })
  }

  #run(options: RunOptions): Run {
    const run = new Run(this.#options, options)
    const place = this.#live.add(run)
    this.begun++
    const ended = run.ended.then(this.#options.onEnd, (fault) => this.#options.onFault(fault, run.log.id))
    void ended.finally(() => {
      this.#live.remove(place)
      this.#checkIdle()
    })
    return run
  }

  #checkIdle(): void {
    if (this.#live.size + this.#claiming === 0) this.#onIdle()
  }

  /** Another principal's stream is as good as none: not even that it is there is anybody's business. */
  async find(id: string, principal: string): Promise<StreamLog | undefined> {
    const log = await this.#options.store.find(id, principal)
    return log?.principal === principal ? log : undefined
  }

  async findLive(alias: string, principal: string): Promise<StreamLog | undefined> {
    const log = await this.#options.store.findLive(nameOf(principal, alias))
    return log?.principal === principal ? log : undefined
  }

  /** Ends the live runs of principals who have been let in and are not any more. */
  revoke(isRevoked: (principal: string) => boolean): void {
    for (const run of this.#live) {
      if (isRevoked(run.log.principal)) void run.fail(new SluiceError('access_revoked'))
    }
  }

  /** Refuses new runs from now on. */
  refuse(): void {
    this.#draining = true
  }

  /** Lets the live runs go on for up to `drainMs`, then ends the rest; resolves when none is left. */
  async drain(drainMs: number, signal: AbortSignal): Promise<void> {
    this.refuse()
    const { promise: over, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, drainMs)
    signal.addEventListener('abort', () => resolve(), { once: true })
    this.#onIdle = resolve
    this.#checkIdle()
    if (signal.aborted) resolve()
    await over
    clearTimeout(timer)
    this.#drained = true
    // A run that cannot end must not keep the process from ending.
    const forced = Promise.all([...this.#live].map((run) => run.fail(new SluiceError('shutting_down'))))
    await Promise.race([forced, delay(endMs)])
  }
}

function begunBy(run: Run): Begun {
  return { log: run.log, run }
}
