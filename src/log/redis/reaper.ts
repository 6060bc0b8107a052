import { Turns } from '../../core/at-once.ts'
import type { LogEvent } from '../../core/events.ts'
import { StoreAway } from '../../redis/link.ts'
import { leaseMs, type RedisCommands, type Takeover } from './commands.ts'

/** Streams taken over at a time. */
const atOnce = 32
/** So many looks without a run of this process make a stream of its own an orphan: a claim takes a moment to be begun. */
const ownLooks = 5

export interface ReaperOptions {
  /** Streams of others may be taken over: not by a process that is about to end. */
  mayTakeOver(): boolean
  /** The run of this stream is here. */
  isAtWork(id: string): boolean
  /** The stream is this replica's now; `history` is all of it, `plan` what its run was to do, if that is known. */
  onTakenOver(taken: Takeover, history: readonly LogEvent[], plan: string | undefined): void
  /** So it is, but some of it is missing: nobody can go on with the rest. */
  onTorn(taken: Takeover): void
}

/** Finds the streams whose owner is gone. */
export class Reaper {
  readonly #commands: RedisCommands
  readonly #options: ReaperOptions
  /** Streams that are this replica's in Redis and have no run here: how often in a row that was so. */
  #strays = new Map<string, number>()
  /** Plans are read one at a time: each can take as long as a command may. */
  readonly #plans = new Turns(1)

  constructor(commands: RedisCommands, options: ReaperOptions) {
    this.#commands = commands
    this.#options = options
  }

  /** @throws StoreAway */
  async look(now: number): Promise<void> {
    await this.#findStrays()
    // After an outage every lease has run out, and living owners are about to renew theirs.
    if (this.#commands.upFor(now) < leaseMs || !this.#options.mayTakeOver()) return
    for (const replica of await this.#commands.otherReplicas()) {
      if ((await this.#commands.leaseOf(replica)) < 0) await this.#inherit(replica)
    }
  }

  async #inherit(replica: string): Promise<void> {
    const streams = await this.#commands.streamsOf(replica)
    if (streams.length === 0) return this.#commands.forgetReplica(replica)
    await this.#takeOverAll(streams, replica)
  }

  /** A claim whose reply was lost began a stream that nobody runs; so does a takeover that Redis did not let finish. */
  async #findStrays(): Promise<void> {
    const own = await this.#commands.streamsOf(this.#commands.replica)
    const strays = own.filter((id) => !this.#options.isAtWork(id))
    this.#strays = new Map(strays.map((id) => [id, (this.#strays.get(id) ?? 0) + 1]))
    const orphans = strays.filter((id) => (this.#strays.get(id) ?? 0) >= ownLooks)
    await this.#takeOverAll(orphans, this.#commands.replica)
  }

  async #takeOverAll(streams: readonly string[], owner: string): Promise<void> {
    for (let at = 0; at < streams.length; at += atOnce) {
      await Promise.all(streams.slice(at, at + atOnce).map((id) => this.#takeOver(id, owner)))
    }
  }

  async #takeOver(id: string, owner: string): Promise<void> {
    const taken = await this.#commands.takeOver(id, owner)
    if (!taken) return
    const history = await this.#readAll(taken)
    if (history?.length !== taken.n) return this.#options.onTorn(taken)
    // While Redis was away the owner may have gone on: what its readers had then is nowhere, and must not get other text.
    const whole = !this.#commands.wasAwaySince(taken.facts.createdAt)
    const plan = whole ? await this.#plans.take(() => this.#commands.planOf(id)) : undefined
    this.#options.onTakenOver(taken, history, plan)
  }

  /** @returns `undefined` when some of it is gone or cannot be read */
  async #readAll({ facts, n }: Takeover): Promise<LogEvent[] | undefined> {
    const all: LogEvent[] = []
    try {
      while (all.length < n) {
        const { batches = [] } = (await this.#commands.read(facts.id, all.length)) ?? {}
        if (batches.length === 0) return undefined
        for (const { last, events } of batches) {
          if (last - events.length !== all.length) return undefined
          for (const event of events) all.push(event)
        }
      }
    } catch (error) {
      if (error instanceof StoreAway) throw error
      return undefined
    }
    return all
  }
}
