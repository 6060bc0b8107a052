import type { Limits } from '../core/caller.ts'
import {
  type Accounts,
  type Amount,
  dayOf,
  type LimitName,
  type Party,
  type Refusal,
  type Used,
  untilTomorrow,
  type Verdict,
  type Wish,
} from '../core/limits.ts'

/** What one party has used. */
interface Account {
  /** When all requests of a minute are there again, in milliseconds since the epoch. */
  fullAt: number
  streams: number
  /** The day that the rest is about. */
  day: number
  tokens: number
  microdollars: number
  /** How much of that is reserved only. */
  reservedTokens: number
  reservedMicrodollars: number
  /** What others knew of it, as far as was last heard. */
  knownTokens: number
  knownMicrodollars: number
}

/** What a stream has taken. */
interface Taken {
  readonly parties: readonly Party[]
  readonly amount: Amount
  readonly day: number
  /** Others know of it. */
  readonly isKnown: boolean
  /** How much of the requests were this book's to let through. */
  readonly share: number
}

const minuteMs = 60_000
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
      if (isCounted(limits)) add(account, amount, 1)
    }
    if (stream !== undefined) this.#taken.set(stream, { parties, amount, day: dayOf(now), ...how })
    this.#forgetSome(now)
  }

  settle(stream: string, used: Partial<Amount>): void {
    this.#end(stream, (account, { amount }) => {
      account.tokens += used.tokens ?? amount.tokens
      account.microdollars += used.microdollars ?? amount.microdollars
    })
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
    this.#end(stream, () => {})
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

  /** @param settle called for each account whose day is still that of the stream, after what was reserved is off it */
  #end(stream: string, settle: (account: Account, taken: Taken) => void): void {
    const taken = this.#taken.get(stream)
    if (!taken) return
    this.#taken.delete(stream)
    for (const { account: name, limits } of taken.parties) {
      const account = this.#accounts.get(name)
      if (!account) continue
      account.streams--
      // What began on another day was that day's.
      if (!isCounted(limits) || account.day !== taken.day) continue
      const { tokens, microdollars } = account
      add(account, taken.amount, -1)
      settle(account, taken)
      if (!taken.isKnown) continue
      account.knownTokens += account.tokens - tokens
      account.knownMicrodollars += account.microdollars - microdollars
    }
  }

  #refusal(wish: Wish, now: number, share: number): Refusal | undefined {
    for (const [party, { account, limits }] of wish.parties.entries()) {
      const lack = lackOf(this.#find(account, now), limits, wish.stream !== undefined, { now, share })
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

/** Streams are counted for what they cost. */
export function isCounted({ tokens_per_day, usd_per_day }: Limits): boolean {
  return tokens_per_day !== undefined || usd_per_day !== undefined
}

function add(account: Account, { tokens, microdollars }: Amount, sign: 1 | -1): void {
  account.tokens += sign * tokens
  account.reservedTokens += sign * tokens
  account.microdollars += sign * microdollars
  account.reservedMicrodollars += sign * microdollars
}

interface Circumstances {
  readonly now: number
  readonly share: number
}

/** Which limit there is not enough left of. The lasting ones come first: a client should not wait in vain. */
function lackOf(account: Account, limits: Limits, isStream: boolean, circumstances: Circumstances) {
  const { requests_per_minute, concurrent_streams, tokens_per_day, usd_per_day } = limits
  const { now, share } = circumstances
  const lack = (limit: LimitName, reserved: boolean, waitMs: number) => ({ limit, reserved, waitMs })
  if (isStream && tokens_per_day !== undefined) {
    const left = shared(tokens_per_day, account.knownTokens, share) - account.tokens
    if (left <= 0) return lack('tokens_per_day', left + account.reservedTokens > 0, untilTomorrow(now))
  }
  if (isStream && usd_per_day !== undefined) {
    const left = shared(usd_per_day * 1e6, account.knownMicrodollars, share) - account.microdollars
    if (left <= 0) return lack('usd_per_day', left + account.reservedMicrodollars > 0, untilTomorrow(now))
  }
  if (requests_per_minute !== undefined) {
    const eachMs = minuteMs / (requests_per_minute * share)
    const waitMs = Math.max(account.fullAt, now) + eachMs - now - Math.max(minuteMs, eachMs)
    // Sums of fractions are off by less than this.
    if (waitMs > 0.001) return lack('requests_per_minute', false, waitMs)
  }
  if (isStream && concurrent_streams !== undefined) {
    if (account.streams >= Math.max(1, Math.floor(concurrent_streams * share))) {
      return lack('concurrent_streams', false, 0)
    }
  }
  return undefined
}

/** A share of what others had left. */
function shared(limit: number, known: number, share: number): number {
  return known >= limit ? limit : known + (limit - known) * share
}
