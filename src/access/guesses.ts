import { networkOf } from '../core/address.ts'

/** So many wrong keys may come from one address in this time. */
const maxGuesses = 20
/** In milliseconds. */
const windowMs = 60_000
/** Addresses remembered; beyond it the one whose time is over first is forgotten. */
const maxAddresses = 10_000

/** Counts wrong keys, or what else somebody tries in vain, by the address that they come from. */
export class Guesses {
  readonly #onTooMany: (address: string) => void
  readonly #now: () => number
  readonly #max: number
  /** By the beginning of their time, as they were added. */
  readonly #windows = new Map<string, { readonly until: number; count: number }>()

  /**
   * @param onTooMany an address has to wait from now on
   * @param now in milliseconds
   * @param max how many of them are borne from one address
   */
  constructor(onTooMany: (address: string) => void, now = () => performance.now(), max = maxGuesses) {
    this.#onTooMany = onTooMany
    this.#now = now
    this.#max = max
  }

  get size(): number {
    return this.#windows.size
  }

  /**
   * Takes note of a wrong key.
   * @returns how long the address has to wait, in milliseconds, if it has sent too many
   */
  add(address: string): number | undefined {
    const network = networkOf(address)
    const now = this.#now()
    let window = this.#windows.get(network)
    if (!window || now >= window.until) {
      // Deleted first: it takes its place at the end.
      this.#windows.delete(network)
      window = { until: now + windowMs, count: 0 }
      this.#windows.set(network, window)
      this.#forgetOldest()
    }
    window.count++
    if (window.count === this.#max + 1) this.#onTooMany(network)
    return window.count > this.#max ? window.until - now : undefined
  }

  #forgetOldest(): void {
    const [oldest] = this.#windows.keys()
    if (this.#windows.size > maxAddresses && oldest !== undefined) this.#windows.delete(oldest)
  }
}
