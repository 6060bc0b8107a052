/** One frame as it came over the wire. */
export interface WireFrame {
  /** When it was there, in milliseconds since the stream was asked for. */
  readonly at: number
  readonly text: string
  readonly kind: 'frame' | 'comment' | 'note'
}

/** What a frame has in its `id` line behind the stream's name. */
export function numberOf({ text }: WireFrame): string {
  return /^id: ?[^\n]*\.(\d+)$/m.exec(text)?.[1] ?? ''
}

/** The frame in one line, as a list shows it. */
export function summaryOf({ text, kind }: WireFrame): string {
  if (kind !== 'frame') return text.slice(0, 200)
  const lines = text.split('\n', 40).filter((line) => !line.startsWith('id:'))
  return (
    lines
      .map((line) => line.replace(/^data: ?/, ''))
      .join(' ⏎ ')
      .slice(0, 400) || '(id only)'
  )
}

/** Cuts the bytes of an event stream into its frames, as they are: nothing is parsed, so that nothing is hidden. */
export class WireSplitter {
  readonly #decoder = new TextDecoder()
  #rest = ''

  feed(bytes: Uint8Array, at: number): WireFrame[] {
    this.#rest += this.#decoder.decode(bytes, { stream: true })
    const parts = this.#rest.replaceAll('\r\n', '\n').split('\n\n')
    this.#rest = parts.pop() ?? ''
    return parts
      .filter((text) => text !== '')
      .map((text) => ({ at, text, kind: text.startsWith(':') ? 'comment' : 'frame' }))
  }

  /** What came behind the last whole frame. */
  get rest(): string {
    return this.#rest
  }
}
