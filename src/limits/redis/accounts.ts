import {
  type Accounts,
  type Amount,
  dayOf,
  type More,
  nothing,
  type Party,
  type Refusal,
  sumOf,
  untilTomorrow,
  type Verdict,
  type Wish,
} from '../../core/limits.ts'
import { type LinkLog, StoreAway } from '../../redis/link.ts'
import { isCounted } from '../account.ts'
import { Book } from '../book.ts'
import { type LimitKeys, limitKeys } from './keys.ts'
import { limitArgs, moreArgs, refusalIn, usedIn } from './messages.ts'
import type { LimitLink } from './scripts.ts'

export interface RedisAccountsOptions {
  readonly link: LimitLink
  /** Of all names in Redis. */
  readonly prefix: string
  /** A set in Redis with a member for each replica. */
  readonly replicas: string
  /** How many there are when Redis has never said so. */
  readonly leastReplicas: number
  /** While Redis is away, this much of what is left is for this replica; unless given, as much as for any other. */
  readonly share: number | undefined
  /** A stream that nobody has ended for so long has ended, in milliseconds. */
  readonly maxLifeMs: number
  readonly log: LinkLog
  /** In milliseconds since the epoch. */
  readonly now?: () => number
}

/** What a stream has used, and whether its request counts. */
interface End {
  readonly used: Partial<Amount>
  readonly how: 'settle' | 'give back'
}

/** A stream of which Redis has something to hear yet. */
interface Entry {
  /** What it has taken here; `undefined` for one that another replica let in. */
  wish: Wish | undefined
  readonly takenAt: number
  /** Redis has it among the running ones. */
  known: boolean
  end: End | undefined
}

/** How often Redis is told what it has not heard, in milliseconds. */
const retryMs = 1_000
/** How long Redis remembers that a stream is settled, in milliseconds: what is said again is said by then. */
const settledMs = 600_000
/** A stream that lasts as long as it may gets so much time to be settled, in milliseconds. */
const marginMs = 60_000

/**
 * Accounts in Redis, for all replicas. Each step is one script, so that parallel requests cannot take the same rest
 * twice. While Redis is away each replica goes on with its share of what was left, in a book of its own; what it spends
 * meanwhile Redis hears when it is back.
 */
export class RedisAccounts implements Accounts {
  readonly #options: RedisAccountsOptions
  readonly #keys: LimitKeys
  readonly #now: () => number
  readonly #book: Book
  readonly #entries = new Map<string, Entry>()
  /** Those of which Redis has something to hear now. */
  readonly #untold = new Set<string>()
  readonly #timer: NodeJS.Timeout
  #replicas: number
  #telling: Promise<void> | undefined
  #away = false

  constructor(options: RedisAccountsOptions) {
    this.#options = options
    this.#keys = limitKeys(options.prefix)
    this.#now = options.now ?? Date.now
    this.#book = new Book(this.#now)
    this.#replicas = options.leastReplicas
    options.link.onUp(() => this.#tellAll())
    this.#timer = setInterval(() => this.#tellAll(), retryMs)
  }

  async take(wish: Wish): Promise<Verdict> {
    const { stream } = wish
    const entry = { wish, takenAt: this.#now(), known: true, end: undefined }
    try {
      const verdict = await this.#take('take', wish, entry.takenAt)
      if (verdict.refusal) return verdict
      this.#book.record(wish)
      for (const [n, party] of wish.parties.entries()) this.#book.learn(party, verdict.used[n] as Verdict['used'][0])
      if (stream !== undefined) this.#entries.set(stream, entry)
      return verdict
    } catch (error) {
      if (!(error instanceof StoreAway)) throw error
      return this.#takeHere(wish, entry.takenAt)
    }
  }

  async takeMore(more: More): Promise<Refusal | undefined> {
    const entry = this.#entries.get(more.stream)
    const refusal = await this.#askForMore(more, entry?.known !== false)
    if (entry?.wish) {
      const used = { ...entry.wish.amount, ...more.used }
      entry.wish = { ...entry.wish, amount: refusal ? used : sumOf(used, more.amount) }
    }
    return refusal
  }

  async #askForMore(more: More, isKnown: boolean): Promise<Refusal | undefined> {
    const [key, args] = [this.#keys.stream(more.stream), moreArgs(more, this.#now())]
    try {
      const reply = isKnown ? await this.#options.link.send((client) => client.takeMoreLimits([key], args)) : []
      const refusal = refusalIn(reply)
      if (reply.length > 0 && !refusal) this.#book.recordMore(more)
      if (reply.length > 0) return refusal
    } catch (error) {
      if (!(error instanceof StoreAway)) throw error
      this.#goAway()
    }
    // What Redis has yet to hear of, and what it has lost, is decided here.
    return this.#book.takeMore(more, this.#share)
  }

  /** How much of what is left is for this replica while Redis is away. */
  get #share(): number {
    return this.#options.share ?? 1 / Math.max(1, this.#replicas)
  }

  #goAway(): void {
    const share = this.#share
    if (!this.#away) this.#options.log.warn({ share }, 'redis is away, this replica keeps to its share of the limits')
    this.#away = true
  }

  /** Redis may have taken it, and only its reply was lost. */
  #takeHere(wish: Wish, takenAt: number): Verdict {
    this.#goAway()
    const verdict = this.#book.take(wish, this.#share)
    const end = verdict.refusal && ({ used: nothing, how: 'give back' } as const)
    if (wish.stream !== undefined) {
      this.#entries.set(wish.stream, { wish, takenAt, known: false, end })
      this.#untold.add(wish.stream)
    }
    return verdict
  }

  async look(parties: readonly Party[]): Promise<Verdict> {
    try {
      return await this.#take('look', { stream: undefined, parties, amount: nothing }, this.#now())
    } catch (error) {
      if (!(error instanceof StoreAway)) throw error
      return this.#book.look(parties)
    }
  }

  settle(stream: string, used: Partial<Amount>): void {
    this.#book.settle(stream, used)
    this.#end(stream, { used, how: 'settle' })
  }

  leave(stream: string): void {
    this.#book.leave(stream)
    this.#entries.delete(stream)
    this.#untold.delete(stream)
  }

  giveBack(stream: string): void {
    this.#book.giveBack(stream)
    this.#end(stream, { used: nothing, how: 'give back' })
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#tellAll()
    await this.#telling
  }

  #end(stream: string, end: End): void {
    const entry = this.#entries.get(stream) ?? { wish: undefined, takenAt: this.#now(), known: true, end }
    entry.end = end
    this.#entries.set(stream, entry)
    this.#untold.add(stream)
    this.#tellAll()
  }

  /** One after the other; those that end meanwhile are told in the same round. */
  #tellAll(): void {
    this.#telling ??= this.#tellEach().finally(() => {
      this.#telling = undefined
    })
  }

  async #tellEach(): Promise<void> {
    try {
      for (const stream of this.#untold) {
        const entry = this.#entries.get(stream)
        if (entry?.end) await this.#tellEnd(stream, entry, entry.end)
        else if (entry?.wish && !entry.known) await this.#tellBegin(entry, entry.wish)
        if (entry?.end && this.#entries.has(stream)) continue
        this.#untold.delete(stream)
      }
      if (this.#away && this.#options.link.upSince !== undefined) {
        this.#away = false
        this.#options.log.info({}, 'redis has heard what was used without it')
      }
    } catch (error) {
      if (!(error instanceof StoreAway)) throw error
    }
  }

  async #tellBegin(entry: Entry, wish: Wish): Promise<void> {
    await this.#take('force', wish, entry.takenAt)
    entry.known = true
  }

  async #tellEnd(stream: string, { wish, takenAt }: Entry, { used, how }: End): Promise<void> {
    const accounts = (wish?.parties ?? []).flatMap(({ account, limits }) => [
      ...this.#keys.account(account),
      limits.requests_per_minute ? String(60_000 / limits.requests_per_minute) : '',
      isCounted(limits) ? '1' : '0',
    ])
    const { tokens = '', microdollars = '' } = { ...wish?.amount, ...used }
    const times = [settledMs, dayOf(takenAt), untilTomorrow(this.#now())]
    const args = [stream, tokens, microdollars, how, ...times, ...accounts].map(String)
    await this.#options.link.send((client) => client.settleLimits([this.#keys.stream(stream)], args))
    this.#entries.delete(stream)
  }

  async #take(mode: 'take' | 'force' | 'look', wish: Wish, takenAt: number): Promise<Verdict> {
    const { stream = '', parties, amount } = wish
    const now = this.#now()
    const names = [this.#options.replicas, this.#keys.stream(stream)]
    const ends = takenAt + this.#options.maxLifeMs + marginMs
    const times = [now, dayOf(takenAt), untilTomorrow(takenAt), ends].map(String)
    const args = [mode, ...times, stream, String(amount.tokens), String(amount.microdollars)]
    for (const { account, limits } of parties) {
      names.push(...this.#keys.account(account))
      args.push(...limitArgs(limits))
    }
    const reply = await this.#options.link.send((client) => client.takeLimits(names, args))
    this.#replicas = Math.max(this.#options.leastReplicas, Number(reply[4]))
    return { refusal: refusalIn(reply), used: usedIn(reply, parties.length) }
  }
}
