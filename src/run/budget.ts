const windowSeconds = 60

export interface BudgetOptions {
  /** Extra calls for each request of the last minute. */
  readonly budget_ratio: number
  /** Extra calls in a minute that are allowed however few requests there are. */
  readonly budget_floor: number
}

/**
 * What all runs together may ask of Claude beyond a call for each: retries, fallbacks and continuations. Each run has a
 * limit of its own; but when Claude fails, all of them retry, and would double or triple the load that it fails under.
 *
 * Times are milliseconds of the monotonic clock. In no 60 s are there more extra calls than the floor allows, or the
 * ratio for the requests of a window of 60 s. Seconds are counted whole, and doubt counts against the extra call: its like
 * are remembered for 60 to 61 s, the requests that pay for it for 59 to 60 s.
 */
export class RetryBudget {
  readonly #ratio: number
  readonly #floor: number
  readonly #requests = new RecentCount(windowSeconds)
  readonly #extra = new RecentCount(windowSeconds + 1)

  constructor({ budget_ratio, budget_floor }: BudgetOptions) {
    this.#ratio = budget_ratio
    this.#floor = budget_floor
  }

  /** A run has begun. */
  begun(now: number): void {
    this.#requests.add(now)
  }

  /** @returns whether there may be an extra call, which is counted then */
  take(now: number): boolean {
    if (this.left(now) < 1) return false
    this.#extra.add(now)
    return true
  }

  /** How many extra calls there may be now; less than 1 for none. */
  left(now: number): number {
    return Math.max(this.#floor, this.#ratio * this.#requests.total(now)) - this.#extra.total(now)
  }
}

/** Counts what happened in the second under way and those before it. */
class RecentCount {
  /** By second, round and round. */
  readonly #counts: number[]
  /** The latest. */
  #second = 0
  #total = 0

  constructor(seconds: number) {
    this.#counts = Array.from({ length: seconds }, () => 0)
  }

  add(now: number): void {
    this.#moveTo(now)
    const slot = this.#second % this.#counts.length
    this.#counts[slot] = (this.#counts[slot] as number) + 1
    this.#total++
  }

  total(now: number): number {
    this.#moveTo(now)
    return this.#total
  }

  /** Forgets the seconds that have left the window, each slot once at most. */
  #moveTo(now: number): void {
    const second = Math.floor(now / 1_000)
    const { length } = this.#counts
    for (let next = Math.max(this.#second + 1, second - length + 1); next <= second; next++) {
      this.#total -= this.#counts[next % length] as number
      this.#counts[next % length] = 0
    }
    this.#second = Math.max(this.#second, second)
  }
}
