import { SluiceError } from '../core/errors.ts'
import type { SpentTickets } from '../core/ports.ts'

/** Some hundred bytes each. */
const maxTickets = 500_000

/** The used tickets of one process. */
export class LocalSpentTickets implements SpentTickets {
  /** About in the order in which they can be forgotten. */
  readonly #bound = new Map<string, { readonly stream: string; readonly untilMs: number }>()
  readonly #now: () => number
  readonly #max: number

  /** @param now in milliseconds since 1970 */
  constructor(now = Date.now, max = maxTickets) {
    this.#now = now
    this.#max = max
  }

  get size(): number {
    return this.#bound.size
  }

  async bind(ticket: string, stream: string, untilMs: number): Promise<string> {
    // Without a pause between looking and writing.
    const earlier = this.#bound.get(ticket)
    if (earlier) return earlier.stream
    this.#forget()
    // Forgotten before its time, it could be used again.
    if (this.#bound.size >= this.#max) throw new SluiceError('too_many_streams')
    this.#bound.set(ticket, { stream, untilMs })
    return stream
  }

  async find(ticket: string): Promise<string | undefined> {
    return this.#bound.get(ticket)?.stream
  }

  async free(ticket: string, stream: string): Promise<void> {
    if (this.#bound.get(ticket)?.stream === stream) this.#bound.delete(ticket)
  }

  #forget(): void {
    const now = this.#now()
    for (const [ticket, { untilMs }] of this.#bound) {
      if (untilMs > now) return
      this.#bound.delete(ticket)
    }
  }
}
