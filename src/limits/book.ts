import {
  type Accounts,
  type Amount,
  dayOf,
  type More,
  nothing,
  type Party,
  type Refusal,
  sumOf,
  type Used,
  type Verdict,
  type Wish,
} from '../core/limits.ts'
import { type Account, isCounted, lackOf, lackOfDay, minuteMs, reserve } from './account.ts'

/** What a stream has taken. */
interface Taken {
  readonly parties: readonly Party[]
  amount: Amount
  /** How much of that is reserved only. */
  reserved: Amount
  readonly day: number
  /** Others know of it. */
  isKnown: boolean
  /** How much of the requests were this book's to let through. */
  readonly share: number
}

/** Accounts looked at for each one that is used: more than can be new. */
const looksPerWish = 2
/** Beyond it those are forgotten first that were used longest ago; their day begins anew. */
const maxAccounts = 100_000

/**
 * Accounts in memory. Requests are a bucket that refills evenly: a minute's worth can come at once, then one each
 * time that one is there again, and what is refused costs nothing. What is over is forgotten as others come, so that a
 * flood of addresses leaves nothing behind.
 */
export class Book implements Accounts {
  readonly #now: () => number
  /** Those looked at longest ago first. */
  readonly #accounts = new Map<string, Account>()
  readonly #taken = new Map<string, Taken>()

  /** @param now in milliseconds since the epoch */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  get size(): number {
    return this.#accounts.size
  }

  /** @param share how much of what is left others leave to this book */
  take(wish: Wish, share = 1): Verdict {
    const now = this.#now()
    const refusal = this.#refusal(wish, now, share)
    if (!refusal) this.#record(wish, now, { isKnown: false, share })
    return { refusal, used: this.#used(wish.parties, now) }
  }

  /** @param share as in `take` */
  takeMore({ stream, used, amount }: More, share = 1): Refusal | undefined {
    const taken = this.#taken.get(stream)
    if (!taken) return undefined
    const before = taken.amount
    const counted = { ...before, ...used }
    const all = sumOf(counted, amount)
    taken.isKnown = false
    this.#restate(taken, counted, nothing)
    // No more than it had already: others have as much left as before.
    const isCovered = all.tokens <= before.tokens && all.microdollars <= before.microdollars
    const refusal = isCovered ? undefined : this.#refusalOfDay(taken, share)
    if (!refusal) this.#restate(taken, all, amount)
    return refusal
  }

  /** Takes note of what others have let a stream go on with. */
  recordMore({ stream, used, amount }: More): void {
    const taken = this.#taken.get(stream)
    if (!taken) return
    taken.isKnown = true
    this.#restate(taken, sumOf({ ...taken.amount, ...used }, amount), amount)
  }

  look(parties: readonly Party[]): Verdict {
    return { refusal: undefined, used: this.#used(parties, this.#now()) }
  }

  /** Takes note of what others have let through. */
  record(wish: Wish): void {
    this.#record(wish, this.#now(), { isKnown: true, share: 1 })
  }

  #record({ stream, parties, amount }: Wish, now: number, how: Pick<Taken, 'isKnown' | 'share'>): void {
    for (const { account: name, limits } of parties) {
      const account = this.#find(name, now)
      this.#accounts.set(name, account)
      const { requests_per_minute } = limits
      if (requests_per_minute)
        account.fullAt = Math.max(account.fullAt, now) + minuteMs / (requests_per_minute * how.share)
      if (stream === undefined) continue
      account.streams++
      if (isCounted(limits)) reserve(account, amount)
    }
    if (stream !== undefined) this.#taken.set(stream, { parties, amount, reserved: amount, day: dayOf(now), ...how })
    this.#forgetSome(now)
  }

  settle(stream: string, used: Partial<Amount>): void {
    const taken = this.#taken.get(stream)
    if (!taken) return
    this.#taken.delete(stream)
    for (const { account: name } of taken.parties) {
      const account = this.#accounts.get(name)
      if (account) account.streams--
    }
    this.#restate(taken, { ...taken.amount, ...used }, nothing)
  }

  leave(stream: string): void {
    this.settle(stream, {})
  }

  giveBack(stream: string): void {
    const { parties = [], share = 1 } = this.#taken.get(stream) ?? {}
    for (const { account: name, limits } of parties) {
      const account = this.#accounts.get(name)
      if (account && limits.requests_per_minute) account.fullAt -= minuteMs / (limits.requests_per_minute * share)
    }
    this.settle(stream, nothing)
  }

  async close(): Promise<void> {}

  /** Puts right what this book has of a party, by those who know all of it. */
  learn({ account: name, limits }: Party, used: Used): void {
    const now = this.#now()
    const account = this.#find(name, now)
    account.fullAt = now + used.refillMs
    if (isCounted(limits)) {
      account.tokens = used.tokens
      account.knownTokens = used.tokens
      account.microdollars = used.microdollars
      account.knownMicrodollars = used.microdollars
    }
  }

  /** Puts `amount` in the place of what a stream has taken. */
  #restate(taken: Taken, amount: Amount, reserved: Amount): void {
    const before = taken.amount
    for (const { account: name, limits } of taken.parties) {
      const account = this.#accounts.get(name)
      // What began on another day was that day's.
      if (!account || !isCounted(limits) || account.day !== taken.day) continue
      account.tokens += amount.tokens - before.tokens
      account.microdollars += amount.microdollars - before.microdollars
      account.reservedTokens += reserved.tokens - taken.reserved.tokens
      account.reservedMicrodollars += reserved.microdollars - taken.reserved.microdollars
      if (!taken.isKnown) continue
      account.knownTokens += amount.tokens - before.tokens
      account.knownMicrodollars += amount.microdollars - before.microdollars
    }
    Object.assign(taken, { amount, reserved })
  }

  #refusal(wish: Wish, now: number, share: number): Refusal | undefined {
    for (const [party, { account, limits }] of wish.parties.entries()) {
      const lack = lackOf(this.#find(account, now), limits, wish.stream !== undefined, { now, share })
      if (lack) return { party, ...lack }
    }
    return undefined
  }

  /** Nothing on another day than that of the stream. */
  #refusalOfDay({ parties, day }: Taken, share: number): Refusal | undefined {
    const now = this.#now()
    for (const [party, { account: name, limits }] of parties.entries()) {
      const account = this.#find(name, now)
      const lack = account.day === day ? lackOfDay(account, limits, { now, share }) : undefined
      if (lack) return { party, ...lack }
    }
    return undefined
  }

  #used(parties: readonly Party[], now: number): Used[] {
    return parties.map(({ account: name }) => {
      const { fullAt, streams, tokens, microdollars } = this.#find(name, now)
      return { refillMs: Math.max(0, fullAt - now), streams, tokens, microdollars }
    })
  }

  /** As it is today. One that nobody has used yet is not kept. */
  #find(name: string, now: number): Account {
    const day = dayOf(now)
    const known = this.#accounts.get(name)
    // A clock that is set back begins no day again that is over.
    if (known && known.day >= day) return known
    const fresh = { tokens: 0, microdollars: 0, reservedTokens: 0, reservedMicrodollars: 0 }
    const today = { ...fresh, day, knownTokens: 0, knownMicrodollars: 0 }
    return known ? Object.assign(known, today) : { fullAt: 0, streams: 0, ...today }
  }

  #forgetSome(now: number): void {
    let looks = looksPerWish
    for (const [name, account] of this.#accounts) {
      if (looks-- === 0) return
      this.#accounts.delete(name)
      const isSpent = account.day === dayOf(now) && (account.tokens > 0 || account.microdollars > 0)
      const isUsed = isSpent && this.#accounts.size < maxAccounts
      if (account.streams > 0 || account.fullAt > now || isUsed) this.#accounts.set(name, account)
    }
  }
}
