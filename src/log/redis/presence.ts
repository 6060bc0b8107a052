/** A replica that has not said for so long that it has readers has none, in milliseconds. */
const presenceMs = 5_000

/** The readers of one log in other processes, as far as those have said. */
export class ReadersElsewhere {
  /** How many each replica has, and when it last said so. */
  readonly #replicas = new Map<string, { readonly count: number; heardAt: number }>()
  /** Some are on their way from here to there. */
  #expectedUntil: number | undefined

  get count(): number {
    let count = this.#expectedUntil === undefined ? 0 : 1
    for (const each of this.#replicas.values()) count += each.count
    return count
  }

  /** Replicas that have any. */
  get replicas(): Iterable<string> {
    return this.#replicas.keys()
  }

  /** @returns whether the replica is heard of for the first time */
  hear(replica: string, count: number, now: number): boolean {
    const isNew = count > 0 && !this.#replicas.has(replica)
    if (count > 0) this.#replicas.set(replica, { count, heardAt: now })
    else this.#replicas.delete(replica)
    return isNew
  }

  expect(now: number): void {
    this.#expectedUntil = now + presenceMs
  }

  /**
   * Those whose replica has fallen silent are gone.
   * @param audible nobody is gone who could not be heard
   */
  expire(now: number, audible: boolean): void {
    if (this.#expectedUntil !== undefined && now >= this.#expectedUntil) this.#expectedUntil = undefined
    for (const [replica, { heardAt }] of this.#replicas) {
      if (audible && now - heardAt >= presenceMs) this.#replicas.delete(replica)
    }
  }
}

/** Whether all that was said has been heard. */
export class Hearing {
  readonly #deafMs: number
  /** When something was last heard, and since when without a break. */
  #heardAt = 0
  #since = 0

  /** @param deafMs who hears nothing for so long, not even itself, may have missed something, in milliseconds */
  constructor(deafMs: number) {
    this.#deafMs = deafMs
  }

  note(now: number): void {
    if (now - this.#heardAt > this.#deafMs) this.#since = now
    this.#heardAt = now
  }

  /** Whoever has readers has been heard saying so. */
  isReliable(now: number): boolean {
    return now - this.#heardAt <= this.#deafMs && now - this.#since >= presenceMs
  }
}
