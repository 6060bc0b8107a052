import { Answer, type Frame, SluiceClientError, stream, type Turn } from '../../client/stream.ts'

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
  async ask(prompt: string, { onFrame, onReconnect, signal }: Listening): Promise<void> {
    const { key, system, preset } = this.#options
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
        headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }) },
        fetch: this.#reach,
        retry: { attempts: 5 },
        ...(onReconnect && { onReconnect }),
        signal,
      },
    )
    const answer = new Answer()
    let end: Frame | undefined
    try {
      for await (const frame of asked) {
        answer.add(frame)
        end = frame
        await onFrame(frame)
      }
    } finally {
      this.#keep(question, answer, end?.type === 'done')
    }
    // Waits until the server knows.
    if (signal.aborted) return asked.abort()
    await asked.text
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
