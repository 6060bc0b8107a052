import type { OwnerSignals } from '../../core/ports.ts'
import type { ToolDecision } from '../../core/tools.ts'

/** An owner that hears nothing. */
export const noOwner: OwnerSignals = {
  onReaders() {},
  async onStop() {},
  onDecision: async () => false,
  onFenced() {},
}

/** Where the run of a log sits. A run that has yet to come hears then what it would have heard; one that is over, nothing. */
export class OwnerSeat implements OwnerSignals {
  #owner: OwnerSignals | undefined
  #readers = 0
  #fenced = false
  /** Somebody has come, or nobody has to any more. */
  readonly #settled = Promise.withResolvers<void>()
  /** Whether decisions that came from elsewhere were taken: whoever has not heard it asks again. */
  readonly #decided = new Map<string, Promise<boolean>>()

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

  /** @param ask the same for the same question */
  onDecision(call: string, decision: ToolDecision, ask?: string): Promise<boolean> {
    const earlier = ask === undefined ? undefined : this.#decided.get(ask)
    if (earlier) return earlier
    const taken = this.#decide(call, decision)
    if (ask === undefined) return taken
    this.#decided.set(ask, taken)
    // What was taken can be asked again. What was not is no more so the second time, and there is no end of such questions.
    const forget = () => void this.#decided.delete(ask)
    taken.then((isTaken) => isTaken || forget(), forget)
    return taken
  }

  async #decide(call: string, decision: ToolDecision): Promise<boolean> {
    if (!this.#owner) await this.#settled.promise
    return (await this.#owner?.onDecision(call, decision)) ?? false
  }

  onFenced(): void {
    this.#fenced = true
    this.#owner?.onFenced()
    this.#settled.resolve()
  }
}
