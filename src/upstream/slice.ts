import { Delta, type DeltaKind, deltaShapes } from '../core/delta.ts'

/** What comes before the payload of a delta of one kind in one block, and a whole event that begins so. */
interface Shape {
  readonly kind: DeltaKind
  readonly index: number
  readonly opening: string
  readonly event: RegExp
}

/** Blocks with a higher index are read all the same, by parsing. */
const anyOpening =
  /event: content_block_delta\ndata: \{"type":"content_block_delta","index":(\d|[1-9]\d),"delta":\{"type":"(text|thinking|input_json)_delta",/y

/**
 * The inside of a JSON string literal, up to its closing quote. Written so that no position can be matched in two ways:
 * then what does not match fails in linear time.
 * @see https://www.rfc-editor.org/rfc/rfc8259#section-7
 */
const payload = String.raw`[^"\\\0-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\0-\x1f]*)*`

const QUOTE = 0x22

/** The longest of what follows a payload without the blanks that Anthropic may put in: a quote, two braces, two breaks. */
const closing = '"}}\n\n'

const shapes = new Map<string, Shape>()

function shapeAt(text: string, from: number): Shape | undefined {
  anyOpening.lastIndex = from
  const match = anyOpening.exec(text)
  if (!match) return undefined
  const [begin, index, kind] = match
  const known = shapes.get(begin)
  if (known) return known
  const opening = `${begin}"${deltaShapes[kind as DeltaKind].field}":"`
  const shape: Shape = {
    kind: kind as DeltaKind,
    index: Number(index),
    opening,
    event: new RegExp(`${RegExp.escape(opening)}${payload}" *\\} *\\} *\n\n`, 'y'),
  }
  shapes.set(begin, shape)
  return shape
}

/**
 * Takes deltas straight from the text of an event stream. It knows the exact shape that Anthropic writes (blanks before
 * the closing braces included) and nothing else; one expression looks at all of it, prefix, escapes and end, ten times as
 * fast as parsing. One of these for each stream: nearly all deltas begin as the last one did.
 */
export class DeltaSlicer {
  #shape: Shape | undefined
  /** Behind the event that was taken last. */
  end = 0

  /** @returns `undefined` when there is another event at `from`, or a part, or the same in another shape */
  slice(text: string, from: number): Delta | undefined {
    let shape = this.#shape
    if (!shape || !matches(shape, text, from)) {
      shape = shapeAt(text, from)
      if (!shape || !matches(shape, text, from)) return undefined
      this.#shape = shape
    }
    this.end = shape.event.lastIndex
    let quote = this.end - closing.length
    while (text.charCodeAt(quote) !== QUOTE) quote--
    return new Delta(shape.kind, shape.index, text.slice(from + shape.opening.length, quote))
  }
}

function matches({ event }: Shape, text: string, from: number): boolean {
  event.lastIndex = from
  return event.test(text)
}
