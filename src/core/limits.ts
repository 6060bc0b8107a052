import type { Limits } from './caller.ts'
import type { MessageRequest } from './request.ts'
import type { Usage } from './usage.ts'

export type LimitName = keyof Limits

/** What is spent, or may be: whole tokens, whole millionths of a US dollar. */
export interface Amount {
  readonly tokens: number
  readonly microdollars: number
}

/** Somebody who uses something, alone or with others, and how much of it he may. */
export interface Party {
  /** The same for every request of his, on every replica. */
  readonly account: string
  readonly limits: Limits
}

/** What is about to be used. */
export interface Wish {
  /** The stream that is to begin; `undefined` for a request that begins none. */
  readonly stream: string | undefined
  /** All of them must have enough. */
  readonly parties: readonly Party[]
  /** Reserved for the stream until it has ended. */
  readonly amount: Amount
}

/** What a stream needs to go on. */
export interface More {
  readonly stream: string
  /** By its calls of Claude so far, all together; what is not told is as much as is reserved. */
  readonly used: Partial<Amount>
  /** Reserved for its next one. */
  readonly amount: Amount
}

/** A call of Claude that is to follow on others in the same stream. */
export interface NextCall {
  readonly stream: string
  /** Another replica has let the stream in. */
  readonly adopted: boolean
  /** As Claude gets it. */
  readonly request: MessageRequest
  /** By the calls before it. */
  readonly usage: Usage
  /** In US dollars; null when the price of some of it is not known. */
  readonly costUsd: number | null
}

/** Has a say in each call of Claude after the first of a stream. */
export interface CallLimits {
  /** @throws SluiceError when there is not enough left for it */
  takeMore(call: NextCall): Promise<void>
}

/** How much a party has used, the wish included where it was granted. */
export interface Used extends Amount {
  /** Until all requests of a minute are there again, in milliseconds. */
  readonly refillMs: number
  /** Streams that are running. */
  readonly streams: number
}

export interface Refusal {
  /** Which of the parties has not enough. */
  readonly party: number
  readonly limit: LimitName
  /** It is not spent: streams that are running have reserved it, and may give some of it back. */
  readonly reserved: boolean
  /** Until it may be different, in milliseconds; 0 where nobody can tell. */
  readonly waitMs: number
}

export interface Verdict {
  /** Nothing was taken. */
  readonly refusal: Refusal | undefined
  /** One for each party. */
  readonly used: readonly Used[]
}

/** Keeps account of what is used. */
export interface Accounts {
  /** Takes what is wished for if all parties have enough, all of it or nothing, whoever asks at the same moment. */
  take(wish: Wish): Verdict | Promise<Verdict>
  /**
   * Counts what a stream has used in the place of what it had taken, and takes beside it what its next call may use if
   * all its parties have something of their day left. No request and no stream is counted. Of a stream that nobody here
   * has taken anything for, nothing is.
   * @returns why not; what it has used is counted all the same
   */
  takeMore(more: More): Refusal | undefined | Promise<Refusal | undefined>
  /** How much the parties have used. */
  look(parties: readonly Party[]): Verdict | Promise<Verdict>
  /** The stream has ended: `used` stands in the place of what it has taken, which stays where that is not told. */
  settle(stream: string, used: Partial<Amount>): void
  /** Another replica goes on with the stream, and settles it. */
  leave(stream: string): void
  /** The stream never began: as if it had not been asked for. */
  giveBack(stream: string): void
  close(): Promise<void>
}

const dayMs = 86_400_000

export const nothing: Amount = { tokens: 0, microdollars: 0 }

export function sumOf(one: Amount, other: Amount): Amount {
  return { tokens: one.tokens + other.tokens, microdollars: one.microdollars + other.microdollars }
}

/** The number of the day, by UTC, at `now` milliseconds since the epoch. */
export function dayOf(now: number): number {
  return Math.floor(now / dayMs)
}

/** Until the next day, in milliseconds. */
export function untilTomorrow(now: number): number {
  return (dayOf(now) + 1) * dayMs - now
}
