/** Something that must look at the clock now and then. */
export interface Swept {
  /** @param now milliseconds of the monotonic clock, `performance.now()` */
  tick(now: number): void
}

/** A tick this late means that the process, not the others, stood still; in milliseconds. */
const stalledMs = 500

/**
 * One timer for everything that waits. A timer per stream and clock costs 0.2 to 2 µs at each event that moves it;
 * remembering a time costs 8 ns, and looking at 5,000 of them every 25 ms is 0.2 % of a core.
 */
export class Sweep {
  readonly #members = new Set<Swept>()
  readonly #intervalMs: number
  #timer: NodeJS.Timeout | undefined
  #lastTickAt = 0

  /** @param intervalMs how late a clock may fire */
  constructor(intervalMs = 25) {
    this.#intervalMs = intervalMs
  }

  get size(): number {
    return this.#members.size
  }

  add(member: Swept): void {
    this.#members.add(member)
    if (!this.#timer) this.#lastTickAt = performance.now()
    this.#timer ??= setInterval(() => {
      const now = performance.now()
      const late = now - this.#lastTickAt > stalledMs
      this.#lastTickAt = now
      // After a stall of the whole process, bytes that came meanwhile are read before anybody is judged for silence.
      if (late) return
      for (const each of this.#members) each.tick(now)
    }, this.#intervalMs)
  }

  delete(member: Swept): void {
    this.#members.delete(member)
    if (this.#members.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
