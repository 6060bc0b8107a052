/** Text within a line of Markdown. */
export type Inline =
  | { readonly kind: 'text' | 'code'; readonly text: string }
  | { readonly kind: 'strong' | 'em' | 'del'; readonly children: readonly Inline[] }
  | { readonly kind: 'link'; readonly url: URL; readonly children: readonly Inline[] }
  /** Never loaded. */
  | { readonly kind: 'image'; readonly text: string }
  | { readonly kind: 'break' }

type Mark = 'strong' | 'em' | 'del'

/** Something that has been opened and may be closed; until then what it opened with is text. */
interface Open {
  readonly sign: string
  readonly kind: Mark | 'link' | 'image'
  readonly children: Inline[]
}

/** More than that are text: nobody nests so deep, and each may be looked through at each sign that closes one. */
const maxOpen = 12
/** Longer ones are text. */
const maxUrl = 2_000

const special = /[\\`*_~[\]!\n]/g
const signs: readonly [sign: string, kind: Mark][] = [
  ['**', 'strong'],
  ['__', 'strong'],
  ['~~', 'del'],
  ['*', 'em'],
  ['_', 'em'],
]

/** Reads a text in one go from left to right: its time grows with its length and with nothing else. */
export function parseInline(text: string): Inline[] {
  return new Scanner(text).read()
}

class Scanner {
  readonly #text: string
  readonly #stack: Open[] = []
  readonly #root: Inline[] = []
  readonly #backticks: Map<number, number[]>
  #plain = ''
  #at = 0

  constructor(text: string) {
    this.#text = text
    this.#backticks = backticksOf(text)
  }

  read(): Inline[] {
    const text = this.#text
    while (this.#at < text.length) {
      special.lastIndex = this.#at
      const next = special.exec(text)?.index ?? text.length
      const plain = text.slice(this.#at, next)
      this.#at = next
      if (text[next] === '\n') {
        this.#line(plain)
        continue
      }
      this.#plain += plain
      if (next < text.length) this.#special(text[next] as string)
    }
    while (this.#stack.length > 0) this.#abandon()
    this.#flush()
    return this.#root
  }

  get #target(): Inline[] {
    return this.#stack.at(-1)?.children ?? this.#root
  }

  #flush(): void {
    if (this.#plain !== '') this.#target.push({ kind: 'text', text: this.#plain })
    this.#plain = ''
  }

  #add(inline: Inline): void {
    this.#flush()
    this.#target.push(inline)
  }

  #take(length: number): void {
    this.#plain += this.#text.slice(this.#at, this.#at + length)
    this.#at += length
  }

  #special(character: string): void {
    if (character === '\\') this.#escape()
    else if (character === '`') this.#code()
    else if (character === '[') this.#open('[', 'link')
    else if (character === '!') this.#text[this.#at + 1] === '[' ? this.#open('![', 'image') : this.#take(1)
    else if (character === ']') this.#closeLink()
    else this.#emphasis()
  }

  #escape(): void {
    const next = this.#text[this.#at + 1] ?? ''
    if (/[!-/:-@[-`{-~]/.test(next)) {
      this.#plain += next
      this.#at += 2
    } else this.#take(1)
  }

  /** Ends a line: two blanks before its end keep it apart from the next one. */
  #line(rest: string): void {
    this.#plain += rest.trimEnd()
    if (rest.endsWith('  ')) this.#add({ kind: 'break' })
    else this.#plain += '\n'
    this.#at++
  }

  #code(): void {
    const from = this.#at
    let length = 1
    while (this.#text[from + length] === '`') length++
    const places = this.#backticks.get(length) ?? []
    while (places.length > 0 && (places[0] as number) <= from) places.shift()
    const end = places[0]
    if (end === undefined) return void this.#take(length)
    this.#add({ kind: 'code', text: this.#text.slice(from + length, end).trim() })
    this.#at = end + length
  }

  #open(sign: string, kind: Open['kind']): void {
    if (this.#stack.length >= maxOpen) return void this.#take(sign.length)
    this.#flush()
    this.#stack.push({ sign, kind, children: [] })
    this.#at += sign.length
  }

  /** What was opened last turns out to be text. */
  #abandon(): void {
    this.#flush()
    const open = this.#stack.pop()
    if (open) this.#target.push({ kind: 'text', text: open.sign }, ...open.children)
  }

  #emphasis(): void {
    const [sign, kind] = signs.find(([sign]) => this.#text.startsWith(sign, this.#at)) ?? []
    if (!sign || !kind) return void this.#take(1)
    const before = this.#text[this.#at - 1] ?? ' '
    const after = this.#text[this.#at + sign.length] ?? ' '
    // Within a word, as in snake_case, underscores are letters.
    if (sign.startsWith('_') && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after))
      return void this.#take(sign.length)
    const at = /\s/.test(before) ? -1 : this.#stack.findLastIndex((open) => open.sign === sign)
    if (at >= 0) return void this.#close(at, sign, kind)
    if (/\s/.test(after)) return void this.#take(sign.length)
    this.#open(sign, kind)
  }

  #close(at: number, sign: string, kind: Mark): void {
    while (this.#stack.length > at + 1) this.#abandon()
    this.#flush()
    const children = this.#stack.pop()?.children ?? []
    this.#target.push({ kind, children })
    this.#at += sign.length
  }

  #closeLink(): void {
    const at = this.#stack.findLastIndex(({ kind }) => kind === 'link' || kind === 'image')
    const target = at >= 0 ? this.#urlAt(this.#at + 1) : undefined
    if (!target) return void this.#take(1)
    while (this.#stack.length > at + 1) this.#abandon()
    this.#flush()
    const { kind, children } = this.#stack.pop() as Open
    const url = httpsUrl(target.url)
    if (kind === 'image') this.#target.push({ kind, text: textOf(children) || 'image' })
    else if (url) this.#target.push({ kind: 'link', url, children })
    else this.#target.push(...children, { kind: 'text', text: ` (${target.url})` })
    this.#at = target.end
  }

  /** `(url)` or `(url "title")`; what is no such thing ends the search at once. */
  #urlAt(from: number): { readonly url: string; readonly end: number } | undefined {
    if (this.#text[from] !== '(') return undefined
    const part = this.#text.slice(from + 1, from + 1 + maxUrl)
    const [whole, url] = /^([^\s()[\]]*(?:\([^\s()[\]]*\)[^\s()[\]]*){0,4})(?: "[^"\n]{0,200}")?\)/.exec(part) ?? []
    return whole === undefined || url === undefined ? undefined : { url, end: from + 1 + whole.length }
  }
}

/** Where runs of so many backticks begin: a search at each of them would take the square of their number. */
function backticksOf(text: string): Map<number, number[]> {
  const places = new Map<number, number[]>()
  for (const { 0: run, index } of text.matchAll(/`+/g)) {
    const list = places.get(run.length)
    if (list) list.push(index)
    else places.set(run.length, [index])
  }
  return places
}

/** Pages of the web, over TLS, without a name and password that would hide where they are; everything else is text. */
export function httpsUrl(text: string): URL | undefined {
  const url = URL.parse(text)
  return url?.protocol === 'https:' && url.username === '' && url.password === '' ? url : undefined
}

export function textOf(inlines: readonly Inline[]): string {
  return inlines
    .map((each) => ('text' in each ? each.text : 'children' in each ? textOf(each.children) : '\n'))
    .join('')
}
