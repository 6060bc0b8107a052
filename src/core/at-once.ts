/** So many do something at a time; the others wait for their turn, in the order they came. */
export class Turns {
  readonly #waiting: (() => void)[] = []
  #left: number

  constructor(atOnce: number) {
    this.#left = atOnce
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#left > 0) this.#left--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#left++
    }
  }
}
