import type { Limits } from '../../core/caller.ts'
import { dayOf, type LimitName, type More, type Refusal, type Used, untilTomorrow } from '../../core/limits.ts'

/** As the script takes them, in its order: no limit is `-`. */
export function limitArgs({ requests_per_minute, concurrent_streams, tokens_per_day, usd_per_day }: Limits): string[] {
  const microdollars = usd_per_day === undefined ? undefined : usd_per_day * 1e6
  return [requests_per_minute, concurrent_streams, tokens_per_day, microdollars].map((each) => String(each ?? '-'))
}

/** The same, of what a stream needs to go on. */
export function moreArgs({ stream, used, amount }: More, now: number): string[] {
  const wanted = [used.tokens, used.microdollars, amount.tokens, amount.microdollars]
  return [stream, dayOf(now), untilTomorrow(now), ...wanted].map((each) => String(each ?? ''))
}

/** What the scripts for taking say, first a refusal if there is one. */
type Reply = readonly (number | string)[]

export function refusalIn([party = 0, limit, reserved, waitMs]: Reply): Refusal | undefined {
  if (Number(party) === 0) return undefined
  const isReserved = Number(reserved) === 1
  return { party: Number(party) - 1, limit: limit as LimitName, reserved: isReserved, waitMs: Number(waitMs) }
}

/** How much each of so many parties has used. */
export function usedIn(reply: Reply, parties: number): Used[] {
  return Array.from({ length: parties }, (_, n) => {
    const [refillMs = 0, streams = 0, tokens = 0, microdollars = 0] = reply.slice(5 + 4 * n, 9 + 4 * n).map(Number)
    return { refillMs, streams, tokens, microdollars }
  })
}
