import { type Inline, parseInline } from './inline.ts'

/** A part of a text in Markdown. */
export type Block =
  | { readonly kind: 'heading'; readonly level: number; readonly inlines: readonly Inline[] }
  | { readonly kind: 'paragraph'; readonly inlines: readonly Inline[] }
  | { readonly kind: 'code'; readonly language: string; readonly text: string }
  | { readonly kind: 'quote'; readonly blocks: readonly Block[] }
  | { readonly kind: 'list'; readonly start: number | undefined; readonly items: readonly (readonly Block[])[] }
  | { readonly kind: 'table'; readonly rows: readonly (readonly (readonly Inline[])[])[] }
  | { readonly kind: 'rule' }

/** Deeper than that, lists and quotes are text. */
const maxDepth = 8
/** A paragraph that is longer is one piece of text. */
const maxInline = 64 * 1_024
const maxColumns = 40
/** Of a line below a head of columns. */
const maxTableRule = 1_000

const fence = /^ {0,3}(`{3,}|~{3,})([^`]*)$/
const heading = /^ {0,3}(#{1,6})[ \t]+(.*)$/
const rule = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/
const item = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}|$)(.*)$/
const quote = /^ {0,3}> ?(.*)$/
const tableRule = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/

/**
 * Reads Markdown, or as much of it as models write. It knows no HTML, no references and no images: what is none of its
 * few forms is text. Each line is looked at once for each depth at which it stands.
 */
export function parseMarkdown(text: string): Block[] {
  return new Reader(visible(text).split(/\r\n|\r|\n/), 0).blocks()
}

/** How many characters at the beginning are blocks that nothing more can change. */
export function settledLength(text: string): number {
  let settled = 0
  let at = 0
  let open: string | undefined
  let blank = false
  for (const line of text.split('\n').slice(0, -1)) {
    const isFence = fenceOf(line)
    const begins = open === undefined && blank && !/^\s/.test(line) && line !== '' && !item.test(line)
    if (begins) settled = at
    if (open === undefined) open = isFence?.mark
    else if (closes(line, open)) open = undefined
    blank = open === undefined && line.trim() === ''
    at += line.length + 1
  }
  return settled
}

function fenceOf(line: string): { readonly mark: string; readonly language: string } | undefined {
  const [, mark, info = ''] = fence.exec(line.length > 200 ? '' : line) ?? []
  return mark === undefined ? undefined : { mark, language: info.trim().split(/\s/, 1)[0] ?? '' }
}

function closes(line: string, mark: string): boolean {
  const bare = line.trim()
  return bare.length >= mark.length && bare.length <= 200 && bare === (mark[0] as string).repeat(bare.length)
}

/** Without the signs that make text stand elsewhere than it is: what looks like one address must not be another. */
function visible(text: string): string {
  return text.replace(/[\u202a-\u202e\u2066-\u2069\u0000]/g, '')
}

class Reader {
  readonly #lines: readonly string[]
  readonly #depth: number
  #at = 0

  constructor(lines: readonly string[], depth: number) {
    this.#lines = lines
    this.#depth = depth
  }

  blocks(): Block[] {
    const blocks: Block[] = []
    while (this.#at < this.#lines.length) {
      if (this.#line.trim() === '') this.#at++
      else blocks.push(this.#block())
    }
    return blocks
  }

  get #line(): string {
    return this.#lines[this.#at] ?? ''
  }

  #block(): Block {
    const line = this.#line
    const opened = fenceOf(line)
    if (opened) return this.#code(opened)
    const [, signs, title] = heading.exec(line) ?? []
    if (signs && title !== undefined) {
      this.#at++
      return { kind: 'heading', level: signs.length, inlines: inlinesOf(title.replace(/\s#+\s*$/, '')) }
    }
    if (rule.test(line)) {
      this.#at++
      return { kind: 'rule' }
    }
    if (this.#depth < maxDepth && quote.test(line)) return this.#quote()
    if (this.#depth < maxDepth && item.test(line)) return this.#list()
    if (line.includes('|') && isTableRule(this.#lines[this.#at + 1] ?? '')) return this.#table()
    return this.#paragraph()
  }

  #code({ mark, language }: { mark: string; language: string }): Block {
    const from = ++this.#at
    while (this.#at < this.#lines.length && !closes(this.#line, mark)) this.#at++
    const text = this.#lines.slice(from, this.#at++).join('\n')
    return { kind: 'code', language, text }
  }

  #quote(): Block {
    const lines: string[] = []
    for (let found = quote.exec(this.#line); found; found = quote.exec(this.#line)) {
      lines.push(found[1] ?? '')
      this.#at++
    }
    return { kind: 'quote', blocks: new Reader(lines, this.#depth + 1).blocks() }
  }

  #list(): Block {
    const [, , first = ''] = item.exec(this.#line) ?? []
    const ordered = /\d/.test(first)
    const items: Block[][] = []
    for (let found = item.exec(this.#line); found && /\d/.test(found[2] ?? '') === ordered; ) {
      items.push(this.#item(found))
      found = item.exec(this.#line)
      if (rule.test(this.#line)) break
    }
    return { kind: 'list', start: ordered ? Number.parseInt(first, 10) : undefined, items }
  }

  #item([, indent = '', sign = '', gap = '', text = '']: RegExpExecArray): Block[] {
    const width = indent.length + sign.length + (gap.length || 1)
    const lines = [text]
    this.#at++
    while (this.#at < this.#lines.length && !this.#endsItem(Math.min(width, 2))) {
      const line = this.#line
      lines.push(line.slice(Math.min(leading(line), width)))
      this.#at++
    }
    // A blank line between two items belongs to neither.
    if (this.#line.trim() === '' && item.test(this.#lines[this.#at + 1] ?? '')) this.#at++
    return new Reader(lines, this.#depth + 1).blocks()
  }

  /** A blank line ends an item, unless more of it follows. @param least blanks before what belongs to it */
  #endsItem(least: number): boolean {
    const line = this.#line
    if (line.trim() !== '') return leading(line) < least && (item.test(line) || this.#beginsBlock(line))
    const next = this.#lines[this.#at + 1] ?? ''
    return leading(next) < least || next.trim() === ''
  }

  #beginsBlock(line: string): boolean {
    return heading.test(line) || rule.test(line) || quote.test(line) || fenceOf(line) !== undefined
  }

  #table(): Block {
    const rows = [cellsOf(this.#line)]
    this.#at += 2
    while (this.#line.includes('|')) {
      rows.push(cellsOf(this.#line))
      this.#at++
    }
    return { kind: 'table', rows }
  }

  #paragraph(): Block {
    const lines = [this.#line.trimStart()]
    this.#at++
    while (
      this.#line.trim() !== '' &&
      !this.#beginsBlock(this.#line) &&
      !(this.#depth < maxDepth && item.test(this.#line))
    ) {
      lines.push(this.#line.trimStart())
      this.#at++
    }
    return { kind: 'paragraph', inlines: inlinesOf(lines.join('\n')) }
  }
}

function isTableRule(line: string): boolean {
  return line.length <= maxTableRule && tableRule.test(line)
}

function leading(line: string): number {
  let count = 0
  while (line[count] === ' ') count++
  return count
}

function cellsOf(line: string): Inline[][] {
  const cells = line.trim().replace(/^\|/, '').replace(/\|$/, '').split('|', maxColumns)
  return cells.map((cell) => inlinesOf(cell.trim()))
}

function inlinesOf(text: string): Inline[] {
  return text.length > maxInline ? [{ kind: 'text', text }] : parseInline(text)
}
