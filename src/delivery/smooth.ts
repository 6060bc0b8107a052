import { Delta, escapeJson } from '../core/delta.ts'
import type { LogEvent } from '../core/events.ts'
import type { SmoothUnit } from '../core/format.ts'

/** A text without a boundary is cut after so many characters all the same: nothing is held without limit. */
const maxHeld: Record<SmoothUnit, number> = { word: 200, sentence: 600, line: 2_000 }

/**
 * Behind a boundary inside unbroken script (Thai, Chinese) there must be so much more text before it counts: with less
 * the dictionary may yet see another word there.
 */
const contextCharacters = 12

// One locale for all: a resume on another replica must find the same boundaries, whatever language that machine speaks.
const segmenters = {
  word: new Intl.Segmenter('en', { granularity: 'word' }),
  sentence: new Intl.Segmenter('en', { granularity: 'sentence' }),
  grapheme: new Intl.Segmenter('en', { granularity: 'grapheme' }),
}

/**
 * Cuts the text of a log anew: words, sentences or lines come out whole, whatever pieces Claude sent. A fold over the
 * events alone, so that the frames made of it have the same numbers at every replay. Never call it with a clock.
 */
export function recutter(unit: SmoothUnit): (event: LogEvent) => LogEvent[] {
  let held: { kind: Delta['kind']; index: number; text: string } | undefined
  /** What came before on the same line decides whether this is a row of a table. */
  let inRow = false

  function release(): LogEvent[] {
    const rest = held
    held = undefined
    if (!rest || rest.text === '') return []
    const pieces = unit === 'line' || inRow ? [rest.text] : segments(rest.text, unit)
    return pieces.map((piece) => toDelta(rest.kind, rest.index, piece))
  }

  return (event) => {
    if (event.type === 'progress') return [event]
    if (event.type !== 'delta' || event.kind === 'input_json') {
      const before = release()
      inRow = false
      return [...before, event]
    }
    const { kind, index } = event
    const before = held?.kind === kind && held.index === index ? [] : release()
    const { pieces, rest, endsInRow } = cut((held?.text ?? '') + event.text, unit, inRow)
    held = { kind, index, text: rest }
    inRow = endsInRow
    return [...before, ...pieces.map((piece) => toDelta(kind, index, piece))]
  }
}

function toDelta(kind: Delta['kind'], index: number, text: string): Delta {
  return new Delta(kind, index, escapeJson(text))
}

interface Cut {
  readonly pieces: string[]
  /** What may yet become part of something longer. */
  readonly rest: string
  /** The last piece is the beginning of a table's row that became too long to be held. */
  readonly endsInRow: boolean
}

function cut(text: string, unit: SmoothUnit, inRow: boolean): Cut {
  const pieces: string[] = []
  let rest = text
  let row = inRow
  for (;;) {
    const lineEnd = rest.indexOf('\n') + 1
    const line = lineEnd === 0 ? rest : rest.slice(0, lineEnd)
    row ||= /^[ \t]*\|/.test(line)
    if (lineEnd === 0) break
    // A row of a Markdown table is one piece: half of one is drawn as text, then as a table.
    if (row || unit === 'line') pieces.push(line)
    else pieces.push(...segments(line, unit))
    rest = rest.slice(lineEnd)
    row = false
  }
  if (!row && unit !== 'line') {
    const open = openSegments(rest, unit)
    pieces.push(...open.pieces)
    rest = open.rest
  }
  if (rest.length <= maxHeld[unit]) return { pieces, rest, endsInRow: false }
  const graphemes = [...segmenters.grapheme.segment(rest)]
  const last = graphemes.at(-1)?.index ?? 0
  pieces.push(rest.slice(0, last))
  return { pieces, rest: rest.slice(last), endsInRow: row }
}

/** A whole line, cut: blanks and punctuation go with the word before them. */
function segments(line: string, unit: 'word' | 'sentence'): string[] {
  const pieces: string[] = []
  for (const { segment, isWordLike } of segmenters[unit].segment(line)) {
    if (unit === 'word' && !isWordLike && pieces.length > 0) pieces.push(`${pieces.pop()}${segment}`)
    else pieces.push(segment)
  }
  return pieces
}

/** The beginning of a line, cut as far as more text cannot move the boundaries. */
function openSegments(text: string, unit: 'word' | 'sentence'): { pieces: string[]; rest: string } {
  const pieces = segments(text, unit)
  let heldFrom = pieces.length
  let length = 0
  while (heldFrom > 0) {
    const piece = pieces[heldFrom - 1] as string
    const before = pieces[heldFrom - 2]
    length += piece.length
    heldFrom--
    // Behind a blank a boundary is certain; elsewhere it takes more text to be.
    if (before === undefined || /\s$/.test(before) || length >= contextCharacters) break
  }
  return { pieces: pieces.slice(0, heldFrom), rest: pieces.slice(heldFrom).join('') }
}

/** No event waits longer than this for its turn, in milliseconds: how far a reader may lag behind Claude. */
const maxLagMs = 400
/** Text is let out this often at the most: faster nobody sees. */
const stepMs = 20
/** With more waiting nobody would see a flow: a long answer is replayed at once, but for its end. */
const mostWaiting = 4_096
/** Events to cut at a time: to find the words of a thousand takes tens of milliseconds. */
export const eventsPerCut = 8
/** A pause of Claude's must not let the burst behind it out at once. */
const maxCreditMs = 50

/** Cuts events anew and lets them out a few at a time, so that text which comes in bursts is read as a flow. */
export class Smoother {
  readonly #recut: (event: LogEvent) => LogEvent[]
  readonly #queue: { readonly event: LogEvent; readonly at: number }[] = []
  #lastAt = Number.NEGATIVE_INFINITY

  constructor(unit: SmoothUnit) {
    this.#recut = recutter(unit)
  }

  /**
   * Takes events in and gives those that are due: a share of what waits that grows with the time gone by, and all that
   * has waited long enough. The first one never waits.
   * @param now milliseconds of the monotonic clock
   */
  pass(events: readonly LogEvent[], now: number): LogEvent[] {
    const queue = this.#queue
    for (const event of events) for (const piece of this.#recut(event)) queue.push({ event: piece, at: now })
    const surplus = queue.length - mostWaiting
    if (queue.length === 0 || (surplus <= 0 && now - this.#lastAt < stepMs)) return []
    let count = Math.min(queue.length, Math.ceil((queue.length * Math.min(now - this.#lastAt, maxCreditMs)) / maxLagMs))
    while (count < queue.length && now - (queue[count]?.at ?? now) >= maxLagMs) count++
    count = Math.max(count, surplus)
    this.#lastAt = now
    return queue.splice(0, count).map(({ event }) => event)
  }
}
