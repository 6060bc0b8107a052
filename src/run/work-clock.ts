/** Counts how long something has been at work, several at a time counting as one. */
export class WorkClock {
  readonly #limitMs: number
  #usedMs = 0
  #working = 0
  #since = 0
  #timer: NodeJS.Timeout | undefined
  /** Called when there has been work for as long as there may be. */
  onOver: () => void = () => {}

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  begin(): void {
    if (this.#working++ > 0) return
    this.#since = performance.now()
    this.#timer = setTimeout(() => this.onOver(), Math.max(0, this.#limitMs - this.#usedMs))
  }

  end(): void {
    if (--this.#working > 0) return
    this.#usedMs += performance.now() - this.#since
    clearTimeout(this.#timer)
  }
}
