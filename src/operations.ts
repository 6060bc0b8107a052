import type { OpsStream } from './core/ops.ts'
import type { LiveRun } from './core/report.ts'
import type { Lag } from './delivery/outlet.ts'
import type { OpsSource } from './http/ops.ts'
import type { Observed } from './instruments.ts'
import type { History } from './telemetry/history.ts'
import { lagOf } from './telemetry/metrics/gauges.ts'

/** Streams that operators are shown at a time: with thousands of them, the oldest are those that may hang. */
const mostStreams = 200

/** What of a Sluice that runs its operators see, and what they may do. */
export function operationsOf(observed: Observed, history: History): OpsSource {
  const { streams, readers, pressure } = observed
  return {
    hour: () => history.recent(),
    stop: (id) => streams.stop(id),
    now() {
      const runs = streams.list().sort((one, other) => other.ageMs - one.ageMs)
      const lags = lagsOf(readers.open)
      const resting = Object.values(observed.restingKeys()).reduce((sum: number, count) => sum + (count ?? 0), 0)
      return {
        type: 'now',
        at: Date.now(),
        live: runs.length,
        readers: lagOf(readers.open).readers + readers.collecting,
        memoryBytes: process.memoryUsage.rss(),
        draining: streams.draining,
        pressure: pressure.reason ?? null,
        apiKeys: observed.keys,
        restingKeys: resting,
        storeUp: observed.storeHealth()?.up ?? null,
        streams: runs.slice(0, mostStreams).map((run) => describe(run, lags.get(run.stream))),
      }
    },
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
