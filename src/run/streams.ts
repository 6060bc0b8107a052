import { setTimeout as delay } from 'node:timers/promises'
import { SluiceError } from '../core/errors.ts'
import type { StreamLog } from '../core/ports.ts'
import type { RunReport } from '../core/report.ts'
import { Run, type RunContext, type RunOptions } from './run.ts'

export interface StreamsOptions extends RunContext {
  /** Runs at one time; more are refused. */
  readonly maxStreams: number
  /** Called at the end of every run. */
  onEnd(report: RunReport): void
}

/** How long runs get to write their terminal event when they have to end, in milliseconds. */
const endMs = 1_000

/** The runs of this process: admits them, finds their logs, ends them. */
export class Streams {
  readonly #options: StreamsOptions
  readonly #live = new Set<Run>()
  #draining = false

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
    if (this.#draining) throw new SluiceError('shutting_down', { retryAfterMs: 1_000 })
    if (this.#live.size >= this.#options.maxStreams || this.#options.store.full)
      throw new SluiceError('too_many_streams', { retryAfterMs: 1_000 })
    const run = new Run(this.#options, options)
    this.#live.add(run)
    void run.ended.then((report) => {
      this.#live.delete(run)
      this.#options.onEnd(report)
    })
    return run
  }

  find(id: string): Promise<StreamLog | undefined> {
    return this.#options.store.find(id)
  }

  findLive(alias: string): Promise<StreamLog | undefined> {
    return this.#options.store.findLive(alias)
  }

  /** Refuses new runs from now on. */
  refuse(): void {
    this.#draining = true
  }

  /** Lets the live runs go on for up to `drainMs`, then ends the rest; resolves when none is left. */
  async drain(drainMs: number, signal: AbortSignal): Promise<void> {
    this.refuse()
    const ended = Promise.all([...this.#live].map((run) => run.ended))
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, drainMs)
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
    await Promise.race([ended, late])
    clearTimeout(timer)
    // A run that cannot end must not keep the process from ending.
    const forced = Promise.all([...this.#live].map((run) => run.shutDown()))
    await Promise.race([forced, delay(endMs)])
  }
}
