import { setTimeout as delay } from 'node:timers/promises'
import { SluiceError } from '../../core/errors.ts'
import type { LogEvent, TerminalEvent } from '../../core/events.ts'
import type { Cursor, LogReader, StreamLog } from '../../core/ports.ts'
import { randomText } from '../../core/random.ts'
import type { ToolDecision } from '../../core/tools.ts'
import { ifThere, orUnavailable, StoreAway } from '../../redis/link.ts'
import { LocalLog } from '../local.ts'
import type { Reading, RedisCommands } from './commands.ts'
import { Questions, toWord } from './questions.ts'

/** Readers of a Redis that stays away are told so after this long, in milliseconds. */
const awayMs = 30_000
/** A log that nobody reads is kept for the next reader this long, in milliseconds. */
const lingerMs = 5_000
/** How long an owner may take to say how far it is, and what it has to come, in milliseconds. */
const answerMs = 1_000
const arrivalMs = 2_000
const rereadMs = 25
/** How often an owner that does not stop its stream is asked again: a dead one is replaced meanwhile. */
const stopAsks = 8
const stopAskMs = 1_000

/** A log that another replica writes, as far as it has been read from Redis: its readers here share one copy. */
export class FollowedLog implements StreamLog {
  readonly id: string
  readonly principal: string
  readonly createdAt: Date
  readonly local: LocalLog
  readonly #commands: RedisCommands
  #owner: string
  #epoch: number
  #reading: Promise<void> | undefined
  #readAgain = false
  #readAt = performance.now()
  #usedAt = performance.now()
  /** Requests that wait for what it will know: some of them are about to read it. */
  #waiting = 0
  /** Answered once the log has got its end, or lost it. */
  readonly #ends = new Questions<true>()
  /** How many events the owner has. */
  readonly heads = new Questions<number>()
  /** Whether calls waited for what was decided on them. */
  readonly decisions = new Questions<boolean>()

  /**
   * @param reading what is known so far
   * @param local has the log's beginning already, and perhaps readers
   */
  constructor(id: string, reading: Reading, commands: RedisCommands, local?: LocalLog) {
    this.id = id
    this.principal = reading.principal
    this.createdAt = reading.createdAt
    this.#owner = reading.owner
    this.#epoch = reading.epoch
    this.#commands = commands
    this.local = local ?? new LocalLog({ onReaders: () => this.#tellOwner(), onGrown: () => {} })
    this.#take(reading)
  }

  get shared(): boolean {
    return this.#commands.up
  }

  get loss(): SluiceError | undefined {
    return this.local.loss
  }

  append(): never {
    throw new Error('append to a log of another replica')
  }

  cursor(reader: LogReader): Cursor {
    this.#usedAt = performance.now()
    return this.local.cursor(reader)
  }

  async history(): Promise<readonly LogEvent[]> {
    return this.local.history()
  }

  async terminal(): Promise<TerminalEvent | undefined> {
    return this.local.terminal
  }

  caughtUp(): Promise<boolean> {
    return orUnavailable(this.#use(() => this.#catchUp()))
  }

  /** Somebody has asked for it. */
  touch(): void {
    this.#usedAt = performance.now()
  }

  async #use<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++
    try {
      return await work()
    } finally {
      this.#waiting--
      this.touch()
    }
  }

  async #catchUp(): Promise<boolean> {
    await this.read()
    if (this.local.loss) throw this.local.loss
    if (this.local.terminal) return true
    // Redis may lack what readers at the owner have had already: only the owner knows.
    const n = await this.#askOwner()
    const until = performance.now() + arrivalMs
    await this.read()
    while (n !== undefined && this.local.length < n && !this.#over && performance.now() < until) {
      await delay(rereadMs)
      await this.read()
    }
    return n !== undefined && this.local.length >= n
  }

  /** @returns how many events the owner has; `undefined` when it does not answer */
  #askOwner(): Promise<number | undefined> {
    return this.heads.ask(answerMs, () =>
      this.#commands.tell(this.#owner, `head? ${this.id} ${this.#commands.replica}`),
    )
  }

  expectReaders(): void {
    void ifThere(this.#commands.tell(this.#owner, `expect ${this.id}`))
  }

  /** @throws SluiceError `store_unavailable` when the stream goes on after all */
  stop(): Promise<void> {
    return orUnavailable(this.#use(() => this.#stop()))
  }

  async #stop(): Promise<void> {
    // Its owner may be writing on where Redis cannot follow.
    const stop = `stop ${this.id} ${this.#commands.replica}`
    if (this.local.loss) await this.#commands.tell(this.#owner, stop)
    for (let asked = 0; asked < stopAsks && !this.#over; asked++) {
      await this.#ends.ask(stopAskMs, () => this.#commands.tell(this.#owner, stop))
      await this.read()
    }
    if (!this.#over) throw new SluiceError('store_unavailable', { retryAfterMs: 1_000 })
  }

  get #over(): boolean {
    return this.local.terminal !== undefined || this.local.loss !== undefined
  }

  decide(call: string, decision: ToolDecision): Promise<boolean> {
    return orUnavailable(this.#use(() => this.#decide(call, decision)))
  }

  async #decide(call: string, decision: ToolDecision): Promise<boolean> {
    const id = randomText(12)
    const words = [this.id, this.#commands.replica, id, ...[call, JSON.stringify(decision)].map(toWord)].join(' ')
    for (let asked = 0; asked < stopAsks && !this.#over; asked++) {
      const taken = await this.decisions.ask(stopAskMs, () => this.#commands.tell(this.#owner, `decide ${words}`), id)
      await this.read()
      if (taken !== undefined) return taken
    }
    if (!this.#over) throw new SluiceError('store_unavailable', { retryAfterMs: 1_000 })
    return false
  }

  /**
   * Takes in what Redis has by now, at least as of this call.
   * @throws StoreAway
   */
  read(): Promise<void> {
    this.#readAgain = true
    this.#reading ??= this.#readOn()
    return this.#reading
  }

  async #readOn(): Promise<void> {
    try {
      while (this.#readAgain && !this.#over) {
        this.#readAgain = false
        const reading = await this.#commands.read(this.id, this.local.length)
        this.#readAt = performance.now()
        this.#take(reading)
      }
    } catch (error) {
      if (error instanceof StoreAway) throw error
      // What is there cannot be read: that is the end for its readers here, and for nobody else.
      this.local.lose(new SluiceError('internal', { cause: error }))
    } finally {
      this.#reading = undefined
      if (this.#over) this.#ends.answer(true)
    }
  }

  #take(reading: Reading | undefined): void {
    const { local } = this
    // Gone, set back, or written anew from a point that readers here are beyond: what follows is not what followed.
    const isOther = reading && reading.epoch !== this.#epoch && reading.began < local.length
    if (!reading || isOther || reading.n < local.length) return void local.lose(new SluiceError('resume_unavailable'))
    this.#epoch = reading.epoch
    this.#meet(reading.owner)
    for (const { last, events } of reading.batches) {
      const known = local.length - (last - events.length)
      // Something in between is gone.
      if (known < 0) return void local.lose(new SluiceError('resume_unavailable'))
      if (known < events.length) local.append(events.slice(known))
    }
    if (local.length < reading.n && reading.batches.length === 0) local.lose(new SluiceError('resume_unavailable'))
    else if (local.length < reading.n) this.#readAgain = true
    else if (reading.state === 'cut') local.lose(new SluiceError('resume_unavailable'))
  }

  /** A new owner knows of no readers, and so neither rings their bell nor goes on for them. */
  #meet(owner: string): void {
    if (owner === this.#owner) return
    this.#owner = owner
    if (this.local.readers > 0) this.#tellOwner()
  }

  /**
   * What has to be done now and then: bells can be lost.
   * @returns false when nobody has needed the log for a while
   */
  sweep(now: number): boolean {
    const { readers } = this.local
    if (readers > 0) this.#usedAt = now
    if (readers > 0 && !this.#over) {
      this.#tellOwner()
      void this.readIfThere()
      if (now - this.#readAt >= awayMs) this.local.lose(new SluiceError('store_unavailable'))
    }
    return this.#waiting > 0 || now - this.#usedAt < lingerMs
  }

  /** Reads what there is; a Redis that is away is asked again by the next sweep. */
  async readIfThere(): Promise<void> {
    await ifThere(this.read())
  }

  #tellOwner(): void {
    const message = `readers ${this.id} ${this.#commands.replica} ${this.local.readers}`
    void ifThere(this.#commands.tell(this.#owner, message))
  }
}
