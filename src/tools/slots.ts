/** Lets so many in at once; the others wait in turn. */
export class Slots {
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(count: number) {
    this.#free = count
  }

  /** @returns whether there was one within `waitMs`, and before the signal; whoever has it calls `leave` once */
  async enter(waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false
    if (this.#free > 0) {
      this.#free--
      return true
    }
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const take = () => resolve(true)
    const giveUp = () => {
      this.#waiting.delete(take)
      resolve(false)
    }
    this.#waiting.add(take)
    const timer = setTimeout(giveUp, waitMs)
    signal.addEventListener('abort', giveUp, { once: true })
    const entered = await promise
    clearTimeout(timer)
    signal.removeEventListener('abort', giveUp)
    return entered
  }

  leave(): void {
    const [next] = this.#waiting
    if (!next) this.#free++
    else {
      this.#waiting.delete(next)
      next()
    }
  }
}
