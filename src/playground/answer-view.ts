import type { Frame } from '../client/stream.ts'
import { button, h, painter } from './dom.ts'
import { factsOf } from './facts.ts'
import { httpsUrl } from './inline.ts'
import { linkOf, MarkdownView } from './markdown-view.ts'
import { type Decide, ToolView } from './tool-view.ts'

type FrameOf<T extends Frame['type']> = Extract<Frame, { type: T }>

/** One answer, as it comes. */
export class AnswerView {
  readonly element = h('article', { class: 'turn answer', 'aria-label': 'Claude', 'aria-busy': 'true' })
  readonly tools = new Map<string, ToolView>()
  readonly #body = h('div', { class: 'body' }, h('p', { class: 'waiting' }, 'Waiting for the first token'))
  readonly #end = h('footer', { class: 'end' })
  readonly #citations = h('ol', { class: 'citations' })
  readonly #decide: Decide
  readonly #onRetry: () => void
  readonly #draw = painter(() => this.drawNow())
  readonly #views = new Set<{ draw(): void }>()
  /** What is being written: blocks of text one behind the other, as citations cut them, are one text. */
  #open: { readonly type: string; readonly view: MarkdownView | TextView } | undefined

  constructor(decide: Decide, onRetry: () => void) {
    this.#decide = decide
    this.#onRetry = onRetry
    this.element.append(h('p', { class: 'who' }, 'Claude'), this.#body, this.#end)
  }

  add(frame: Frame): void {
    switch (frame.type) {
      case 'text':
      case 'thinking':
        this.#write(frame)
        break
      case 'message':
        this.#open = undefined
        break
      case 'tool_start':
        this.#begin(frame)
        break
      case 'tool_delta':
        this.#grow(frame)
        break
      case 'tool_call':
        this.tools.get(frame.id)?.complete(frame.input, frame.invalid)
        break
      case 'citation':
        this.#cite(frame.citation)
        break
      case 'block':
        this.#block(frame)
        break
      case 'recovery':
        this.#recover(frame)
        break
      case 'done':
      case 'error':
      case 'cancelled':
        this.#finish(frame)
        break
      case 'tool_result':
      case 'tool_approval':
      case 'tool_decision':
      case 'tool_progress':
        this.#run(frame)
        break
    }
  }

  /** Nothing follows, and no frame says why. */
  fail(error: {
    readonly code?: string
    readonly message: string
    readonly requestId?: string | undefined
    readonly retryable?: boolean
  }): void {
    this.#close()
    this.#end.append(
      this.#errorCard(error.code ?? 'connection_lost', error.message, error.requestId, error.retryable ?? false),
    )
  }

  /** Nothing follows, as it is an answer of before. */
  stopWaiting(): void {
    this.#close()
  }

  stopped(): void {
    this.#close()
    this.#end.append(h('p', { class: 'facts-line' }, 'Stopped.'))
  }

  drawNow(): void {
    for (const view of this.#views) view.draw()
    this.#views.clear()
  }

  #append(node: Node): void {
    this.#open = undefined
    if (this.#body.firstElementChild?.className === 'waiting') this.#body.replaceChildren()
    this.#body.append(node)
  }

  #changed(view: { draw(): void }): void {
    this.#views.add(view)
    this.#draw()
  }

  #write({ type, text }: FrameOf<'text' | 'thinking'>): void {
    if (this.#open?.type !== type) {
      const view = type === 'text' ? new MarkdownView() : new TextView()
      this.#append(
        type === 'text'
          ? view.element
          : h('details', { class: 'thinking' }, h('summary', {}, 'Thinking'), view.element),
      )
      this.#open = { type, view }
    }
    this.#open.view.append(text)
    this.#changed(this.#open.view)
  }

  #begin({ id, name, server }: FrameOf<'tool_start'>): void {
    const view = new ToolView(id, name, server)
    this.tools.set(id, view)
    this.#append(view.element)
  }

  #grow({ id, json }: FrameOf<'tool_delta'>): void {
    const view = id === null ? undefined : this.tools.get(id)
    view?.grow(json)
    if (view) this.#changed(view)
  }

  /** What becomes of a tool that the server runs. */
  #run(frame: FrameOf<'tool_result' | 'tool_approval' | 'tool_decision' | 'tool_progress'>): void {
    const view = this.tools.get(frame.id)
    if (frame.type === 'tool_result') view?.finish(frame.content, frame.is_error)
    else if (frame.type === 'tool_approval') view?.ask(frame.expires_at, this.#decide)
    else if (frame.type === 'tool_decision') view?.decided(frame.decision)
    else view?.progress(frame.text)
  }

  #cite(citation: FrameOf<'citation'>['citation']): void {
    if (!this.#citations.isConnected) this.#end.append(this.#citations)
    const { url, title, document_title, cited_text } = citation as Record<string, unknown>
    const label = String(title ?? document_title ?? url ?? 'Source').slice(0, 200)
    const target = typeof url === 'string' ? httpsUrl(url) : undefined
    const name = target ? linkOf(target, [{ kind: 'text', text: label }]) : h('span', {}, label)
    const quoted =
      typeof cited_text === 'string' && cited_text !== '' ? h('q', {}, cited_text.slice(0, 300)) : undefined
    this.#citations.append(h('li', {}, name, quoted && ' ', quoted))
  }

  #block({ content_block }: FrameOf<'block'>): void {
    // The signature at the end of a block of thinking is nothing to look at.
    if (content_block.type === 'thinking') return
    const text = JSON.stringify(content_block, null, 2)
    const shown = text.length > 20_000 ? `${text.slice(0, 20_000)} …` : text
    this.#append(
      h(
        'details',
        { class: 'tool' },
        h('summary', {}, h('span', { class: 'what' }, 'Block'), h('code', {}, content_block.type.slice(0, 80))),
        h('pre', { tabindex: '0' }, shown),
      ),
    )
  }

  #recover({ reason, mode, model }: FrameOf<'recovery'>): void {
    // Not in its place: the text goes on in the middle of whatever Markdown it had begun.
    const how = mode === 'fallback' ? `asked ${model ?? 'another model'}` : 'went on where the answer had stopped'
    this.#end.append(h('p', { class: 'recovery' }, `Recovered from ${reason}: ${how}.`))
  }

  #finish(frame: FrameOf<'done' | 'error' | 'cancelled'>): void {
    this.#close()
    const facts = h('p', { class: 'facts-line' }, factsOf(frame).join(' · '))
    if (frame.type === 'error') {
      const { code, message, retryable } = frame.error
      this.#end.append(
        this.#errorCard(
          code,
          frame.partial ? `${message} What stands above is the beginning of an answer.` : message,
          undefined,
          retryable,
        ),
        facts,
      )
    } else this.#end.append(facts)
  }

  #close(): void {
    this.drawNow()
    this.element.setAttribute('aria-busy', 'false')
    if (this.#body.firstElementChild?.className === 'waiting') this.#body.replaceChildren()
  }

  #errorCard(code: string, message: string, requestId: string | undefined, retryable: boolean): Node {
    return h(
      'div',
      { class: 'card error', role: 'alert' },
      h('p', {}, h('strong', {}, code), ' ', message),
      requestId && h('p', { class: 'note' }, `Request ${requestId}`),
      h('div', { class: 'row' }, button(retryable ? 'Try again' : 'Ask again', this.#onRetry)),
    )
  }
}

class TextView {
  readonly element = h('div', { class: 'thought' })
  #text = ''

  append(text: string): void {
    this.#text += text
  }

  draw(): void {
    if (this.#text !== '') this.element.append(this.#text)
    this.#text = ''
  }
}
