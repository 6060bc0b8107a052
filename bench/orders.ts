/** How requests are written and what their streams must be like. */
export interface Exchange {
  readonly port: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** What the last bytes of a whole stream hold; without it, a stream that ends by itself is a failure. */
  readonly terminator?: string
  /** Deltas of each stream that ends by itself; more or fewer are a failure. */
  readonly deltas: number
  /** Each delta begins with the time at which it was written. */
  readonly stamped: boolean
}

/** Processes whose use of CPU and memory belongs to a measurement. */
export interface Watched {
  readonly target: readonly number[]
  /** Where the target keeps its streams, if not in itself. */
  readonly store: readonly number[]
  readonly upstream: readonly number[]
}

/** What a load is like. */
export type Load =
  | {
      /** So many streams in flight, each followed by the next. */
      readonly kind: 'loop'
      readonly streams: number
      readonly rampMs: number
      readonly warmUpMs: number
      readonly windowMs: number
    }
  | {
      /** One request after the other. */
      readonly kind: 'sequence'
      readonly warmUp: number
      readonly requests: number
    }
  | {
      /** So many streams, opened over a while, watched for a while, then hung up on. */
      readonly kind: 'hold'
      readonly streams: number
      readonly rampMs: number
      readonly warmUpMs: number
      readonly windowMs: number
    }

/** What the client process is told to do. */
export interface Order {
  readonly exchange: Exchange
  readonly watched: Watched
  readonly load: Load
  /** More than the target can carry: it may refuse streams with 503, or let them wait. */
  readonly overload: boolean
}

export interface Percentiles {
  readonly p50: number
  readonly p99: number
}

/** What the client process answers. */
export interface Outcome {
  /** Length of the window. */
  readonly seconds: number
  /** Deltas that came in the window. */
  readonly deltas: number
  /** Streams that ended in the window. */
  readonly ended: number
  /** Streams that were begun, at any time, and those of them that were answered with 503. */
  readonly begun: number
  readonly refused: number
  /** Those that were neither refused nor had a delta by the end of the window. */
  readonly mute: number
  /** Milliseconds: of stamped deltas from write to read, of a sequence from request to first delta. */
  readonly latency?: Percentiles | undefined
  /** CPU time used in the window, in seconds; of the machine, by all processes and the kernel. */
  readonly cpu: Readonly<Record<keyof Watched | 'client' | 'machine', number>>
  /** Resident memory of the target: before the first connection, at the start of the window, at its end. */
  readonly bytes: { readonly before: number; readonly start: number; readonly end: number }
  /** What went wrong at any time, and how often. */
  readonly failures: Readonly<Record<string, number>>
}
