import { setTimeout as delay } from 'node:timers/promises'
import { encodeEvent } from '../../core/codec.ts'
import { cameToNothing, isTerminal, type LogEvent, type TerminalEvent } from '../../core/events.ts'
import type { Cursor, LogReader, OrphanLog, OwnerSignals } from '../../core/ports.ts'
import type { ToolDecision } from '../../core/tools.ts'
import { StoreAway } from '../../redis/link.ts'
import type { MemoryLog } from '../memory.ts'
import type { Batch, RedisCommands, Standing } from './commands.ts'
import type { OwnedOptions } from './owned-options.ts'
import { ReadersElsewhere } from './presence.ts'
import { OwnerSeat } from './seat.ts'
import { type Outcome, type State, transitions } from './states.ts'

/** How long a stream that begins while Redis fails waits for it to be back, and how often it looks, in milliseconds. */
const firstBatchMs = 1_000
const retryMs = 50
/** Events sent to Redis at a time when it has some to catch up on. */
const eventsPerBatch = 512

/** A log whose run is in this process. Readers here are fed from memory; Redis has a copy for everybody else. */
export class OwnedLog implements OrphanLog {
  readonly id: string
  readonly principal: string
  readonly createdAt: Date
  readonly epoch: number
  readonly memory: MemoryLog
  readonly loss = undefined
  readonly #commands: RedisCommands
  readonly #options: OwnedOptions
  state: State
  /** Events that Redis has. */
  stored: number
  #catchingUp = false
  /** What the run is to do, until it has been sent. */
  #plan: string
  readonly #seat = new OwnerSeat()
  readonly #elsewhere = new ReadersElsewhere()
  /** When its terminal event came. */
  #sealedAt: number | undefined

  /** @param memory holds what Redis has, and nothing else yet */
  constructor(memory: MemoryLog, commands: RedisCommands, options: OwnedOptions, plan = '') {
    this.id = memory.id
    this.principal = memory.principal
    this.createdAt = memory.createdAt
    this.epoch = options.epoch
    this.memory = memory
    this.#commands = commands
    this.#options = options
    this.stored = memory.local.length
    this.#plan = plan
    this.state = options.durable && commands.upWithin(firstBatchMs) ? 'through' : 'behind'
  }

  own(owner: OwnerSignals): void {
    this.#seat.take(owner)
  }

  get shared(): boolean {
    return this.#commands.up && (this.state === 'through' || this.state === 'behind')
  }

  get isolated(): boolean {
    return this.stored === 0 && !this.#commands.up
  }

  /** Nothing more is to be done for it, or it has tried for as long as anybody could have wanted the log. */
  isOver(now: number): boolean {
    if (!this.memory.local.terminal) return false
    this.#sealedAt ??= now
    return this.state !== 'behind' || now - this.#sealedAt >= this.#options.retentionMs
  }

  append(events: readonly LogEvent[]): void | Promise<void> {
    // After a standstill the log may be another's by now: what readers here got next would be nowhere else.
    const unsure = this.state === 'behind' && this.#commands.up && !this.#commands.leased
    return unsure ? this.#makeSure().then(() => this.#append(events)) : this.#append(events)
  }

  async #makeSure(): Promise<void> {
    try {
      const there = await this.#commands.read(this.id, Number.MAX_SAFE_INTEGER)
      if (there && there.epoch !== this.epoch) this.#follow('fenced')
    } catch (error) {
      if (!(error instanceof StoreAway)) throw error
    }
  }

  #append(events: readonly LogEvent[]): void | Promise<void> {
    if (this.state === 'through' && events.length > 0) return this.#writeThrough(events)
    if (this.state !== 'fenced') this.#remember(events)
    if (this.state === 'behind') void this.catchUp()
  }

  #remember(events: readonly LogEvent[]): void {
    this.memory.append(events)
    if (this.memory.local.terminal) this.#seat.leave()
  }

  async #writeThrough(events: readonly LogEvent[]): Promise<void> {
    this.#follow(this.stored === 0 ? await this.#storeFirst(events) : await this.#store(events))
    if (this.state === 'fenced') return
    this.#remember(events)
    this.#reportEnd()
  }

  /** With the first batch a client gets an id, which other replicas should know: that is worth a second try. */
  async #storeFirst(events: readonly LogEvent[]): Promise<Outcome> {
    const until = performance.now() + firstBatchMs
    let outcome = await this.#store(events)
    while (outcome === 'away' && performance.now() < until) {
      await delay(retryMs)
      outcome = await this.#store(events)
    }
    return outcome
  }

  /** Sends Redis what it lacks, for as long as it takes it. */
  async catchUp(): Promise<void> {
    if (this.#catchingUp || this.state !== 'behind') return
    this.#catchingUp = true
    const { local } = this.memory
    let outcome: Outcome = this.#commands.up ? 'stored' : 'away'
    while (this.state === 'behind' && outcome === 'stored' && this.stored < local.length) {
      outcome = await this.#options.turns.take(() => this.#store(local.reader(this.stored).next(eventsPerBatch)))
      this.#follow(outcome)
    }
    this.#catchingUp = false
    if (this.state === 'behind' && outcome === 'stored' && this.#options.durable) this.state = 'through'
    this.#reportEnd()
  }

  /** @param events those that follow on what Redis has */
  async #store(events: readonly LogEvent[]): Promise<Outcome> {
    const batch = this.#batch(events)
    // Sent once: one that is more than Redis, or the way there, can take must not keep the log from getting through.
    if (this.#commands.up) this.#plan = ''
    try {
      const answer = await this.#commands.append(this.#options.facts, batch)
      if (answer === 'ok') this.stored += events.length
      return answer === 'ok' ? 'stored' : this.#compare(answer)
    } catch (error) {
      if (error instanceof StoreAway) return 'away'
      throw error
    }
  }

  #batch(events: readonly LogEvent[]): Batch {
    const last = this.stored + events.length
    const terminal = events.slice(-1).find(isTerminal)
    const { facts, retentionMs, keyTtlMs, lifeMs } = this.#options
    const freesKey = terminal !== undefined && cameToNothing(terminal, last - 1)
    const keptMs = facts.key !== '' && !freesKey ? keyTtlMs : retentionMs
    return {
      epoch: this.epoch,
      first: this.stored + 1,
      last,
      lines: events.map(encodeEvent).join('\n'),
      state: terminal?.type ?? 'live',
      ttlMs: terminal ? keptMs : lifeMs,
      plan: this.#plan,
      freesKey,
      followers: this.#elsewhere.replicas,
    }
  }

  /** @param there where the log in Redis is, which is not where this one thought */
  #compare(there: Standing | undefined): Outcome {
    if (!there) return 'lost'
    if (there.epoch !== this.epoch) return 'fenced'
    // Less than it once had: a failover, or a restart from an old file. More: an earlier reply was lost.
    if (there.n < this.stored || there.state === 'cut') return 'lost'
    this.stored = there.n
    return 'stored'
  }

  #follow(outcome: Outcome): void {
    const before = this.state
    const ahead = this.memory.local.length > this.stored
    const after = transitions[before][outcome]
    // Readers who have seen what the log will never have cannot go on with it. Their answer goes on here, for them.
    this.state = after === 'fenced' && ahead ? 'apart' : after
    if (this.state === before) return
    if (this.state === 'fenced') this.#seat.onFenced()
    this.#options.onStateChange(this.state)
  }

  #reportEnd(): void {
    if (this.memory.local.terminal && this.stored === this.memory.local.length) this.#options.onStored()
  }

  cursor(reader: LogReader): Cursor {
    return this.memory.cursor(reader)
  }

  history(): Promise<readonly LogEvent[]> {
    return this.memory.history()
  }

  terminal(): Promise<TerminalEvent | undefined> {
    return this.memory.terminal()
  }

  caughtUp(): Promise<boolean> {
    return this.memory.caughtUp()
  }

  async stop(): Promise<void> {
    if (!this.memory.local.terminal) await this.#seat.onStop()
  }

  /** @param ask names the question, which may come again when its answer was lost */
  async decide(call: string, decision: ToolDecision, ask?: string): Promise<boolean> {
    return !this.memory.local.terminal && (await this.#seat.onDecision(call, decision, ask))
  }

  expectReaders(): void {
    this.#elsewhere.expect(performance.now())
    this.tellReaders()
  }

  /**
   * Another replica says how many readers it has.
   * @returns whether it is heard of for the first time
   */
  onReadersElsewhere(replica: string, count: number, now: number): boolean {
    const isNew = this.#elsewhere.hear(replica, count, now)
    this.tellReaders()
    return isNew
  }

  /** Readers whose replica has fallen silent are gone, if it could be heard all that time. */
  expireReaders(now: number, audible: boolean): void {
    this.#elsewhere.expire(now, audible)
    this.tellReaders()
  }

  /** Tells the run how many readers there are everywhere. */
  tellReaders(): void {
    if (!this.memory.local.terminal) this.#seat.onReaders(this.memory.local.readers + this.#elsewhere.count)
  }
}
