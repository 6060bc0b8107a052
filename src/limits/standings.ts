import type { Limits } from '../core/caller.ts'
import { type LimitName, type Used, untilTomorrow } from '../core/limits.ts'

/** How one limit stands. */
export interface Standing {
  readonly limit: LimitName
  /** Requests, streams, tokens or US dollars. */
  readonly allowed: number
  readonly left: number
  /** Until all of it is there again, in seconds; null where that depends on streams that are running. */
  readonly resets_in_s: number | null
}

export function standingsOf(limits: Limits, used: Used, now: number): Standing[] {
  const { requests_per_minute, concurrent_streams, tokens_per_day, usd_per_day } = limits
  const tomorrow = seconds(untilTomorrow(now))
  const standings: Standing[] = []
  function add(limit: LimitName, allowed: number | undefined, left: number, resets_in_s: number | null): void {
    if (allowed !== undefined) standings.push({ limit, allowed, left: Math.max(0, left), resets_in_s })
  }
  const perMinute = requests_per_minute ?? 0
  // Sums of fractions are off by far less.
  const requests = Math.floor(perMinute * (1 - used.refillMs / 60_000) + 1e-6)
  add('requests_per_minute', requests_per_minute, requests, seconds(used.refillMs))
  add('concurrent_streams', concurrent_streams, (concurrent_streams ?? 0) - used.streams, null)
  add('tokens_per_day', tokens_per_day, (tokens_per_day ?? 0) - used.tokens, tomorrow)
  add('usd_per_day', usd_per_day, Math.round((usd_per_day ?? 0) * 1e6 - used.microdollars) / 1e6, tomorrow)
  return standings
}

function seconds(milliseconds: number): number {
  return Math.ceil(milliseconds / 1_000)
}

/** The limits by the names that headers have for them, and what one of a unit is. */
const policies: Readonly<Record<LimitName, { name: string; parameters: string; unit: number }>> = {
  requests_per_minute: { name: 'requests', parameters: ';w=60', unit: 1 },
  concurrent_streams: { name: 'streams', parameters: ';qu="concurrent-requests"', unit: 1 },
  tokens_per_day: { name: 'tokens', parameters: ';qu="tokens";w=86400', unit: 1 },
  // A structured field has whole numbers only.
  usd_per_day: { name: 'spend', parameters: ';qu="microdollars";w=86400', unit: 1e6 },
}

/** @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ */
export function rateLimitHeaders(standings: readonly Standing[]): Record<string, string> {
  if (standings.length === 0) return {}
  const policy = standings.map(({ limit, allowed }) => {
    const { name, parameters, unit } = policies[limit]
    return `"${name}";q=${Math.floor(allowed * unit)}${parameters}`
  })
  const state = standings.map(({ limit, left, resets_in_s }) => {
    const { name, unit } = policies[limit]
    return `"${name}";r=${Math.floor(left * unit)}${resets_in_s === null ? '' : `;t=${resets_in_s}`}`
  })
  return { 'ratelimit-policy': policy.join(', '), ratelimit: state.join(', ') }
}
