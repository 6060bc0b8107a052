import type { Bucket } from './history.ts'
import type { LiveRun } from './report.ts'

/** A stream under way, as operators see it. */
export interface OpsStream
  extends Pick<
    LiveRun,
    'stream' | 'principal' | 'model' | 'preset' | 'state' | 'ageMs' | 'ttftMs' | 'readers' | 'recoveries'
  > {
  readonly outputTokens: number
  /** Since the first of them. */
  readonly tokensPerSecond: number | null
  /** What the reader that lags most has yet to take, of those that this process serves. */
  readonly lagEvents: number
  readonly lagBytes: number
}

/** How things stand. */
export interface OpsNow {
  readonly type: 'now'
  /** In milliseconds since the epoch. */
  readonly at: number
  readonly live: number
  readonly readers: number
  readonly memoryBytes: number
  readonly draining: boolean
  /** Why no new stream would be taken; `null` when nothing speaks against it. */
  readonly pressure: string | null
  readonly apiKeys: number
  /** Keys that Claude has refused a moment ago and that are left alone for now. */
  readonly restingKeys: number
  /** `null` without a store that can be away. */
  readonly storeUp: boolean | null
  /** The oldest first, a limited number of them. */
  readonly streams: readonly OpsStream[]
}

/** What `/ops/events` says: the last hour first, then what is added to it, and now and again how things stand. */
export type OpsFrame = { readonly type: 'hour' | 'later'; readonly buckets: readonly Bucket[] } | OpsNow
