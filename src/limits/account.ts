import type { Limits } from '../core/caller.ts'
import { type Amount, type LimitName, type Refusal, untilTomorrow } from '../core/limits.ts'

/** What one party has used. */
export interface Account {
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

export const minuteMs = 60_000

/** Streams are counted for what they cost. */
export function isCounted({ tokens_per_day, usd_per_day }: Limits): boolean {
  return tokens_per_day !== undefined || usd_per_day !== undefined
}

export function reserve(account: Account, { tokens, microdollars }: Amount): void {
  account.tokens += tokens
  account.reservedTokens += tokens
  account.microdollars += microdollars
  account.reservedMicrodollars += microdollars
}

interface Circumstances {
  readonly now: number
  /** How much of what is left others leave to this book. */
  readonly share: number
}

type Lack = Omit<Refusal, 'party'>

function lack(limit: LimitName, reserved: boolean, waitMs: number): Lack {
  return { limit, reserved, waitMs }
}

/** Which limit there is not enough left of. The lasting ones come first: a client should not wait in vain. */
export function lackOf(account: Account, limits: Limits, isStream: boolean, how: Circumstances): Lack | undefined {
  const { requests_per_minute, concurrent_streams } = limits
  const { now, share } = how
  const spent = isStream ? lackOfDay(account, limits, how) : undefined
  if (spent) return spent
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

/** Which of its limits for a day is used up. */
export function lackOfDay(
  account: Account,
  { tokens_per_day, usd_per_day }: Limits,
  { now, share }: Circumstances,
): Lack | undefined {
  if (tokens_per_day !== undefined) {
    const left = shared(tokens_per_day, account.knownTokens, share) - account.tokens
    if (left <= 0) return lack('tokens_per_day', left + account.reservedTokens > 0, untilTomorrow(now))
  }
  if (usd_per_day !== undefined) {
    const left = shared(usd_per_day * 1e6, account.knownMicrodollars, share) - account.microdollars
    if (left <= 0) return lack('usd_per_day', left + account.reservedMicrodollars > 0, untilTomorrow(now))
  }
  return undefined
}

/** A share of what others had left. */
function shared(limit: number, known: number, share: number): number {
  return known >= limit ? limit : known + (limit - known) * share
}
