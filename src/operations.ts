import type { Bucket } from './core/history.ts'
import type { OpsNow, OpsStream } from './core/ops.ts'
import type { LiveRun } from './core/report.ts'
import type { Lag } from './delivery/outlet.ts'
import type { Colleagues } from './gathering.ts'
import type { OpsLook, OpsSource } from './http/ops.ts'
import type { Observed } from './instruments.ts'
import type { History } from './telemetry/history.ts'
import { lagOf } from './telemetry/metrics/gauges.ts'
import { hourOfAll, nowOfAll } from './telemetry/together.ts'

/** Streams that operators are shown at a time: with thousands of them, the oldest are those that may hang. */
const mostStreams = 200

/** Buckets of the last minute: more than a watcher can have missed. */
const lately = 6
/** A bucket is told of when each worker has had the time to close its own, in milliseconds. */
const settledMs = 2_000

/** What of a Sluice that runs its operators see, and what they may do: with several workers, of all of them. */
export function operationsOf(observed: Observed, history: History, colleagues: Colleagues | undefined): OpsSource {
  const look = async (): Promise<OpsLook> => ({ now: standing(observed), later: history.recent().slice(-lately) })
  const hour = async () => history.recent()
  const stop = (id: string) => observed.streams.stop(id)
  if (!colleagues) return { look, hour, stop }

  colleagues.answer('ops', look)
  colleagues.answer('hour', hour)
  return {
    stop,
    async look() {
      const all = (await colleagues.ask('ops')) as OpsLook[]
      const now = nowOfAll(
        all.map(({ now }) => now),
        mostStreams,
      )
      return { now, later: settled(all.map(({ later }) => later)) }
    },
    hour: async () => settled((await colleagues.ask('hour')) as Bucket[][]),
  }
}

function settled(hours: readonly (readonly Bucket[])[]): Bucket[] {
  return hourOfAll(hours).filter(({ until }) => until <= Date.now() - settledMs)
}

function standing({ streams, readers, pressure, keys, restingKeys, storeHealth }: Observed): OpsNow {
  const runs = streams.list().sort((one, other) => other.ageMs - one.ageMs)
  const lags = lagsOf(readers.open)
  return {
    type: 'now',
    at: Date.now(),
    live: runs.length,
    readers: lagOf(readers.open).readers + readers.collecting,
    memoryBytes: process.memoryUsage.rss(),
    draining: streams.draining,
    pressure: pressure.reason ?? null,
    apiKeys: keys,
    restingKeys: Object.values(restingKeys()).reduce((sum: number, count) => sum + (count ?? 0), 0),
    storeUp: storeHealth()?.up ?? null,
    streams: runs.slice(0, mostStreams).map((run) => describe(run, lags.get(run.stream))),
  }
}

function describe(run: LiveRun, lag: Lag = { events: 0, bytes: 0 }): OpsStream {
  const { stream, principal, model, preset, state, ageMs, ttftMs, readers, recoveries, outputTokens } = run
  const generatingMs = ttftMs === null ? 0 : ageMs - ttftMs
  return {
    ...{ stream, principal, model, preset, state, ageMs, ttftMs, readers, recoveries, outputTokens },
    tokensPerSecond: generatingMs > 0 ? (outputTokens / generatingMs) * 1_000 : null,
    lagEvents: lag.events,
    lagBytes: lag.bytes,
  }
}

/** The largest of each stream. */
function lagsOf(open: Observed['readers']['open']): Map<string, Lag> {
  const lags = new Map<string, Lag>()
  for (const { log, lag } of open) {
    const other = lags.get(log.id) ?? { events: 0, bytes: 0 }
    lags.set(log.id, { events: Math.max(lag.events, other.events), bytes: Math.max(lag.bytes, other.bytes) })
  }
  return lags
}
