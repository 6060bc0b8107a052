import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { SluiceError } from '../core/errors.ts'
import type { OrphanLog, Pressure, StreamLog } from '../core/ports.ts'
import { newStreamId } from '../core/position.ts'
import type { RunReport } from '../core/report.ts'
import type { MessageRequest } from '../core/request.ts'
import type { Plan, RunContext, RunOptions } from './context.ts'
import { endOrphan } from './orphan.ts'
import { Run } from './run.ts'

export interface StreamsOptions extends RunContext {
  /** Runs at one time; more are refused. */
  readonly maxStreams: number
  /** Whether this process can bear another one. */
  readonly pressure: Pressure
  /** Called at the end of every run. */
  onEnd(report: RunReport): void
  /** A defect of ours ended a run before its log was sealed. */
  onFault(fault: unknown): void
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
  readonly #live = new Set<Run>()
  #draining = false
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

  /** @throws SluiceError `shutting_down` or `too_many_streams`, before anything is sent to Claude */
  start(options: RunOptions): Run {
    this.#admit()
    return this.#run(options)
  }

  /**
   * Starts a run, or joins the one that the same key has begun.
   * @throws SluiceError as `start`; `key_reused` for another request under the key, `resume_unavailable` when its stream
   * is not held any more, `store_unavailable` when nobody can tell
   */
  async begin(options: RunOptions): Promise<Begun> {
    const { principal, request } = options
    const alias = nameOf(principal, options.alias)
    const key = nameOf(principal, options.key)
    if (key === undefined) return begunBy(this.start({ ...options, alias }))
    this.#admit()
    const id = newStreamId()
    const fingerprint = fingerprintOf(request)
    this.#claiming++
    try {
      const earlier = await this.#options.store.claim(key, { id, fingerprint, alias, principal })
      // Whoever asks again finds it lost, and the key free.
      if (!earlier && this.#drained) throw new SluiceError('shutting_down', { retryAfterMs: 1_000 })
      if (!earlier) return begunBy(this.#run({ ...options, id, key, alias }))
      if (earlier.fingerprint !== fingerprint) throw new SluiceError('key_reused')
      const log = await this.find(earlier.id, principal)
      if (!log) throw new SluiceError('resume_unavailable')
      return { log, run: undefined }
    } finally {
      this.#claiming--
      this.#checkIdle()
    }
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
        return void this.#run({ ...todo, principal: log.principal, taken: { log, history } })
    } catch (fault) {
      onFault(fault)
    }
    await endOrphan(log, prices).then(onEnd, onFault)
  }

  #admit(): void {
    if (this.#draining) throw new SluiceError('shutting_down', { retryAfterMs: 1_000 })
    if (this.#live.size + this.#claiming >= this.#options.maxStreams || this.#options.store.full)
      throw new SluiceError('too_many_streams', { retryAfterMs: 1_000 })
    const { reason } = this.#options.pressure
    if (reason !== undefined) throw new SluiceError('too_many_streams', { retryAfterMs: 1_000, reason })
  }

  #run(options: RunOptions): Run {
    const run = new Run(this.#options, options)
    this.#live.add(run)
    const ended = run.ended.then(this.#options.onEnd, this.#options.onFault)
    void ended.finally(() => {
      this.#live.delete(run)
      this.#checkIdle()
    })
    return run
  }

  #checkIdle(): void {
    if (this.#live.size + this.#claiming === 0) this.#onIdle()
  }

  /** Another principal's stream is as good as none: not even that it is there is anybody's business. */
  async find(id: string, principal: string): Promise<StreamLog | undefined> {
    const log = await this.#options.store.find(id)
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

/** Clients choose keys and aliases, and two principals may choose the same. No principal holds a blank: none can clash. */
function nameOf<T extends string | undefined>(principal: string, name: T): T {
  return (name === undefined || principal === '' ? name : `${principal} ${name}`) as T
}

/** Tells one request from another without keeping it. */
function fingerprintOf(request: MessageRequest): string {
  return createHash('sha256').update(JSON.stringify(request)).digest('base64url')
}
