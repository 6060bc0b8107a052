import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Turns } from '../../core/at-once.ts'
import { Directory } from '../../core/directory.ts'
import type { LogEvent } from '../../core/events.ts'
import type { Claim, LogOptions, LogStore, NewClaim, StoreHealth, StreamLog } from '../../core/ports.ts'
import { ifThere, orUnavailable } from '../../redis/link.ts'
import { ArchivedLog } from '../archived.ts'
import { type MemoryStore, memoryStore } from '../memory.ts'
import { RedisCommands, type StreamFacts } from './commands.ts'
import { FollowedLog } from './followed.ts'
import { healthOf } from './health.ts'
import { hear } from './inbox.ts'
import { redisKeys } from './keys.ts'
import type { RedisStoreOptions } from './options.ts'
import { OwnedLog } from './owned.ts'
import { PlanRoom } from './plans.ts'
import { Hearing } from './presence.ts'
import { Reaper } from './reaper.ts'
import { noOwner } from './seat.ts'
import type { State } from './states.ts'

/** How long a start waits for Redis, in milliseconds. */
const connectMs = 1_000
/** How often the lease is renewed, and how often everything that may have been missed is looked for. */
const renewMs = 1_500
/** An inbox that has not heard this replica's own word for so long may have missed others', in milliseconds. */
const deafMs = 2 * renewMs
const sweepMs = 1_000
/** How often Redis is offered what it lacks of the logs here, in milliseconds. */
const catchUpMs = 100
/** Logs that catch up at a time: thousands at once would be more than Redis could answer within the limit. */
const catchUpsAtOnce = 32
/** How long closing waits for what Redis still lacks, in milliseconds. */
const closeMs = 500
/** How much longer than it could last a stream that nobody ended is known, in milliseconds. */
const marginMs = 60_000

/** Logs in Redis, for all replicas; those whose runs are here also in memory, which goes on when Redis does not. */
class RedisStore implements LogStore {
  readonly #options: RedisStoreOptions
  readonly #memory: MemoryStore
  readonly #commands: RedisCommands
  readonly #reaper: Reaper
  readonly #owned = new Directory<OwnedLog>()
  readonly #followed = new Directory<FollowedLog>()
  readonly #claimed = new Map<string, StreamFacts>()
  /** Streams that Redis has begun and can never have whole: their epochs, until Redis knows. */
  readonly #toCut = new Map<string, number>()
  readonly #timers: NodeJS.Timeout[]
  readonly #turns = new Turns(catchUpsAtOnce)
  #looking = false
  readonly #hearing = new Hearing(deafMs)
  readonly #plans = new PlanRoom()
  /** Room taken by logs that the memory store does not hold, in bytes. */
  #reserved = 0
  /** Resolves when Redis is there, or after a moment without it. */
  readonly connected: Promise<void>
  readonly health = (): StoreHealth => healthOf(this.#commands.up, this.#owned.values())

  constructor(options: RedisStoreOptions) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.connected = Promise.race([promise, delay(connectMs, undefined, { ref: false })])
    this.#options = options
    this.#memory = memoryStore(options)
    const replica = randomBytes(9).toString('base64url')
    this.#commands = new RedisCommands(replica, options.prefix, options.link)
    options.link.onUp(() => {
      resolve()
      void ifThere(this.#renew())
    })
    options.link.listen(redisKeys(options.prefix).inbox(replica), (message) => this.#hear(message))
    this.#reaper = new Reaper(this.#commands, {
      mayTakeOver: () => options.mayTakeOver(),
      isAtWork: (id) => this.#owned.has(id),
      onTakenOver: ({ facts, epoch }, history, plan) => {
        // Redis was set back to before its end: here it is whole.
        if (this.#memory.holdsWhole(facts.id)) return void this.#toCut.set(facts.id, epoch)
        const log = this.#open(facts, epoch, history)
        void this.#followed.get(facts.id)?.readIfThere()
        options.adopt(log, plan)
      },
      onTorn: ({ facts, epoch }) => void this.#toCut.set(facts.id, epoch),
    })
    this.#timers = [
      setInterval(() => void ifThere(this.#renew()), renewMs),
      setInterval(() => this.#tick(performance.now()), sweepMs),
      setInterval(() => this.#catchUp(), catchUpMs),
    ]
  }

  get full(): boolean {
    return this.#memory.full
  }

  async claim(key: string, { id, fingerprint, ...names }: NewClaim): Promise<Claim | undefined> {
    const facts = this.#facts(id, { key, ...names })
    const claiming = this.#commands.claim(facts, fingerprint, this.#lifeMs, this.#options.keyTtlMs)
    const earlier = await orUnavailable(claiming)
    if (!earlier) this.#claimed.set(id, facts)
    return earlier
  }

  claimed(key: string): Promise<Claim | undefined> {
    return orUnavailable(this.#commands.claimed(this.#commands.keys.key(key)))
  }

  create(id: string, { owner, plan, ...names }: LogOptions): StreamLog {
    const facts = this.#claimed.get(id) ?? this.#facts(id, names)
    this.#claimed.delete(id)
    const log = this.#open(facts, 1, [], this.#options.durability === 'durable' ? this.#plans.admit(id, plan) : '')
    log.own(owner)
    return log
  }

  async find(id: string, principal?: string): Promise<StreamLog | undefined> {
    const own = this.#owned.get(id) ?? (await this.#memory.find(id))
    const isHis = own?.principal === (principal ?? own?.principal)
    if (isHis && (own instanceof OwnedLog || own instanceof ArchivedLog)) return own
    return orUnavailable(this.#follow(id, principal))
  }

  async findLive(alias: string): Promise<StreamLog | undefined> {
    const id = await orUnavailable(this.#commands.idOfAlias(alias))
    const log = id === undefined ? undefined : await this.find(id)
    return (await log?.terminal()) ? undefined : log
  }

  async close(): Promise<void> {
    const until = performance.now() + closeMs
    while (this.#owned.size > 0 && performance.now() < until) await delay(10)
    for (const timer of this.#timers) clearInterval(timer)
    await ifThere(this.#commands.giveUpLease())
    this.#options.link.close()
    await this.#memory.close()
  }

  get #lifeMs(): number {
    return this.#options.maxLifeMs + this.#options.retentionMs + marginMs
  }

  #facts(id: string, { principal = '', key, alias }: Omit<LogOptions, 'owner' | 'plan'>): StreamFacts {
    const { keys } = this.#commands
    const names = { key: key === undefined ? '' : keys.key(key), alias: alias === undefined ? '' : keys.alias(alias) }
    return { id, principal, createdAt: new Date(), ...names }
  }

  #open(facts: StreamFacts, epoch: number, history: readonly LogEvent[], plan?: string): OwnedLog {
    const { id, principal, key, createdAt } = facts
    const owner = { ...noOwner, onReaders: () => log.tellReaders() }
    const memory = this.#memory.create(id, { owner, principal, key: key || undefined }, createdAt)
    memory.append(history)
    const options = {
      ...this.#options,
      facts,
      epoch,
      durable: this.#options.durability === 'durable',
      lifeMs: this.#lifeMs,
      turns: this.#turns,
      onStateChange: (state: State) => this.#onStateChange(log, state),
      onStored: () => void this.#owned.delete(id),
    }
    const log: OwnedLog = new OwnedLog(memory, this.#commands, options, plan)
    this.#owned.set(id, log)
    return log
  }

  #onStateChange(log: OwnedLog, state: State): void {
    if (state === 'through' || state === 'behind') return
    this.#options.log.info({ stream: log.id, state }, 'stream left redis')
    if (state === 'apart') return void this.#toCut.set(log.id, log.epoch)
    // Its readers here go on with what its new owner writes.
    this.#owned.delete(log.id)
    this.#memory.forget(log.id)
    const { id, epoch, principal, createdAt, memory } = log
    const written = { epoch, began: 0, n: memory.local.length, state: 'live', owner: '', batches: [] }
    this.#followed.set(id, new FollowedLog(id, { ...written, principal, createdAt }, this.#commands, memory.local))
  }

  async #follow(id: string, principal: string | undefined): Promise<FollowedLog | undefined> {
    const old = this.#followed.get(id)
    // Asked for all the same, as what is not there takes as long, and is as uncertain while Redis is away.
    if (old && old.principal !== (principal ?? old.principal)) return void (await this.#commands.read(id, 0, principal))
    // What it has lost may be there again; what has ended is forgotten in its time, however often it is asked for.
    const isOver = old?.local.terminal && !(await this.#commands.read(id, old.local.length))
    if (old?.loss || isOver) this.#followed.delete(id)
    if (!this.#followed.has(id)) {
      const reading = await this.#commands.read(id, 0, principal)
      if (!reading) return undefined
      if (!this.#followed.has(id)) this.#followed.set(id, new FollowedLog(id, reading, this.#commands))
    }
    const log = this.#followed.get(id)
    await log?.read()
    log?.touch()
    return log
  }

  async #renew(): Promise<void> {
    await this.#commands.renewLease()
    // It keeps the listening connection in use, and so shows that it is alive.
    await this.#commands.tell(this.#commands.replica, 'hello')
  }

  #hear(message: string): void {
    this.#hearing.note(performance.now())
    hear(message, { owned: this.#owned, followed: this.#followed, commands: this.#commands })
  }

  #catchUp(): void {
    for (const log of this.#owned.values()) void log.catchUp()
  }

  #tick(now: number): void {
    let bytes = 0
    this.#plans.sweep((id) => this.#owned.has(id))
    for (const log of this.#owned.values()) {
      log.expireReaders(now, this.#hearing.isReliable(now))
      // What Redis has not taken of a finished log yet is beside what is kept of it anyway.
      const unsent = log.memory.local.terminal ? log.memory.local.bytes : 0
      if (log.isOver(now) || (unsent > 0 && this.#memory.full)) {
        this.#owned.delete(log.id)
        this.#toCut.set(log.id, log.epoch)
      } else bytes += unsent
    }
    for (const log of this.#followed.values()) {
      bytes += log.local.bytes
      if (!log.sweep(now)) this.#followed.delete(log.id)
    }
    this.#memory.reserve(bytes - this.#reserved)
    this.#reserved = bytes
    if (!this.#looking) void ifThere(this.#lookAround(now))
  }

  async #lookAround(now: number): Promise<void> {
    this.#looking = true
    try {
      for (const [id, epoch] of this.#toCut)
        await ifThere(this.#commands.cut(id, epoch, this.#options.retentionMs).then(() => this.#toCut.delete(id)))
      await this.#reaper.look(now)
    } finally {
      this.#looking = false
    }
  }
}

/** Resolves when Redis is there, or after a moment without it: streams run all the same. */
export function redisStore(options: RedisStoreOptions): Promise<LogStore> {
  const store = new RedisStore(options)
  return store.connected.then(() => store)
}
