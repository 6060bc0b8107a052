/** What happened in some seconds, and how things stood at their end. */
export interface Bucket {
  /** When it ended, in milliseconds since the epoch. */
  readonly until: number
  readonly live: number
  readonly readers: number
  readonly memoryBytes: number
  readonly loopTurnMs: number
  readonly begun: number
  readonly done: number
  readonly failed: number
  readonly cancelled: number
  /** Of the runs that failed, by their code. */
  readonly errors: Readonly<Record<string, number>>
  readonly clocks: Readonly<Record<string, number>>
  /** Calls to Claude that ended, and those of them that failed. */
  readonly calls: number
  readonly failedCalls: number
  /** Of runs that ended and of those under way. */
  readonly outputTokens: number
  /** Of runs that ended; what has no price is not in it. */
  readonly costUsd: number
  /** Times to the first of an answer, of runs that ended; `null` where none has had one. */
  readonly ttftP50Ms: number | null
  readonly ttftP95Ms: number | null
}
