import type { OwnerSignals } from '../../core/ports.ts'

/** Where the run of a log sits. A run that has yet to come hears then what it would have heard; one that is over, nothing. */
export class OwnerSeat implements OwnerSignals {
  #owner: OwnerSignals | undefined
  #readers = 0
  #fenced = false
  /** Somebody has come, or nobody has to any more. */
  readonly #settled = Promise.withResolvers<void>()

  take(owner: OwnerSignals): void {
    this.#owner = owner
    if (this.#readers > 0) owner.onReaders(this.#readers)
    if (this.#fenced) owner.onFenced()
    this.#settled.resolve()
  }

  /** The log is sealed. */
  leave(): void {
    this.#owner = undefined
    this.#settled.resolve()
  }

  onReaders(count: number): void {
    if (count === this.#readers) return
    this.#readers = count
    this.#owner?.onReaders(count)
  }

  /** Resolves when the run has stopped, or another way when there is none to stop. */
  async onStop(): Promise<void> {
    if (!this.#owner) await this.#settled.promise
    await this.#owner?.onStop()
  }

  onFenced(): void {
    this.#fenced = true
    this.#owner?.onFenced()
    this.#settled.resolve()
  }
}
