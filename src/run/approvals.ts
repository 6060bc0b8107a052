import type { ToolDecisionEvent, ToolEvent } from '../core/events.ts'
import type { ToolCall, ToolDecision, ToolOutcome } from '../core/tools.ts'

/** What becomes of a decision. */
export interface ApprovalSignals {
  /** @returns whether the log has it: what comes too late is dropped */
  tell(event: ToolEvent): Promise<boolean>
  /** The call has its result without the tool: both go into the log together. @returns as `tell` */
  finish(call: ToolCall, outcome: ToolOutcome, decision: ToolDecisionEvent): Promise<boolean>
}

/** A yes: the tool is to be called. */
export type Approved = Extract<ToolDecision, { decision: 'approve' }>

interface Waiting {
  readonly call: ToolCall
  readonly timer: NodeJS.Timeout
  readonly resolve: (approved: Approved | undefined) => void
}

/** Calls that wait for somebody's consent. */
export class Approvals {
  readonly #standardMs: number
  readonly #signals: ApprovalSignals
  readonly #waiting = new Map<string, Waiting>()

  /** @param standardMs how long a call waits, in milliseconds */
  constructor(standardMs: number, signals: ApprovalSignals) {
    this.#standardMs = standardMs
    this.#signals = signals
  }

  /**
   * Resolves once the log has the decision; without a word in time it is a no.
   * @param until when the log says already that the call waits: until then
   * @returns `undefined` when the call has its result
   */
  async ask(call: ToolCall, until: string | undefined): Promise<Approved | undefined> {
    const expires_at = until ?? new Date(Date.now() + this.#standardMs).toISOString()
    const { promise, resolve } = Promise.withResolvers<Approved | undefined>()
    const expire = () => {
      // What goes wrong there, the log has told the run.
      this.#settle(call.id, { decision: 'deny', reason: 'nobody decided in time' }, 'expired').catch(() => {})
    }
    const timer = setTimeout(expire, Math.max(0, Date.parse(expires_at) - Date.now()))
    this.#waiting.set(call.id, { call, timer, resolve })
    if (until === undefined) await this.#signals.tell({ type: 'tool_approval', ...call, expires_at })
    return promise
  }

  /** @returns whether the call waited for it, and the log has it */
  decide(id: string, decision: ToolDecision): Promise<boolean> {
    return this.#settle(id, decision, names[decision.decision])
  }

  async #settle(id: string, decision: ToolDecision, as: ToolDecisionEvent['decision']): Promise<boolean> {
    const waiting = this.#waiting.get(id)
    if (!waiting) return false
    this.#waiting.delete(id)
    clearTimeout(waiting.timer)
    const { call } = waiting
    const told: ToolDecisionEvent = { type: 'tool_decision', id, name: call.name, decision: as }
    if (decision.decision !== 'approve') {
      const outcome = decision.decision === 'deny' ? denied(decision) : decision
      const isLogged = await this.#signals.finish(call, outcome, told)
      waiting.resolve(undefined)
      return isLogged
    }
    const isLogged = await this.#signals.tell({ ...told, ...(decision.input && { input: decision.input }) })
    waiting.resolve(decision)
    return isLogged
  }

  /** Nobody is asked any more. */
  close(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
    this.#waiting.clear()
  }
}

const names = { approve: 'approved', deny: 'denied', answer: 'answered' } as const

function denied({ reason }: { readonly reason?: string | undefined }): ToolOutcome {
  return { content: reason ? `The user denied this call: ${reason}` : 'The user denied this call.', is_error: true }
}
