import { addressOf } from '../../client/address.ts'
import { Answer, type Frame, SluiceClientError, stream, type Turn } from '../../client/stream.ts'
import { type AskForConsent, Consents } from './consent.ts'
import { tellDecision } from './decision.ts'

export interface ChatOptions {
  /** Of Sluice, with the path that it may have. */
  readonly url: string
  readonly key?: string | undefined
  readonly model?: string | undefined
  readonly system?: string | undefined
  readonly preset?: string | undefined
}

export interface Listening {
  onFrame(frame: Frame): void | Promise<void>
  onReconnect?(): void
  /** A call waits for consent; frames go on meanwhile. What it throws stops the answer. */
  readonly onApproval: AskForConsent
  /** Aborted, it stops the answer, at Claude as well. */
  readonly signal: AbortSignal
}

/** Questions to one Sluice, each with all that was said before it. */
export class Conversation {
  readonly #options: ChatOptions
  readonly #url: URL
  #turns: Turn[] = []
  model: string | undefined

  constructor(options: ChatOptions) {
    this.#options = options
    this.#url = new URL('stream', options.url.replace(/\/*$/, '/'))
    this.model = options.model
  }

  forget(): void {
    this.#turns = []
  }

  /**
   * Resolves when the answer has ended, also when it was stopped.
   * @throws SluiceClientError when there is none, or only the beginning of one
   */
  async ask(prompt: string, { onFrame, onReconnect, onApproval, signal }: Listening): Promise<void> {
    const { system, preset } = this.#options
    const { model } = this
    const question: Turn = { role: 'user', content: prompt }
    const asked = stream(
      this.#url,
      {
        messages: [...this.#turns, question],
        ...(model !== undefined && { model }),
        ...(system !== undefined && { system }),
        ...(preset !== undefined && { preset }),
      },
      {
        headers: this.#headers,
        fetch: this.#reach,
        retry: { attempts: 5 },
        ...(onReconnect && { onReconnect }),
        signal,
      },
    )
    const answer = new Answer()
    const consents = new Consents(
      onApproval,
      (call, decision, until) => {
        const url = `${addressOf(this.#url).of(`${asked.id}`)}/tools/${encodeURIComponent(call)}`
        return tellDecision(url, this.#headers, decision, until)
      },
      () => void asked.abort(),
    )
    let end: Frame | undefined
    try {
      for await (const frame of asked) {
        answer.add(frame)
        end = frame
        await onFrame(frame)
        consents.hear(frame)
      }
    } finally {
      this.#keep(question, answer, end?.type === 'done')
      await consents.close()
    }
    // Waits until the server knows.
    if (signal.aborted) return asked.abort()
    await asked.text
  }

  get #headers(): Record<string, string> {
    const { key } = this.#options
    return { ...(key !== undefined && { authorization: `Bearer ${key}` }) }
  }

  /** Whoever cannot be reached for the question itself is not there: there is nothing to come back to. */
  readonly #reach: typeof fetch = async (input, init) => {
    try {
      return await fetch(input, init)
    } catch (error) {
      if (init?.method !== 'POST' || init.signal?.aborted) throw error
      const { code, message: why } = ((error as Error).cause ?? error) as NodeJS.ErrnoException
      const message = `Nothing answers at ${this.#options.url} (${code ?? why}). Start a server there with sluice demo (npm run demo in a checkout), chat with sluice chat --demo, or name another one with --url.`
      throw new SluiceClientError('connection_lost', message, { cause: error })
    }
  }

  /** Claude takes back no half of an answer but its text, and no call of a tool without a result, which nobody gives here. */
  #keep(question: Turn, answer: Answer, whole: boolean): void {
    const turns = whole && answer.turns.every(isAnswered) ? answer.turns : []
    if (turns.length > 0) this.#turns.push(question, ...turns)
    else if (answer.text.trim() !== '')
      this.#turns.push(question, { role: 'assistant', content: answer.text.trimEnd() })
  }
}

function isAnswered({ content }: Turn, index: number, turns: readonly Turn[]): boolean {
  if (content.length === 0) return false
  const called = typeof content !== 'string' && content.some(({ type }) => type === 'tool_use')
  return !called || turns[index + 1] !== undefined
}
