/** The deltas a stream is made of; all others are rare. */
export type DeltaKind = 'text' | 'thinking' | 'input_json'

interface Shape {
  readonly type: string
  readonly field: string
}

/** How Claude writes each kind on the wire. */
export const deltaShapes: Readonly<Record<DeltaKind, Shape>> = {
  text: { type: 'text_delta', field: 'text' },
  thinking: { type: 'thinking_delta', field: 'thinking' },
  input_json: { type: 'input_json_delta', field: 'partial_json' },
}

const kinds = Object.keys(deltaShapes) as DeltaKind[]

/** What comes before the payload of each kind, from `"delta":` on. */
const openings = kinds.map((kind) => {
  const { type, field } = deltaShapes[kind]
  return { kind, text: `,"delta":{"type":"${type}","${field}":"` }
})

const head = '{"type":"content_block_delta","index":'

/** Characters that cannot stand in a JSON string as they are. */
const special = /["\\\u0000-\u001f]/

/**
 * A piece of text, thinking or tool input. It keeps its payload as the inside of a JSON string literal, the way it
 * came: every format but one puts it into JSON again, and neither unescaping nor escaping is then done per token.
 */
export class Delta {
  readonly type = 'delta'
  readonly kind: DeltaKind
  readonly index: number
  /** The payload as JSON has it between the quotes. */
  readonly escaped: string
  /** Claude's own JSON, kept when it says more than this object holds. */
  readonly raw: string | undefined

  constructor(kind: DeltaKind, index: number, escaped: string, raw?: string) {
    this.kind = kind
    this.index = index
    this.escaped = escaped
    this.raw = raw
  }

  /** The payload itself. */
  get text(): string {
    return this.escaped.includes('\\') ? (JSON.parse(`"${this.escaped}"`) as string) : this.escaped
  }

  /** Claude's event as JSON. */
  toJson(): string {
    if (this.raw !== undefined) return this.raw
    const { type, field } = deltaShapes[this.kind]
    return `${head}${this.index},"delta":{"type":"${type}","${field}":"${this.escaped}"}}`
  }
}

/** The inside of the JSON string literal for `text`. */
export function escapeJson(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}

/**
 * Reads a delta straight from the text of an event's JSON, which lies at `from` to `to` of `line`. It takes the exact
 * shape that Anthropic writes (blanks before the closing braces included) and nothing else.
 * @returns `undefined` when this is another event, or the same in another shape: parse it then
 */
export function sliceDelta(line: string, from: number, to: number): Delta | undefined {
  if (!line.startsWith(head, from)) return undefined
  let at = from + head.length
  let index = 0
  for (; ; at++) {
    const digit = line.charCodeAt(at) - 48
    if (!(digit >= 0 && digit <= 9)) break
    index = index * 10 + digit
  }
  const digits = at - from - head.length
  // JSON knows no leading zeros.
  if (digits === 0 || digits > 6 || (digits > 1 && line.charCodeAt(from + head.length) === 48)) return undefined
  const opening = openings.find(({ text }) => line.startsWith(text, at))
  if (!opening) return undefined
  const begin = at + opening.text.length
  const end = closingQuote(line, to)
  if (end < begin) return undefined
  const escaped = line.slice(begin, end)
  if (special.test(escaped) && !isJsonString(escaped)) return undefined
  return new Delta(opening.kind, index, escaped)
}

const BLANK = 0x20
const BRACE = 0x7d
const QUOTE = 0x22

/** Where `"`, `}`, `}` and blanks between them end the line; -1 when they do not. */
function closingQuote(line: string, to: number): number {
  let at = to - 1
  for (let braces = 0; braces < 2; braces++) {
    while (line.charCodeAt(at) === BLANK) at--
    if (line.charCodeAt(at--) !== BRACE) return -1
  }
  while (line.charCodeAt(at) === BLANK) at--
  return line.charCodeAt(at) === QUOTE ? at : -1
}

function isJsonString(escaped: string): boolean {
  try {
    return typeof JSON.parse(`"${escaped}"`) === 'string'
  } catch {
    return false
  }
}
