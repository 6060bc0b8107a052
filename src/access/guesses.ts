import { isIPv6 } from 'node:net'

/** So many wrong keys may come from one address in this time, in milliseconds. */
const maxGuesses = 20
const windowMs = 60_000
/** Addresses remembered; beyond it the one whose time is over first is forgotten. */
const maxAddresses = 10_000

/** Counts wrong keys by the address that they come from. */
export class Guesses {
  readonly #onTooMany: (address: string) => void
  readonly #now: () => number
  /** By the beginning of their time, as they were added. */
  readonly #windows = new Map<string, { readonly until: number; count: number }>()

  /**
   * @param onTooMany an address has to wait from now on
   * @param now in milliseconds
   */
  constructor(onTooMany: (address: string) => void, now = () => performance.now()) {
    this.#onTooMany = onTooMany
    this.#now = now
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
    if (window.count === maxGuesses + 1) this.#onTooMany(network)
    return window.count > maxGuesses ? window.until - now : undefined
  }

  #forgetOldest(): void {
    const [oldest] = this.#windows.keys()
    if (this.#windows.size > maxAddresses && oldest !== undefined) this.#windows.delete(oldest)
  }
}

/** Whoever has one IPv6 address has the 2^64 beside it as well. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address
  const [head = [], tail = []] = address.split('::').map((part) => part.split(':').filter((group) => group !== ''))
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => '0')
  return [...head, ...zeros, ...tail].slice(0, 4).join(':')
}
