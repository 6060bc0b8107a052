import type { Block } from '../core/blocks.ts'
import { type LogEvent, toolBlockTypes } from '../core/events.ts'
import { snapshot } from '../core/message.ts'
import type { MessageRequest } from '../core/request.ts'

/** What a log holds of an answer that upstream has lost, when it can be gone on with. */
export interface Partial {
  /** Whole blocks, and the text block under way with what it has. */
  readonly blocks: readonly Block[]
  /** The index of the text block under way. */
  readonly openText: number | undefined
  /** The index that the next block gets. */
  readonly nextIndex: number
  /** Claude has said why it stopped: nothing is missing but the end mark. */
  readonly stopped: boolean
}

/**
 * @returns `undefined` when the answer cannot be gone on with honestly: readers have the beginning of a block that only
 * its author could finish, such as a tool's input or thinking with its signature, or a call that has yet to be answered
 */
export function partialOf(events: readonly LogEvent[], request: MessageRequest): Partial | undefined {
  const open = new Map<number, string>()
  let nextIndex = 0
  let stopped = false
  for (const event of events) {
    if (event.type === 'content_block_start') {
      open.set(event.index, event.content_block.type)
      nextIndex = Math.max(nextIndex, event.index + 1)
    } else if (event.type === 'content_block_stop') open.delete(event.index)
    else if (event.type === 'message_delta') stopped ||= typeof event.delta.stop_reason === 'string'
  }
  const blocks = snapshot(events).message?.content ?? []
  const [openText] = open.keys()
  if ([...open.values()].some((type) => type !== 'text') || open.size > 1) return undefined
  if (!stopped && (hasOpenCall(blocks) || isStructured(request))) return undefined
  return { blocks, openText, nextIndex, stopped }
}

/** A call whose result is still to come: from the client, or from a tool of Anthropic's that was at work. */
function hasOpenCall(blocks: readonly Block[]): boolean {
  const answered = new Set(blocks.map((block) => block['tool_use_id']))
  return blocks.some(({ type, id }) => toolBlockTypes.has(type) && (type === 'tool_use' || !answered.has(id)))
}

/** Each answer of such a request begins its JSON anew. */
function isStructured({ output_config, output_format }: MessageRequest): boolean {
  return Boolean((output_config as { format?: unknown } | undefined)?.format ?? output_format)
}

/** All text so far: what the rest is joined to. Blocks are where they are for their citations, and a text runs through them. */
export function textOf({ blocks }: Partial): string {
  return blocks.map((block) => (block.type === 'text' ? String(block['text'] ?? '') : '')).join('')
}

/** Enough of the end for Claude to find its place again, in characters. */
const quotedLength = 400

/** Thinking is for the model that thought it, and with its signature only; it is not needed to go on with the text. */
const notSentBack: ReadonlySet<string> = new Set(['thinking', 'redacted_thinking'])

/**
 * Asks for the rest of an answer: by a user turn that quotes its end, as Claude 4.6 and later refuse to go on with an
 * assistant turn, or by such a turn, which must not end with a blank.
 * @see https://platform.claude.com/docs/en/build-with-claude/streaming#error-recovery
 */
export function requestForRest(request: MessageRequest, partial: Partial, mode: 'prefill' | 'quote'): MessageRequest {
  const content = partial.blocks
    .filter((block) => !notSentBack.has(block.type) && !isBlank(block))
    // Without citations: those of an answer have fields that a request must not have.
    .map((block) => (block.type === 'text' ? { type: 'text', text: block['text'] } : block))
  // Nothing that could be quoted: the question is asked again, and what has been told stays.
  if (content.length === 0) return request
  const last = content.at(-1) as Block
  if (mode === 'prefill' && last.type === 'text') {
    const trimmed = { ...last, text: String(last['text']).trimEnd() }
    return { ...request, messages: [...request.messages, { role: 'assistant', content: content.with(-1, trimmed) }] }
  }
  // Cut between two characters, not inside of one.
  const end = textOf(partial)
    .slice(-quotedLength)
    .replace(/^[\uDC00-\uDFFF]/, '')
  const asked = [
    { role: 'assistant', content },
    { role: 'user', content: quote(end) },
  ]
  return { ...request, messages: [...request.messages, ...asked] }
}

/** Claude writes such blocks at times and refuses them in a request; they say nothing. */
export function isBlank({ type, text }: Block): boolean {
  return type === 'text' && String(text ?? '').trim() === ''
}

function quote(end: string): string {
  const place = end.trim() === '' ? '' : ` and ended with:\n<end_of_response>${end}</end_of_response>\n`
  return `Your previous response was interrupted${place}
Continue from exactly where it ended: your reply is appended to it as it is, without a blank or a line break in between. Go on in the middle of the sentence or the word if that is where it ended. Do not repeat anything, do not announce that you continue, do not open a code block anew.`
}
