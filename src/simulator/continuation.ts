import type { SimulatedRequest, WireEvent } from './compose.ts'
import { brokenTurnOf, pausesBefore } from './conversation.ts'
import type { Scenario } from './scenario.ts'

/** A request that asks for the rest of an answer, as it reads. */
export interface Interruption {
  readonly kind: 'prefill' | 'quote'
  /** The answer up to where it broke off, or the end of that. */
  readonly text: string
  /** The answer so far as it stands before a quotation. */
  readonly soFar?: string
  /** The request without what asks for the rest. */
  readonly original: SimulatedRequest
}

/** Where an answer broke off. */
export interface Place {
  /** What it had said, in all its text blocks. */
  readonly partial: string
  /** Text deltas that were whole by then. */
  readonly deltas: number
}

type Message = SimulatedRequest['messages'][number]
interface TextBlock {
  readonly type: 'text'
  readonly text: string
}

const heading = 'Your previous response was interrupted and ended with:'
const quotedEnd = /^\s*<end_of_response>([\s\S]+)<\/end_of_response>/

/** Reads the end of a conversation: an assistant's turn is there to be gone on with, or a user's turn quotes one. */
export function interruptionOf(request: SimulatedRequest): Interruption | undefined {
  const last = request.messages.at(-1)
  if (last?.role !== 'assistant') return last && quotationIn(last, request)
  if (pausesBefore(request.messages).length > 0) return undefined
  const text = textsOf(last.content).join('')
  if (text === '') return undefined
  return { kind: 'prefill', text, original: { ...request, messages: request.messages.slice(0, -1) } }
}

function quotationIn({ role, content }: Message, request: SimulatedRequest): Interruption | undefined {
  const asked = textsOf(content).at(-1) ?? ''
  const at = asked.lastIndexOf(heading)
  const text = at < 0 ? undefined : quotedEnd.exec(asked.slice(at + heading.length))?.[1]
  if (text === undefined) return undefined
  const before = request.messages.slice(0, -1)
  const kept = withoutLastText(content, asked.slice(0, at).trimEnd())
  // The quotation is a turn of its own, or the end of the question.
  if (kept !== undefined) before.push({ role, content: kept })
  const answer = before.at(-1)?.role === 'assistant' ? before.pop() : undefined
  return { kind: 'quote', text, soFar: textsOf(answer?.content).join(''), original: { ...request, messages: before } }
}

function isText(block: unknown): block is TextBlock {
  const { type, text } = (block ?? {}) as Partial<TextBlock>
  return type === 'text' && typeof text === 'string'
}

function textsOf(content: unknown): string[] {
  if (typeof content === 'string') return [content]
  return Array.isArray(content) ? content.filter(isText).map(({ text }) => text) : []
}

/** Content with another text at its end; `undefined` when there is nothing left. */
function withoutLastText(content: unknown, text: string): unknown {
  if (!Array.isArray(content)) return text || undefined
  const at = content.findLastIndex(isText)
  const kept = content.toSpliced(at, 1, ...(text === '' ? [] : [{ type: 'text', text }]))
  return kept.length > 0 ? kept : undefined
}

/** Why Claude would not even begin: what it refuses depends on the model, but for blanks. */
export function refusalOf({ messages }: SimulatedRequest, { prefill }: Scenario): string | undefined {
  const last = messages.at(-1)
  const broken = brokenTurnOf(messages)
  if (broken !== undefined || last?.role !== 'assistant' || pausesBefore(messages).length > 0) return broken
  if (prefill === false) {
    return 'This model does not support assistant message prefill. The conversation must end with a user message.'
  }
  const blank = /\s$/.test(textsOf(last.content).at(-1) ?? '')
  return blank ? 'messages: final assistant content cannot end with trailing whitespace' : undefined
}

/** Finds the place in the whole answer, which must say there what the request says it ended with. */
export function placeOf(interruption: Interruption, answer: Iterable<WireEvent>): Place | undefined {
  const { kind, text } = interruption
  const pieces: string[] = []
  let length = 0
  for (const event of answer) {
    const piece = textIn(event)
    if (piece !== '') pieces.push(piece)
    length += piece.length
    // An answer may be endless.
    if (kind === 'prefill' && length >= text.length) break
  }
  const partial = partialOf(interruption, pieces.join(''))
  if (partial === undefined) return undefined
  let deltas = 0
  let left = partial.length
  for (const piece of pieces) {
    left -= piece.length
    if (left < 0) break
    deltas++
  }
  return { partial, deltas }
}

/** An end that the answer has several times is where the answer so far has it, or else the last one. */
function partialOf({ kind, text, soFar }: Interruption, said: string): string | undefined {
  if (kind === 'prefill') return said.startsWith(text) ? text : undefined
  if (soFar?.endsWith(text) && said.startsWith(soFar)) return soFar
  const at = said.lastIndexOf(text)
  return at < 0 ? undefined : said.slice(0, at + text.length)
}

function textIn(event: WireEvent): string {
  const { content_block, delta } = event as { content_block?: Fields; delta?: Fields } & WireEvent
  const holder = content_block?.['type'] === 'text' ? content_block : delta?.['type'] === 'text_delta' ? delta : {}
  return String(holder['text'] ?? '')
}

type Fields = Record<string, unknown>

/** How many words are said twice by an answer that is gone on with carelessly. */
const repeatedWords = 3

/** The rest of an answer as a message of its own: the text block that broke off goes on as block 0. */
export function* restOf(
  answer: Iterable<WireEvent>,
  { partial }: Place,
  how: Scenario['continue'],
): Generator<WireEvent> {
  const rest = new Rest(partial, how)
  for (const event of answer) yield* rest.of(event)
}

class Rest {
  readonly #partial: string
  readonly #preface: readonly string[]
  readonly #manner: (text: string) => string
  /** Characters of text so far. */
  #seen = 0
  /** Deltas left out. */
  #skipped = 0
  /** Index in the whole answer of the block that goes on. */
  #first: number | undefined

  constructor(partial: string, how: Scenario['continue']) {
    this.#partial = partial
    this.#preface = prefaceOf(how, partial)
    this.#manner = mannerOf(how)
  }

  of(event: WireEvent): WireEvent[] {
    if (this.#first !== undefined) return this.#onward(event, this.#first)
    if (typeof event['index'] === 'number') return this.#skip(event, event['index'])
    return [event.type === 'message_start' ? withInput(event, this.#partial) : event]
  }

  #skip(event: WireEvent, index: number): WireEvent[] {
    const text = textIn(event)
    this.#seen += text.length
    const over = this.#seen - this.#partial.length
    if (over <= 0 && isCounted(event)) this.#skipped++
    if (text === '' || over < 0) return []
    this.#first = index
    const pieces = [...this.#preface, this.#manner(text.slice(text.length - over))]
    const start = { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }
    return [start, ...pieces.filter((piece) => piece !== '').map(textDelta)]
  }

  #onward(event: WireEvent, first: number): WireEvent[] {
    const { index, usage } = event as { index?: number; usage?: { output_tokens: number } } & WireEvent
    if (index === first && textIn(event) !== '') {
      const text = this.#manner(textIn(event))
      return text === '' ? [] : [textDelta(text)]
    }
    if (index !== undefined) return [{ ...event, index: index - first }]
    if (event.type !== 'message_delta' || !usage) return [event]
    return [{ ...event, usage: { ...usage, output_tokens: Math.max(1, usage.output_tokens - this.#skipped) } }]
  }
}

/** A delta that cost a token. */
function isCounted({ delta }: WireEvent): boolean {
  const { type } = (delta ?? {}) as Fields
  return type === 'text_delta' || type === 'thinking_delta'
}

function textDelta(text: string): WireEvent {
  return { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }
}

/** What Claude has said so far is input now. */
function withInput(event: WireEvent, partial: string): WireEvent {
  const message = event['message'] as { usage: { input_tokens: number } }
  const usage = { ...message.usage, input_tokens: message.usage.input_tokens + Math.ceil(partial.length / 4) }
  return { ...event, message: { ...message, usage } }
}

function prefaceOf(how: Scenario['continue'], partial: string): string[] {
  if (how === 'announce') return ['Continuing: ']
  return how === 'repeat' ? (partial.match(/\S+\s*/g) ?? []).slice(-repeatedWords) : []
}

/** What becomes of the pieces of the rest. */
function mannerOf(how: Scenario['continue']): (text: string) => string {
  let begun = how !== 'capital'
  return (text) => {
    if (begun) return text
    const trimmed = text.trimStart()
    begun = trimmed !== ''
    return trimmed.replace(/\p{L}/u, (letter) => letter.toUpperCase())
  }
}
