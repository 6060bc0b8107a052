import { h } from './dom.ts'
import type { Inline } from './inline.ts'
import { type Block, parseMarkdown, settledLength } from './markdown.ts'

/** What has yet to settle is read anew each time that something is added; it is cut where it becomes longer than that. */
const maxTail = 32 * 1_024

/** Text in Markdown that is still being written: what nothing can change any more is drawn once. */
export class MarkdownView {
  readonly element = h('div', { class: 'prose' })
  readonly #tail = h('div', { class: 'tail' })
  #text = ''
  #drawn = ''

  constructor() {
    this.element.append(this.#tail)
  }

  append(text: string): void {
    this.#text += text
  }

  draw(): void {
    if (this.#text === this.#drawn) return
    const settled = settledLength(this.#text)
    if (settled > 0) this.#settle(settled)
    while (this.#text.length > maxTail) this.#cut()
    this.#tail.replaceChildren(...nodesOf(this.#text))
    this.#drawn = this.#text
  }

  #settle(length: number): void {
    this.#tail.before(...nodesOf(this.#text.slice(0, length)))
    this.#text = this.#text.slice(length)
  }

  /** Ends a block that has become too long, and begins another one of its kind. */
  #cut(): void {
    const at = this.#text.lastIndexOf('\n', maxTail)
    const opener = /^ {0,3}(?:`{3,}|~{3,})[^\n`]*\n/.exec(this.#text)?.[0] ?? ''
    this.#settle(at > opener.length ? at + 1 : maxTail)
    this.#text = opener + this.#text
  }
}

function nodesOf(text: string): Node[] {
  return parseMarkdown(text).map(nodeOf)
}

function nodeOf(block: Block): Node {
  switch (block.kind) {
    case 'heading':
      // The page's own headings stand above those of an answer.
      return h(`h${Math.min(6, block.level + 2) as 3 | 4 | 5 | 6}`, {}, ...block.inlines.map(inlineOf))
    case 'paragraph':
      return h('p', {}, ...block.inlines.map(inlineOf))
    case 'code':
      return h(
        'figure',
        { class: 'code' },
        block.language !== '' && h('figcaption', {}, block.language.slice(0, 40)),
        h('pre', { tabindex: '0' }, h('code', {}, block.text)),
      )
    case 'quote':
      return h('blockquote', {}, ...block.blocks.map(nodeOf))
    case 'list': {
      const items = block.items.map((blocks) => h('li', {}, ...tight(blocks)))
      if (block.start === undefined) return h('ul', {}, ...items)
      return h('ol', { start: String(block.start) }, ...items)
    }
    case 'table':
      return tableOf(block.rows)
    case 'rule':
      return h('hr')
  }
}

/** An item that is one paragraph is shown as its text. */
function tight(blocks: readonly Block[]): Node[] {
  return blocks.flatMap((block, index) =>
    index === 0 && block.kind === 'paragraph' ? block.inlines.map(inlineOf) : [nodeOf(block)],
  )
}

function tableOf([head = [], ...rows]: readonly (readonly (readonly Inline[])[])[]): Node {
  const cells = (row: readonly (readonly Inline[])[], tag: 'th' | 'td') =>
    head.map((_, column) => h(tag, tag === 'th' ? { scope: 'col' } : {}, ...(row[column] ?? []).map(inlineOf)))
  return h(
    'div',
    { class: 'table', tabindex: '0', role: 'group', 'aria-label': 'Table' },
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ...cells(head, 'th'))),
      h('tbody', {}, ...rows.map((row) => h('tr', {}, ...cells(row, 'td')))),
    ),
  )
}

function inlineOf(inline: Inline): Node {
  switch (inline.kind) {
    case 'text':
      return document.createTextNode(inline.text)
    case 'code':
      return h('code', {}, inline.text)
    case 'break':
      return h('br')
    case 'image':
      return h('span', { class: 'unloaded' }, `Image, not loaded: ${inline.text}`)
    case 'link':
      return linkOf(inline.url, inline.children)
    default:
      return h(inline.kind, {}, ...inline.children.map(inlineOf))
  }
}

/** It says where it leads, whatever its text pretends; and nothing is asked of that place until somebody clicks. */
export function linkOf(url: URL, children: readonly Inline[]): Node {
  const attributes = { href: url.href, rel: 'noopener noreferrer nofollow', target: '_blank', title: url.href }
  const link = h('a', attributes, ...children.map(inlineOf))
  if (!link.textContent?.includes(url.host)) link.append(h('span', { class: 'host' }, ` ${url.host}`))
  return link
}
