import type { Logger } from 'pino'

/** EX_CONFIG of sysexits.h: started again as it is, it will fail again. */
export const configurationExit = 78

/** A worker that lives shorter than this has died quickly. */
const quickMs = 10_000
/** Pauses before the next start: after a long life, after one quick death, two in a row, and so on; then no more. */
const pausesMs = [100, 500, 1_000, 2_000, 4_000]
/** How much longer than `drainMs` a worker may take to end before it is killed. */
const marginMs = 3_000

/** How often a worker that serves gives a sign of life, and how often they are looked for. */
export const signMs = 1_000
/**
 * After so many looks without one a worker is taken to hang, and is killed. Others have its streams after 5 s of that, and
 * a full collection of garbage takes 0.1 s, but a machine that swaps should not be made to start processes as well. It is
 * looks that are counted: however long the primary itself is stopped, or the machine suspended, it is one look.
 */
const maxMissed = 30

export interface WorkerProcess {
  readonly id: number
  readonly pid: number | undefined
  send(order: 'drain' | 'hurry'): void
  kill(): void
}

export interface WorkerEvents {
  /** It serves. */
  onUp(url: string): void
  onSign(): void
  onGone(code: number | null, signal?: string): void
}

export interface SupervisorOptions {
  readonly workers: number
  readonly drainMs: number
  readonly log: Pick<Logger, 'info' | 'error' | 'fatal'>
  start(events: WorkerEvents): WorkerProcess
}

/** The place of a worker, which others take after it. */
interface Seat {
  process?: WorkerProcess | undefined
  isUp: boolean
  /** Looks since its last sign of life. */
  missed: number
  startedAt: number
  quickDeaths: number
  restart?: NodeJS.Timeout
}

/** Keeps so many workers alive, until it is stopped or they cannot live. */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #seats: Seat[]
  /** The first worker has served: what keeps any from starting does not keep this one. */
  #proven = false
  #told = false
  #stopping = false
  #code = 0
  #deadline: NodeJS.Timeout | undefined
  readonly #watch: NodeJS.Timeout
  readonly #end = Promise.withResolvers<number>()

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#seats = Array.from({ length: options.workers }, () => ({
      isUp: false,
      missed: 0,
      startedAt: 0,
      quickDeaths: 0,
    }))
    this.#watch = setInterval(() => this.#look(), signMs)
    // What is wrong with all of them is said by one.
    this.#start(this.#seats[0] as Seat)
  }

  /** Resolves with an exit code when all workers are gone for good. */
  get ended(): Promise<number> {
    return this.#end.promise
  }

  /** Lets all workers drain. Called again, they wait no longer. */
  stop(): void {
    const order = this.#stopping ? 'hurry' : 'drain'
    this.#stopping = true
    // From here on the deadline is all there is.
    clearInterval(this.#watch)
    for (const { process, restart } of this.#seats) {
      clearTimeout(restart)
      process?.send(order)
    }
    clearTimeout(this.#deadline)
    const patienceMs = (order === 'drain' ? this.#options.drainMs : 0) + marginMs
    this.#deadline = setTimeout(() => this.#killAll(), patienceMs)
    this.#endIfAlone()
  }

  #start(seat: Seat): void {
    seat.startedAt = performance.now()
    seat.process = this.#options.start({
      onUp: (url) => this.#onUp(seat, url),
      onSign: () => {
        seat.missed = 0
      },
      onGone: (code, signal) => this.#onGone(seat, code, signal),
    })
  }

  #onUp(seat: Seat, url: string): void {
    const { log } = this.#options
    seat.isUp = true
    seat.missed = 0
    log.info({ worker: seat.process?.id, pid: seat.process?.pid }, 'worker is up')
    if (!this.#proven && !this.#stopping) for (const each of this.#seats.slice(1)) this.#start(each)
    this.#proven = true
    if (this.#told || !this.#seats.every(({ isUp }) => isUp)) return
    this.#told = true
    log.info({ url, workers: this.#seats.length }, 'listening')
  }

  /** Until it serves a worker says nothing, and has as long as it needs. */
  #look(): void {
    for (const seat of this.#seats) {
      if (!seat.isUp || ++seat.missed !== maxMissed) continue
      this.#options.log.error({ worker: seat.process?.id, silent_ms: maxMissed * signMs }, 'worker hangs: killed')
      seat.process?.kill()
    }
  }

  #onGone(seat: Seat, code: number | null, signal: string | undefined): void {
    const { process, isUp } = seat
    seat.process = undefined
    seat.isUp = false
    if (this.#stopping) {
      if (isUp && code !== 0) this.#code ||= 1
      this.#endIfAlone()
      return
    }
    seat.quickDeaths = performance.now() - seat.startedAt < quickMs ? seat.quickDeaths + 1 : 0
    const pauseMs = pausesMs[seat.quickDeaths]
    const death = { worker: process?.id, ...(signal ? { signal } : { code }) }
    if (code === configurationExit || !this.#proven || pauseMs === undefined) {
      const why = pauseMs === undefined ? 'workers die as soon as they are started' : 'workers cannot start'
      this.#options.log.fatal(death, `${why}: giving up`)
      this.#code = code || 1
      this.stop()
    } else {
      this.#options.log.error({ ...death, restart_in_ms: pauseMs }, 'worker died')
      seat.restart = setTimeout(() => this.#start(seat), pauseMs)
    }
  }

  #killAll(): void {
    for (const { process } of this.#seats) {
      if (!process) continue
      this.#options.log.error({ worker: process.id }, 'worker does not end: killed')
      this.#code ||= 1
      process.kill()
    }
  }

  #endIfAlone(): void {
    if (this.#seats.some(({ process }) => process)) return
    clearTimeout(this.#deadline)
    this.#end.resolve(this.#code)
  }
}
