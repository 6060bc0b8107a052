import type { Block, Frame, Turn } from '../client/stream.ts'
import { AnswerView } from './answer-view.ts'
import { button, byId, h } from './dom.ts'
import type { Decide, ToolView } from './tool-view.ts'

/** What to try first, by the name that is shown; behind a simulated Claude the model says what happens. */
const ideas: readonly {
  readonly title: string
  readonly text: string
  readonly prompt: string
  readonly model: string
}[] = [
  {
    title: 'A plain answer',
    text: 'Watch tokens and frames side by side',
    prompt: 'Explain backpressure to a plumber, in five sentences.',
    model: 'claude-sim',
  },
  {
    title: 'Thinking first',
    text: 'Folded away, one click to look',
    prompt: 'Is 2027 a prime number? Show your steps.',
    model: 'claude-sim?thinking=40&text=120',
  },
  {
    title: 'An overload in the middle',
    text: 'Sluice recovers, the answer goes on',
    prompt: 'Write a short story about a river.',
    model: 'claude-sim?text=120&error_at=60',
  },
  {
    title: 'Cut the wire',
    text: 'A long answer, and a button to cut it',
    prompt: 'Tell me all about canals.',
    model: 'claude-sim?text=600',
  },
]

interface TurnsHooks {
  readonly isSimulated: () => boolean
  readonly onIdea: (prompt: string, model: string | undefined) => void
  readonly onRetry: () => void
  readonly onResults: (results: Block[]) => void
  readonly decide: Decide
}

/** The conversation, from the first turn to the one that is being written. */
export class TurnsView {
  readonly #list = byId('turns')
  readonly #hooks: TurnsHooks
  #follows = true
  #scrolledTo = 0

  constructor(hooks: TurnsHooks) {
    this.#hooks = hooks
    // It scrolls, and keys are to reach it.
    this.#list.tabIndex = 0
    this.#list.addEventListener('scroll', () => {
      const { scrollTop, clientHeight, scrollHeight } = this.#list
      // Who has been brought to the end may not be there any more when this is told: only going up leaves it.
      if (scrollTop + clientHeight >= scrollHeight - 60) this.#follows = true
      else if (scrollTop < this.#scrolledTo) this.#follows = false
      this.#scrolledTo = scrollTop
    })
    new ResizeObserver(() => this.follow()).observe(this.#list)
  }

  /** Whoever is at the end stays there. */
  follow(): void {
    if (this.#follows) this.#list.scrollTop = this.#list.scrollHeight
  }

  showNothing(): void {
    const simulated = this.#hooks.isSimulated()
    const cards = ideas.map(({ title, text, prompt, model }) => {
      const card = button('', () => this.#hooks.onIdea(prompt, simulated ? model : undefined), { class: 'idea' })
      card.append(h('strong', {}, title), h('span', {}, simulated ? text : prompt))
      return card
    })
    const what = simulated
      ? 'A simulated Claude answers here. It costs nothing, and breaks on demand.'
      : 'Ask Claude through this server, and see every frame on its way.'
    this.#list.replaceChildren(
      h(
        'div',
        { class: 'welcome' },
        h('h2', {}, 'Nothing asked yet'),
        h('p', {}, what),
        h('div', { class: 'ideas' }, ...cards),
      ),
    )
  }

  showNote(text: string): void {
    this.#clearWelcome()
    this.#list.append(h('p', { class: 'note centred' }, text))
  }

  addUser({ content }: Pick<Turn, 'content'>): void {
    this.#clearWelcome()
    const blocks = typeof content === 'string' ? [{ type: 'text', text: content } as Block] : content
    const body = h('div', { class: 'body' }, ...blocks.map(ofUser))
    this.#list.append(h('article', { class: 'turn user', 'aria-label': 'You' }, h('p', { class: 'who' }, 'You'), body))
    this.#follows = true
    this.follow()
  }

  addAnswer(): AnswerView {
    this.#clearWelcome()
    const view = new AnswerView(this.#hooks.decide, this.#hooks.onRetry)
    this.#list.append(view.element)
    new ResizeObserver(() => this.follow()).observe(view.element)
    return view
  }

  /** An answer of before, as it was kept. */
  addOld({ content }: Pick<Turn, 'content'>): void {
    const view = this.addAnswer()
    const blocks = typeof content === 'string' ? [{ type: 'text', text: content } as Block] : content
    blocks.forEach((block, index) => {
      for (const frame of framesOf(block, index)) view.add(frame)
    })
    view.stopWaiting()
  }

  /** Asks for the results of tools that run here. */
  askResults(calls: readonly ToolView[]): void {
    const fields = calls.map(({ id, name }) => {
      const input = h('textarea', { rows: '2', id: `result-${id}` })
      return { id, input, row: h('label', { class: 'field wide' }, h('span', {}, `Result of ${name}`), input) }
    })
    const send = () => {
      card.remove()
      this.#hooks.onResults(
        fields.map(({ id, input }) => ({ type: 'tool_result', tool_use_id: id, content: input.value })),
      )
    }
    const card = h(
      'div',
      { class: 'card results' },
      ...fields.map(({ row }) => row),
      h(
        'div',
        { class: 'row' },
        h('span', { class: 'spring' }),
        button('Send results', send, { class: 'button primary' }),
      ),
    )
    this.#list.append(card)
    this.follow()
  }

  #clearWelcome(): void {
    this.#list.querySelector('.welcome')?.remove()
    this.#list.querySelector('.results')?.remove()
  }
}

/** What a stream would have said of a block. */
function framesOf(content_block: Block, block: number): Frame[] {
  const { type, id, name, input } = content_block
  if (type === 'text' || type === 'thinking') return [{ type, block, text: String(content_block[type]) }]
  if (typeof id !== 'string' || typeof name !== 'string') return [{ type: 'block', block, content_block }]
  const server = type !== 'tool_use'
  return [
    { type: 'tool_start', block, id, name, server },
    { type: 'tool_call', block, id, name, input },
  ]
}

function ofUser(block: Block): HTMLElement {
  const { type, text, title, content, source } = block as Record<string, unknown>
  if (type === 'text') return h('p', { class: 'plain' }, String(text))
  if (type === 'tool_result')
    return h('pre', { tabindex: '0' }, typeof content === 'string' ? content : JSON.stringify(content))
  const kind = (source as { media_type?: string } | undefined)?.media_type ?? String(type)
  return h('span', { class: 'chip' }, title ? String(title) : kind)
}
