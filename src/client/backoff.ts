import type { RetryOptions } from './options.ts'
import { isOffline } from './surroundings.ts'

/** Decides whether and when a lost connection is made again. */
export class Backoff {
  readonly #options: Required<RetryOptions>
  #losses = 0
  #refusals = 0
  #wake: (() => void) | undefined

  constructor({ attempts = 12, refusals = 3, minMs = 500, maxMs = 30_000 }: RetryOptions = {}) {
    this.#options = { attempts, refusals, minMs, maxMs }
  }

  /** Losses in a row. */
  get attempt(): number {
    return this.#losses + this.#refusals
  }

  /** A frame has come: whatever is lost from here on is lost for the first time. */
  progress(): void {
    this.#losses = this.#refusals = 0
  }

  /**
   * @param refused the server has answered the question, with a wish to be asked later
   * @param wishMs when the server wants to be asked again, if it said so
   * @returns the delay in milliseconds, or `undefined` to give up
   */
  next(refused: boolean, wishMs: number | undefined): number | undefined {
    const { attempts, refusals, minMs, maxMs } = this.#options
    // Only time is wasted there, and `online` ends the wait. But the browser may be wrong.
    if (isOffline()) return maxMs
    if (refused ? ++this.#refusals > refusals : ++this.#losses > attempts) return undefined
    if (wishMs !== undefined && wishMs > maxMs) return undefined
    const longest = Math.min(maxMs, (wishMs ?? minMs) * 2 ** (this.attempt - 1))
    // Those who are cut off together must not come back together; a server that names a delay sees to that itself.
    return wishMs === undefined ? longest * (0.5 + Math.random() / 2) : longest
  }

  /** Waits, unless it is woken. */
  async sleep(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = undefined
  }

  /** It is worth trying at once. */
  wake(): void {
    this.#wake?.()
  }
}
