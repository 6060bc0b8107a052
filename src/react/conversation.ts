import type { Block, ToolCall, Turn } from '../client/stream.ts'

/** A turn as a page shows it. */
export interface ChatMessage {
  /** Its place in the conversation: a key for lists. */
  readonly id: string
  readonly role: 'user' | 'assistant'
  readonly content: readonly Block[]
}

/** What a tool call has come to. */
export interface ChatToolCall extends ToolCall {
  /** It waits for `answerTool`. */
  readonly pending: boolean
  /** What it was answered with. */
  readonly result?: unknown
}

export function toBlocks(content: Turn['content']): Block[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content
}

export function toResult(id: string, content: unknown, isError: boolean): Block {
  const text = typeof content === 'string' || isBlocks(content) ? content : JSON.stringify(content ?? null)
  return { type: 'tool_result', tool_use_id: id, content: text, ...(isError && { is_error: true }) }
}

const isBlocks = (content: unknown): boolean =>
  Array.isArray(content) && content.length > 0 && content.every((each) => typeof each?.type === 'string')

/** Calls of the last turn that Claude waits for the results of: without them it takes no other turn. */
export function unanswered(turns: readonly Turn[]): string[] {
  const last = turns.at(-1)
  if (last?.role !== 'assistant') return []
  return toBlocks(last.content).flatMap(({ type, id }) => (type === 'tool_use' ? [String(id)] : []))
}

/**
 * The conversation as Claude takes it back: an answer that broke off may hold what it would refuse, thinking without its
 * signature and turns with nothing in them.
 */
export function toRequest(turns: readonly Turn[]): Turn[] {
  return turns
    .map(({ role, content }) => ({ role, content: role === 'user' ? content : toBlocks(content).filter(isWhole) }))
    .filter(({ content }) => content.length > 0)
}

function isWhole(block: Block): boolean {
  if (block.type === 'thinking') return typeof block['signature'] === 'string'
  return block.type !== 'text' || block['text'] !== ''
}

/**
 * Turns that do not change any more keep their objects, so that a page need not draw them again.
 * @param settled how many of them that are
 * @param before what was shown last
 */
export function showTurns(turns: readonly Turn[], settled: number, before: readonly ChatMessage[]): ChatMessage[] {
  return turns.map(({ role, content }, n) => {
    const known = before[n]
    if (n < settled && known?.content === content) return known
    const blocks = toBlocks(content)
    return { id: String(n), role, content: n < settled ? blocks : blocks.map((block) => ({ ...block })) }
  })
}

/** @param waiting ids of calls that Claude waits for the results of */
export function showCalls(
  calls: readonly ToolCall[],
  waiting: readonly string[],
  results: ReadonlyMap<string, Block>,
): ChatToolCall[] {
  return calls.map((call) => {
    const result = results.get(call.id)?.['content']
    const pending = waiting.includes(call.id) && result === undefined
    return { ...call, pending, ...(result !== undefined && { result }) }
  })
}
