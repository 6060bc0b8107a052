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
}

/** Claude's event up to the payload; `"}}` is what comes behind it. */
export function eventOpening(kind: DeltaKind, index: number): string {
  const { type, field } = deltaShapes[kind]
  return `{"type":"content_block_delta","index":${index},"delta":{"type":"${type}","${field}":"`
}

/** Blocks beyond these are rare, and their number is upstream's to choose: nothing is kept for them. */
const maxKnownBlocks = 64

/** Remembers what `make` gives for each kind and block: what comes before a payload is the same for all deltas of a block. */
export function perBlock(make: (kind: DeltaKind, index: number) => string): (kind: DeltaKind, index: number) => string {
  const known: Record<DeltaKind, string[]> = { text: [], thinking: [], input_json: [] }
  return (kind, index) => {
    if (index < 0 || index >= maxKnownBlocks) return make(kind, index)
    known[kind][index] ??= make(kind, index)
    return known[kind][index]
  }
}

/** The inside of the JSON string literal for `text`. */
export function escapeJson(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}
