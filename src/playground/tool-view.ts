import { button, h } from './dom.ts'

/** What somebody decides on a call that waits for consent; the promise fails when the server does not take it. */
export type Decide = (call: string, decision: 'approve' | 'deny') => Promise<void>

/** So much of an input or a result is shown. */
const mostText = 50_000

/** One tool call: its input as it grows, the question whether it may run, its result. */
export class ToolView {
  readonly element = h('details', { class: 'tool', open: true })
  readonly #state = h('span', { class: 'badge' }, 'being written')
  readonly #input = h('pre', { tabindex: '0' })
  readonly #asking = h('div', { class: 'row asking', hidden: true })
  readonly #result = h('pre', { class: 'result', tabindex: '0', hidden: true })
  readonly id: string
  readonly name: string
  readonly server: boolean
  #json = ''
  hasResult = false

  constructor(id: string, name: string, server: boolean) {
    this.id = id
    this.name = name
    this.server = server
    const where = server ? h('span', { class: 'badge' }, 'runs at Anthropic') : undefined
    this.element.append(
      h('summary', {}, h('span', { class: 'what' }, 'Tool'), h('code', {}, name), where, this.#state),
      this.#input,
      this.#asking,
      this.#result,
    )
  }

  grow(json: string): void {
    this.#json += json
  }

  draw(): void {
    const text = this.#json.slice(0, mostText)
    if (this.#input.textContent !== text) this.#input.textContent = text
  }

  complete(input: unknown, invalid: string | undefined): void {
    this.#json = invalid ?? JSON.stringify(input, null, 2)
    this.#say(invalid === undefined ? 'called' : 'input is no JSON', invalid === undefined ? '' : 'bad')
    this.draw()
  }

  ask(expiresAt: string, decide: Decide): void {
    const answer = (decision: 'approve' | 'deny') => {
      for (const each of this.#asking.querySelectorAll('button')) each.disabled = true
      decide(this.id, decision).catch((error: unknown) => {
        for (const each of this.#asking.querySelectorAll('button')) each.disabled = false
        this.#say(error instanceof Error ? error.message : String(error), 'bad')
      })
    }
    this.#say('waits for you', 'wait')
    this.#asking.hidden = false
    this.#asking.replaceChildren(
      h('span', {}, `May it run? Until ${new Date(expiresAt).toLocaleTimeString()}, then it is denied.`),
      button('Deny', () => answer('deny'), { 'aria-label': `Deny ${this.name}` }),
      button('Approve', () => answer('approve'), { class: 'button primary', 'aria-label': `Approve ${this.name}` }),
    )
  }

  decided(decision: string): void {
    this.#asking.hidden = true
    this.#say(decision, '')
  }

  /** A line of the tool's own. */
  progress(text: string): void {
    this.#say(text.slice(0, 80), '')
  }

  finish(content: unknown, isError: boolean): void {
    this.hasResult = true
    this.#asking.hidden = true
    this.#say(isError ? 'failed' : 'answered', isError ? 'bad' : 'good')
    this.#result.hidden = false
    const text = typeof content === 'string' ? content : JSON.stringify(content, null, 2)
    this.#result.textContent = (text ?? '').slice(0, mostText)
  }

  #say(text: string, kind: string): void {
    this.#state.textContent = text
    this.#state.className = `badge ${kind}`
  }
}
