/** Something that must look at the clock now and then. */
export interface Swept {
  /** The sweep's own note of it: `undefined` to begin with. */
  alarm: Alarm | undefined
  /**
   * Looks at the clock.
   * @param now milliseconds of the monotonic clock, `performance.now()`
   * @returns when it must look again at the latest, in the same
   */
  tick(now: number): number
}

/**
 * Whom a slot wakes. It lets go of the member that leaves: slots are made long before they are due, and V8 leaves what is
 * in a set where it lies when the set grows. With members themselves in the slots, 10 kB of each stream that had ended
 * were kept until the next full collection.
 */
export interface Alarm {
  member: Swept | undefined
  slot: number
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
  /** Alarms by the interval in which they are due. */
  readonly #slots = new Map<number, Set<Alarm>>()
  #size = 0
  /** The next slot to be looked at. */
  #next = 0
  #timer: NodeJS.Timeout | undefined
  #lastTickAt = 0

  /** @param intervalMs a clock fires up to two of these late */
  constructor(intervalMs = 10) {
    this.#intervalMs = intervalMs
  }

  get size(): number {
    return this.#size
  }

  /**
   * Has a member look at the clock at `at`, if not before: adds it, or moves an earlier deadline in front of the one that
   * it waits for.
   */
  due(member: Swept, at: number): void {
    this.#start()
    const slot = Math.max(this.#next, Math.ceil(at / this.#intervalMs))
    if (member.alarm && member.alarm.slot <= slot) return
    const alarm = member.alarm ?? this.#newAlarm(member)
    this.#slots.get(alarm.slot)?.delete(alarm)
    alarm.slot = slot
    const alarms = this.#slots.get(slot)
    if (alarms) alarms.add(alarm)
    else this.#slots.set(slot, new Set([alarm]))
  }

  delete(member: Swept): void {
    const { alarm } = member
    if (!alarm) return
    this.#slots.get(alarm.slot)?.delete(alarm)
    alarm.member = undefined
    member.alarm = undefined
    if (--this.#size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#slots.clear()
  }

  #newAlarm(member: Swept): Alarm {
    this.#size++
    member.alarm = { member, slot: Number.POSITIVE_INFINITY }
    return member.alarm
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
      const alarms = this.#slots.get(this.#next)
      this.#slots.delete(this.#next++)
      for (const alarm of alarms ?? []) this.#look(alarm, now)
    }
  }

  /** A look may delete the member, or others that were due with it. */
  #look(alarm: Alarm, now: number): void {
    const at = alarm.member?.tick(now)
    // Its slot is over.
    alarm.slot = Number.POSITIVE_INFINITY
    if (alarm.member && at !== undefined) this.due(alarm.member, at)
  }
}
