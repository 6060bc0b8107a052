import type { StoreHealth } from '../../core/ports.ts'
import type { LiveRun } from '../../core/report.ts'
import type { Lag } from '../../delivery/outlet.ts'
import type { NameOf } from './catalogue.ts'

/** What is looked at when somebody asks for the metrics, and not before. */
export interface Sources {
  readonly streams: { readonly live: number; readonly begun: number; readonly draining: boolean; list(): LiveRun[] }
  readonly readers: {
    readonly open: Iterable<{ readonly lag: Lag }>
    /** Clients that wait for whole answers. */
    readonly collecting: number
  }
  readonly pressure: {
    readonly reason: string | undefined
    readonly loop: { readonly turnMs: number; readonly utilization: number }
  }
  readonly keys: number
  restingKeys(): Partial<Record<string, number>>
  extraCallsLeft(): number
  /** `undefined` without a store that can be away. */
  storeHealth(): StoreHealth | undefined
}

/** Values of one metric, by its label where it has one. */
export type Values = number | Readonly<Record<string, number>>

export function readings(sources: Sources): Partial<Record<NameOf<'gauge'> | 'sluice_streams_started_total', Values>> {
  const { streams, readers, pressure } = sources
  const store = sources.storeHealth()
  const lag = lagOf(readers.open)
  const { reason } = pressure
  return {
    sluice_streams_started_total: streams.begun,
    sluice_streams_live: streams.live,
    sluice_streams_unread: streams.list().filter(({ readers }) => readers === 0).length,
    sluice_readers: lag.readers + readers.collecting,
    sluice_readers_lagging: lag.lagging,
    sluice_reader_lag_events: lag.events,
    sluice_reader_lag_bytes: lag.bytes,
    sluice_pressure: { heap: 0, memory: 0, event_loop: 0, ...(reason !== undefined && { [reason]: 1 }) },
    sluice_event_loop_turn_seconds: pressure.loop.turnMs / 1_000,
    sluice_event_loop_utilization: pressure.loop.utilization,
    sluice_draining: streams.draining ? 1 : 0,
    sluice_extra_calls_left: Math.max(0, Math.floor(sources.extraCallsLeft())),
    sluice_api_keys: sources.keys,
    sluice_api_keys_resting: {
      upstream_rate_limited: 0,
      upstream_overloaded: 0,
      upstream_auth: 0,
      ...(sources.restingKeys() as Record<string, number>),
    },
    ...(store && {
      sluice_redis_up: store.up ? 1 : 0,
      sluice_redis_streams: store.streams,
      sluice_redis_unsent_events: store.unsentEvents,
    }),
  }
}

/** How many readers there are, for how many of them something waits, and the most of it. */
export function lagOf(open: Iterable<{ readonly lag: Lag }>): Lag & { readers: number; lagging: number } {
  const all = { readers: 0, lagging: 0, events: 0, bytes: 0 }
  for (const { lag } of open) {
    all.readers++
    if (lag.bytes > 0) all.lagging++
    all.events = Math.max(all.events, lag.events)
    all.bytes = Math.max(all.bytes, lag.bytes)
  }
  return all
}
