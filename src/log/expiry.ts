/** Forgets things, each so long after it was added: one timer serves them all, as they expire in the order they came. */
export class Expiry<T> {
  readonly #afterMs: number
  readonly #onExpired: (item: T) => void
  readonly #expiresAt = new Map<T, number>()
  #timer: NodeJS.Timeout | undefined

  /** @param afterMs milliseconds */
  constructor(afterMs: number, onExpired: (item: T) => void) {
    this.#afterMs = afterMs
    this.#onExpired = onExpired
  }

  /** The one that expires next. */
  get oldest(): T | undefined {
    const [oldest] = this.#expiresAt.keys()
    return oldest
  }

  add(item: T): void {
    this.#expiresAt.set(item, performance.now() + this.#afterMs)
    this.#schedule()
  }

  delete(item: T): void {
    this.#expiresAt.delete(item)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#expiresAt.clear()
  }

  #expire(): void {
    this.#timer = undefined
    const now = performance.now()
    for (const [item, at] of this.#expiresAt) {
      if (at > now) break
      this.#expiresAt.delete(item)
      this.#onExpired(item)
    }
    this.#schedule()
  }

  #schedule(): void {
    const [next] = this.#expiresAt.values()
    if (next === undefined || this.#timer) return
    this.#timer = setTimeout(() => this.#expire(), Math.max(1, next - performance.now()))
    this.#timer.unref()
  }
}
