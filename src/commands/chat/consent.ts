import type { Frame } from '../../client/stream.ts'
import type { Decision } from './decision.ts'

/** A call of a tool that the server makes only when somebody agrees. */
export type Approval = Extract<Frame, { type: 'tool_approval' }>

/** A call, for as long as it waits. */
export interface WaitingCall extends Approval {
  /** Aborted when it does not wait any more, whoever has decided. */
  readonly signal: AbortSignal
  /** @throws SluiceClientError when the server cannot be told, or does not take it */
  decide(decision: Decision): Promise<void>
}

export type AskForConsent = (call: WaitingCall) => Promise<void>

/** @param until aborted when the call does not wait any more */
type Tell = (call: string, decision: Decision, until: AbortSignal) => Promise<void>

/** The calls of one answer that wait for consent: asked about one after the other, while the stream is read on. */
export class Consents {
  readonly #ask: AskForConsent
  readonly #tell: Tell
  readonly #onFailure: () => void
  readonly #waiting = new Map<string, AbortController>()
  #asked: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | undefined

  /** @param onFailure nobody decides any more: `close` says why */
  constructor(ask: AskForConsent, tell: Tell, onFailure: () => void) {
    this.#ask = ask
    this.#tell = tell
    this.#onFailure = onFailure
  }

  hear(frame: Frame): void {
    if (frame.type === 'tool_approval') this.#add(frame)
    else if (frame.type === 'tool_decision') this.#waiting.get(frame.id)?.abort()
  }

  #add(call: Approval): void {
    const over = new AbortController()
    const { signal } = over
    this.#waiting.set(call.id, over)
    const decide = (decision: Decision) => this.#tell(call.id, decision, signal)
    this.#asked = this.#asked
      .then(() => (signal.aborted ? undefined : this.#ask({ ...call, signal, decide })))
      .catch((error) => {
        this.#failure ??= { error }
        this.#onFailure()
      })
  }

  /** The answer is over: nothing waits any more. @throws what kept a call from being decided on */
  async close(): Promise<void> {
    for (const over of this.#waiting.values()) over.abort()
    await this.#asked
    if (this.#failure) throw this.#failure.error
  }
}
