import { randomKey } from '../client/key.ts'
import type { Turn, Usage } from '../client/stream.ts'
import { Answer, type Block, resume, SluiceClientError, type SluiceStream, stream } from '../client/stream.ts'
import { type ChatMessage, showCalls, showTurns, toBlocks, toRequest, toResult, unanswered } from './conversation.ts'
import type { ChatOptions, ChatState } from './options.ts'
import { type Last, load, type Sent, save } from './saved.ts'
import { beforePainting } from './schedule.ts'

/** A conversation, without anything of React. What changes is told once per painting. */
export class Chat {
  /** Those of the last rendering. */
  options: ChatOptions
  /** All turns before the last answer. */
  #turns: Turn[] = []
  #answer: Answer | undefined
  /** The last answer, where it was kept and not read. */
  #last: Last | undefined
  #usage: Usage | undefined
  #results = new Map<string, Block>()
  #status: ChatState['status'] = 'ready'
  #error: SluiceClientError | undefined
  #sent: Sent | undefined
  #stream: SluiceStream | undefined
  #streamId: string | undefined
  /** The number of the last frame that the answer has. */
  #position = 0
  #connected = false
  #began = false
  #changed = false
  #shown: ChatMessage[] = []
  #state: ChatState
  readonly #listeners = new Set<() => void>()

  constructor(options: ChatOptions) {
    this.options = options
    this.#state = this.#newState()
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  readonly snapshot = (): ChatState => this.#state

  /** A page shows it: what is under way goes on, here or as it was left by the page before. */
  connect(): void {
    this.#connected = true
    if (!this.#began) this.#restore()
    this.#began = true
    if (this.#sent && this.#status !== 'error') this.#follow(this.#sent)
  }

  /** No page shows it any more. The answer is not stopped: what becomes of it is up to `on_disconnect`. */
  disconnect(): void {
    this.#connected = false
    const left = this.#stream
    this.#stream = undefined
    left?.close()
  }

  /** Asks. @throws Error while an answer is under way */
  readonly send = (content: string | Block[]): void => {
    if (this.#isBusy) throw new Error('An answer is under way: stop() it first.')
    const waiting = unanswered(this.#allTurns())
    const results = waiting.map((id) => this.#results.get(id) ?? toResult(id, 'There is no result.', true))
    this.#ask(results.length === 0 ? content : [...results, ...toBlocks(content)])
  }

  /**
   * Gives the result of a tool call; with the last one that is waited for, Claude goes on.
   * @param result a text, blocks, or anything that JSON can say
   * @throws Error when nobody waits for it
   */
  readonly answerTool = (id: string, result: unknown, { isError = false }: { isError?: boolean } = {}): void => {
    const waiting = this.#waiting()
    if (!waiting.includes(id)) throw new Error(`No tool call waits for a result under the id ${id}.`)
    this.#results.set(id, toResult(id, result, isError))
    const results = waiting.flatMap((each) => this.#results.get(each) ?? [])
    if (results.length === waiting.length) this.#ask(results)
    else this.#change()
  }

  /** Stops the answer, here at once and at Claude; what has come stays. The promise is that of the client's `abort()`. */
  readonly stop = (): Promise<void> => {
    const stopped = this.#stream?.abort()
    if (stopped) this.#end('ready')
    return stopped ?? Promise.resolve()
  }

  /** Goes on with an answer that was lost: after an `error`, when the network is back. */
  readonly resume = (): void => {
    if (this.#sent && !this.#isBusy) this.#follow(this.#sent)
  }

  get #isBusy(): boolean {
    return this.#status === 'submitted' || this.#status === 'streaming'
  }

  #allTurns(): Turn[] {
    return [...this.#turns, ...(this.#answer?.turns ?? [])]
  }

  /** Calls whose results are waited for: an answer that was stopped or has failed wants none. */
  #waiting(): string[] {
    return this.#lastAnswer()?.wantsTools ? unanswered(this.#allTurns()) : []
  }

  #restore(): void {
    const { persist, id } = this.options
    const saved = persist === undefined ? undefined : load(persist)
    if (saved) {
      this.#turns = [...saved.turns]
      this.#last = saved.last
      this.#sent = saved.sent
      this.#flush()
    }
    if (id !== undefined && !this.#sent) this.#sent = { id, fields: {} }
  }

  #ask(content: Turn['content']): void {
    const { preset, body } = this.options
    this.#turns = [...this.#allTurns(), { role: 'user', content: toBlocks(content) }]
    this.#answer = this.#last = this.#usage = undefined
    this.#position = 0
    const sent = { key: randomKey(), fields: { ...(preset !== undefined && { preset }), ...body } }
    this.#keep(sent)
    this.#follow(sent)
  }

  #follow(sent: Sent): void {
    const { url, preset: _, body: __, id: ___, persist: ____, ...options } = this.options
    const { id, key, fields } = sent
    this.#stream =
      id === undefined
        ? stream(url, { ...fields, messages: toRequest(this.#turns) }, { ...options, idempotencyKey: String(key) })
        : resume(url, id, { ...options, after: this.#position, ...smoothOf(fields) })
    this.#answer ??= new Answer()
    this.#results = new Map()
    this.#error = undefined
    this.#status = this.#position > 0 ? 'streaming' : 'submitted'
    this.#flush()
    void this.#read(this.#stream, this.#answer)
  }

  /** Stops by itself when another stream has taken the place of this one, or none has. */
  async #read(stream: SluiceStream, answer: Answer): Promise<void> {
    try {
      for await (const frame of stream) {
        if (this.#stream !== stream) return
        if (this.#sent && this.#sent.id === undefined && stream.id !== undefined) {
          this.#keep({ ...this.#sent, id: stream.id })
        }
        this.#streamId = stream.id
        this.#position = stream.position
        answer.add(frame)
        if (answer.turns.length > 0) this.#status = 'streaming'
        if ('usage' in frame) this.#usage = frame.usage as Usage
        this.#change()
      }
      // Settled: the promise of an answer that is complete, or of one that is not.
      await stream.text
      if (this.#stream === stream) this.#end('ready')
    } catch (error) {
      if (this.#stream === stream) this.#fail(error)
    }
  }

  #fail(thrown: unknown): void {
    const known = thrown instanceof SluiceClientError
    const error = known ? thrown : new SluiceClientError('connection_lost', String(thrown), { cause: thrown })
    // Somebody else stopped it, another tab perhaps: that is an end, and no failure.
    const stopped = error.code === 'cancelled'
    this.#error = stopped ? undefined : error
    const canGoOn = error.code === 'connection_lost' || (this.#position === 0 && error.retryable)
    this.#end(stopped ? 'ready' : 'error', canGoOn ? this.#sent : undefined)
  }

  #end(status: 'ready' | 'error', sent?: Sent): void {
    this.#stream = undefined
    this.#status = status
    this.#keep(sent)
    this.#flush()
  }

  /** @param sent what is under way from here on */
  #keep(sent: Sent | undefined): void {
    this.#sent = sent
    const { persist } = this.options
    if (persist === undefined) return
    // What is under way is told again from its first frame: it is not kept half.
    if (sent) save(persist, { turns: this.#turns, sent })
    else save(persist, { turns: this.#allTurns(), last: this.#lastAnswer() })
  }

  #lastAnswer(): Last | undefined {
    if (!this.#answer) return this.#last
    const { text, thinking, toolCalls, message } = this.#answer
    const wantsTools = !this.#isBusy && message?.stop_reason === 'tool_use'
    return { text, thinking, toolCalls: [...toolCalls.values()], usage: this.#usage, wantsTools }
  }

  #newState(): ChatState {
    const { text = '', thinking = '', toolCalls = [], usage } = this.#lastAnswer() ?? {}
    const turns = this.#allTurns()
    this.#shown = showTurns(turns, this.#turns.length, this.#shown)
    return {
      messages: this.#shown,
      status: this.#status,
      ...{ text, thinking, usage },
      toolCalls: showCalls(toolCalls, this.#waiting(), this.#results),
      error: this.#error,
      streamId: this.#streamId,
    }
  }

  #change(): void {
    if (this.#changed || !this.#connected) return
    this.#changed = true
    beforePainting(() => {
      if (this.#changed) this.#flush()
    })
  }

  #flush(): void {
    this.#changed = false
    this.#state = this.#newState()
    for (const listener of this.#listeners) listener()
  }
}

const smoothOf = ({ smooth }: Sent['fields']) =>
  smooth === undefined ? {} : { smooth: smooth as 'word' | 'sentence' | 'line' }
