import type { Bucket } from '../core/history.ts'
import type { RunReport } from '../core/report.ts'
import { isClock } from './metrics/catalogue.ts'

/** How things stand when a bucket is closed. */
export interface Standing extends Pick<Bucket, 'until' | 'live' | 'readers' | 'memoryBytes' | 'loopTurnMs'> {
  /** Runs begun since this process was. */
  readonly begun: number
  /** Output of the runs under way, so far. */
  readonly liveTokens: number
}

/** Times that are kept of one bucket: the latest, which say as much of thousands as all of them would. */
const maxTimes = 1_000

/** The last hour of this process, in few numbers: it takes some 200 KB however much happens. */
export class History {
  readonly #capacity: number
  readonly #buckets: Bucket[] = []
  #now = newCounts()
  #begun = 0
  /** Output of all runs that have ended. */
  #endedTokens = 0
  /** Output of all runs, at the last look. */
  #tokens = 0

  /** @param capacity buckets that are kept: 360 of ten seconds are an hour */
  constructor(capacity = 360) {
    this.#capacity = capacity
  }

  ended({ terminal, timing, tries, failure, costUsd }: RunReport): void {
    const now = this.#now
    if (terminal.type === 'done') now.done++
    else if (terminal.type === 'cancelled') now.cancelled++
    else {
      now.failed++
      count(now.errors, terminal.error.code)
    }
    if (failure?.reason === 'total_ms') count(now.clocks, failure.reason)
    for (const { failure } of tries) {
      if (isClock(failure?.reason)) count(now.clocks, failure.reason)
      now.calls++
      if (failure) now.failedCalls++
    }
    this.#endedTokens += terminal.usage.output_tokens
    now.costUsd += costUsd ?? 0
    if (timing.ttft_ms !== null) now.ttfts[now.timed++ % maxTimes] = timing.ttft_ms
  }

  /** Closes the bucket under way. */
  close({ begun, liveTokens, ...standing }: Standing): void {
    const { ttfts, timed: _, ...counts } = this.#now
    const tokens = this.#endedTokens + liveTokens
    const sorted = ttfts.sort((one, other) => one - other)
    this.#buckets.push({
      ...standing,
      ...counts,
      begun: begun - this.#begun,
      // An estimate may turn out to have been too high.
      outputTokens: Math.max(0, tokens - this.#tokens),
      ttftP50Ms: quantile(sorted, 0.5),
      ttftP95Ms: quantile(sorted, 0.95),
    })
    if (this.#buckets.length > this.#capacity) this.#buckets.shift()
    this.#begun = begun
    this.#tokens = tokens
    this.#now = newCounts()
  }

  /** Closed buckets, the oldest first. */
  recent(): readonly Bucket[] {
    return [...this.#buckets]
  }
}

function newCounts() {
  return {
    done: 0,
    failed: 0,
    cancelled: 0,
    errors: {} as Record<string, number>,
    clocks: {} as Record<string, number>,
    calls: 0,
    failedCalls: 0,
    costUsd: 0,
    ttfts: [] as number[],
    timed: 0,
  }
}

function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}

/** The least value that so large a share of all does not exceed. */
function quantile(sorted: readonly number[], share: number): number | null {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? null
}
