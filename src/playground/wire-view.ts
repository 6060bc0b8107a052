import { h, painter } from './dom.ts'
import { numberOf, summaryOf, type WireFrame } from './wire.ts'

/** In pixels, as the style sheet has it. */
const rowHeight = 26
/** Frames that are kept; the oldest go first. */
const mostFrames = 20_000
/** So much of one frame is shown. */
const mostText = 20_000

/** The frames of a stream as they came. Only the rows in sight are there, so that many thousands cost as much as a few. */
export class WireView {
  readonly element = h('div', { class: 'wire-box' })
  readonly #list = h('div', { class: 'wire-list', role: 'listbox', tabindex: '0', 'aria-label': 'Frames' })
  readonly #space = h('div', { class: 'wire-space', role: 'presentation' })
  readonly #detail = h('pre', {
    class: 'wire-detail',
    tabindex: '0',
    role: 'region',
    'aria-label': 'Chosen frame',
    hidden: true,
  })
  readonly #empty = h('p', { class: 'empty' }, 'Frames appear here as they come, with their ids and times.')
  readonly #more = h('p', { class: 'note' })
  readonly draw = painter(() => this.#draw())
  #frames: WireFrame[] = []
  #dropped = 0
  #chosen: number | undefined
  /** The end is in sight, and stays so. */
  #follows = true

  constructor() {
    this.#list.append(this.#space)
    this.element.append(this.#empty, this.#list, this.#more, this.#detail)
    this.#list.addEventListener('scroll', () => {
      const { scrollTop, clientHeight, scrollHeight } = this.#list
      this.#follows = scrollTop + clientHeight >= scrollHeight - rowHeight
      this.draw()
    })
    this.#list.addEventListener('keydown', (event) => this.#onKey(event))
    this.#list.addEventListener('click', (event) => {
      const row = (event.target as Element).closest<HTMLElement>('[data-index]')
      if (row) this.#choose(Number(row.dataset['index']))
    })
    this.draw()
  }

  add(frames: readonly WireFrame[]): void {
    for (const frame of frames) this.#frames.push(frame)
    const excess = this.#frames.length - mostFrames
    // Not one by one: each time the rest has to be moved.
    if (excess > mostFrames / 10) {
      this.#frames = this.#frames.slice(excess)
      this.#dropped += excess
      if (this.#chosen !== undefined) this.#chosen = Math.max(0, this.#chosen - excess)
    }
    this.draw()
  }

  clear(): void {
    this.#frames = []
    this.#dropped = 0
    this.#chosen = undefined
    this.#follows = true
    this.#detail.hidden = true
    this.draw()
  }

  #onKey(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key]
    const to = { Home: 0, End: this.#frames.length - 1 }[event.key]
    if (step === undefined && to === undefined) return
    event.preventDefault()
    this.#choose(to ?? (this.#chosen ?? -1) + (step ?? 0))
    const top = (this.#chosen ?? 0) * rowHeight
    const { scrollTop, clientHeight } = this.#list
    if (top < scrollTop) this.#list.scrollTop = top
    else if (top + rowHeight > scrollTop + clientHeight) this.#list.scrollTop = top + rowHeight - clientHeight
  }

  #choose(index: number): void {
    if (this.#frames.length === 0) return
    this.#chosen = Math.min(this.#frames.length - 1, Math.max(0, index))
    const { text } = this.#frames[this.#chosen] as WireFrame
    this.#detail.hidden = false
    this.#detail.textContent =
      text.length > mostText ? `${text.slice(0, mostText)} … (${text.length} characters)` : text
    this.draw()
  }

  #draw(): void {
    const count = this.#frames.length
    this.#empty.hidden = count > 0
    this.#list.hidden = count === 0
    this.#more.textContent = this.#dropped > 0 ? `${this.#dropped} earlier frames are not kept here.` : ''
    this.#space.style.height = `${count * rowHeight}px`
    if (this.#follows) this.#list.scrollTop = count * rowHeight
    const first = Math.max(0, Math.floor(this.#list.scrollTop / rowHeight) - 4)
    const last = Math.min(count, first + Math.ceil(this.#list.clientHeight / rowHeight) + 8)
    const rows = []
    for (let index = first; index < last; index++) rows.push(this.#row(index))
    this.#space.replaceChildren(...rows)
    const isShown = this.#chosen !== undefined && this.#chosen >= first && this.#chosen < last
    if (isShown) this.#list.setAttribute('aria-activedescendant', `frame-${this.#chosen}`)
    else this.#list.removeAttribute('aria-activedescendant')
  }

  #row(index: number): HTMLElement {
    const frame = this.#frames[index] as WireFrame
    const row = h(
      'div',
      {
        class: `wire-row ${frame.kind}`,
        id: `frame-${index}`,
        role: 'option',
        'data-index': String(index),
        'aria-selected': String(index === this.#chosen),
        'aria-posinset': String(index + 1),
        'aria-setsize': String(this.#frames.length),
      },
      h('span', { class: 'when' }, (frame.at / 1_000).toFixed(3)),
      h('span', { class: 'number' }, numberOf(frame)),
      h('span', { class: 'what' }, summaryOf(frame)),
    )
    row.style.transform = `translateY(${index * rowHeight}px)`
    return row
  }
}
