/** Something that must look at the clock now and then. */
export interface Swept {
  /**
   * Looks at the clock.
   * @param now milliseconds of the monotonic clock, `performance.now()`
   * @returns when it must look again at the latest, in the same
   */
  tick(now: number): number
}

/** A tick this late means that the process, not the others, stood still; in milliseconds. */
const stalledMs = 500

/**
 * One timer for everything that waits. Deadlines that move at each event are nearly always moved further away: so a
 * member is looked at when the deadline that it last told has come, and then says what has become of it. Looking at all
 * of 10,000 members every 25 ms took 40 % of a core, nearly all of it waiting for memory.
 */
export class Sweep {
  readonly #intervalMs: number
  /** Members by the interval in which they are due. */
  readonly #slots = new Map<number, Set<Swept>>()
  readonly #slotOf = new Map<Swept, number>()
  /** The next slot to be looked at. */
  #next = 0
  #timer: NodeJS.Timeout | undefined
  #lastTickAt = 0

  /** @param intervalMs a clock fires up to two of these late */
  constructor(intervalMs = 10) {
    this.#intervalMs = intervalMs
  }

  get size(): number {
    return this.#slotOf.size
  }

  /**
   * Has a member look at the clock at `at`, if not before: adds it, or moves an earlier deadline in front of the one that
   * it waits for.
   */
  due(member: Swept, at: number): void {
    this.#start()
    const slot = Math.max(this.#next, Math.ceil(at / this.#intervalMs))
    const before = this.#slotOf.get(member)
    if (before !== undefined && before <= slot) return
    if (before !== undefined) this.#slots.get(before)?.delete(member)
    this.#slotOf.set(member, slot)
    const members = this.#slots.get(slot)
    if (members) members.add(member)
    else this.#slots.set(slot, new Set([member]))
  }

  delete(member: Swept): void {
    const slot = this.#slotOf.get(member)
    if (slot === undefined) return
    this.#slots.get(slot)?.delete(member)
    this.#slotOf.delete(member)
    if (this.#slotOf.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#slots.clear()
  }

  #start(): void {
    if (this.#timer) return
    this.#lastTickAt = performance.now()
    this.#next = Math.floor(this.#lastTickAt / this.#intervalMs)
    this.#timer = setInterval(() => this.#tick(performance.now()), this.#intervalMs)
  }

  #tick(now: number): void {
    const late = now - this.#lastTickAt > stalledMs
    this.#lastTickAt = now
    // After a stall of the whole process, bytes that came meanwhile are read before anybody is judged for silence.
    if (late) return
    for (const last = Math.floor(now / this.#intervalMs); this.#next <= last; ) {
      const members = this.#slots.get(this.#next)
      this.#slots.delete(this.#next++)
      for (const member of members ?? []) this.#look(member, now)
    }
  }

  /** A look may delete the member, or others that were due with it. */
  #look(member: Swept, now: number): void {
    if (!this.#slotOf.has(member)) return
    const at = member.tick(now)
    if (this.#slotOf.delete(member)) this.due(member, at)
  }
}
