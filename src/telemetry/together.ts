import type { Bucket } from '../core/history.ts'
import type { OpsNow } from '../core/ops.ts'

type Counts = Readonly<Record<string, number>>

/** What several processes did in the same seconds, the oldest first. */
export function hourOfAll(hours: readonly (readonly Bucket[])[]): Bucket[] {
  const all = Map.groupBy(hours.flat(), ({ until }) => until)
  return Array.from(all.values(), bucketOfAll).sort((one, other) => one.until - other.until)
}

/**
 * The median is the mean of theirs, by the runs that ended; of the slowest 5 % the process tells that is the slowest: the
 * times themselves are not kept.
 */
function bucketOfAll(buckets: readonly Bucket[]): Bucket {
  const sum = (of: (bucket: Bucket) => number) => buckets.reduce((total, bucket) => total + of(bucket), 0)
  const timed = buckets.filter(({ ttftP50Ms }) => ttftP50Ms !== null)
  const ended = ({ done, failed, cancelled }: Bucket) => done + failed + cancelled
  const weight = timed.reduce((total, bucket) => total + ended(bucket), 0)
  const weighed = timed.reduce((total, bucket) => total + (bucket.ttftP50Ms ?? 0) * ended(bucket), 0)
  return {
    until: Math.max(...buckets.map(({ until }) => until)),
    live: sum(({ live }) => live),
    readers: sum(({ readers }) => readers),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    loopTurnMs: Math.max(...buckets.map(({ loopTurnMs }) => loopTurnMs)),
    begun: sum(({ begun }) => begun),
    done: sum(({ done }) => done),
    failed: sum(({ failed }) => failed),
    cancelled: sum(({ cancelled }) => cancelled),
    errors: sumOfCounts(buckets.map(({ errors }) => errors)),
    clocks: sumOfCounts(buckets.map(({ clocks }) => clocks)),
    calls: sum(({ calls }) => calls),
    failedCalls: sum(({ failedCalls }) => failedCalls),
    outputTokens: sum(({ outputTokens }) => outputTokens),
    costUsd: sum(({ costUsd }) => costUsd),
    ttftP50Ms: weight > 0 ? weighed / weight : null,
    ttftP95Ms: timed.length > 0 ? Math.max(...timed.map(({ ttftP95Ms }) => ttftP95Ms ?? 0)) : null,
  }
}

function sumOfCounts(all: readonly Counts[]): Counts {
  const sums = new Map<string, number>()
  for (const [name, count] of all.flatMap(Object.entries<number>)) sums.set(name, (sums.get(name) ?? 0) + count)
  return Object.fromEntries(sums)
}

/**
 * How things stand with several processes. Each has keys that rest of its own, and a connection may come to any: what is
 * wrong with one of them is told.
 * @param mostStreams the oldest are told of
 */
export function nowOfAll(all: readonly OpsNow[], mostStreams: number): OpsNow {
  const sum = (of: (now: OpsNow) => number) => all.reduce((total, now) => total + of(now), 0)
  const stores = all.map(({ storeUp }) => storeUp).filter((up) => up !== null)
  return {
    type: 'now',
    at: Math.max(...all.map(({ at }) => at)),
    live: sum(({ live }) => live),
    readers: sum(({ readers }) => readers),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    draining: all.some(({ draining }) => draining),
    pressure: all.find(({ pressure }) => pressure !== null)?.pressure ?? null,
    apiKeys: Math.max(...all.map(({ apiKeys }) => apiKeys)),
    restingKeys: Math.max(...all.map(({ restingKeys }) => restingKeys)),
    storeUp: stores.length > 0 ? stores.every((up) => up) : null,
    streams: all
      .flatMap(({ streams }) => streams)
      .sort((one, other) => other.ageMs - one.ageMs)
      .slice(0, mostStreams),
  }
}
