import type { ToolEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import { type ApprovalSignals, Approvals } from './approvals.ts'

/** The calls of one step while they are made. */
export class ToolRound {
  readonly approvals: Approvals
  /** How tools at work are told to stop. */
  readonly running = new Set<AbortController>()
  /** Rejects when the round is over before its calls are. */
  readonly over: Promise<never>
  #reason: unknown
  readonly #log: StreamLog
  readonly #end: (reason: unknown) => void
  #told: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(log: StreamLog, approvalMs: number, finish: ApprovalSignals['finish']) {
    const { promise, reject } = Promise.withResolvers<never>()
    // Whoever races with it handles it; once nobody does, there is nobody left to hear of it.
    promise.catch(() => {})
    this.over = promise
    this.#end = reject
    this.#log = log
    const signals: ApprovalSignals = {
      tell: (event) => this.tell(event),
      finish: async (...what) => {
        try {
          return await finish(...what)
        } catch (fault) {
          this.end(fault)
          throw fault
        }
      },
    }
    this.approvals = new Approvals(approvalMs, signals)
  }

  /**
   * Adds to the log, one after the other, as it wants it; once the round is over, nothing.
   * @returns whether the log has it
   */
  tell(...events: readonly ToolEvent[]): Promise<boolean> {
    const told = this.#told.then(async () => {
      if (this.#closed) return false
      await this.#log.append(events)
      return true
    })
    this.#told = told
    told.catch((fault) => this.end(fault))
    return told
  }

  /** Ends it before its time. */
  end(reason: unknown): void {
    this.#reason ??= reason
    this.#end(this.#reason)
  }

  /** @throws why the round has ended */
  throwIfOver(): void {
    if (this.#reason !== undefined) throw this.#reason
  }

  /** What is still at work is told to stop, and not waited for. */
  async close(): Promise<void> {
    this.#closed = true
    this.approvals.close()
    this.end(new Error('the calls of this step are over'))
    for (const controller of this.running) controller.abort(this.#reason)
    await this.#told
  }
}
