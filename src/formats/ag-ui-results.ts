import type { Block } from '../core/blocks.ts'
import type { ToolResultEvent } from '../core/events.ts'

/** What Claude is to get back of a result, and AG-UI has no field for. */
export interface ClaudeResult {
  readonly type: 'tool_result'
  readonly is_error?: true
  /** Blocks, where the result is no text. */
  readonly content?: readonly object[]
}

/** The fields of a `TOOL_CALL_RESULT` for what a tool of the server's gave. */
export function resultOf({ id, content, is_error }: ToolResultEvent, message: string): object {
  const isText = typeof content === 'string'
  const claude: ClaudeResult = { type: 'tool_result', ...(is_error && { is_error }), ...(!isText && { content }) }
  const plain = isText && !is_error
  return {
    messageId: `${message}.${id}`,
    toolCallId: id,
    role: 'tool',
    content: isText ? content : JSON.stringify(content),
    ...(!plain && { metadata: { claude } }),
  }
}

/** The same for a block that brings what a tool gave that Anthropic ran. */
export function blockResultOf({ tool_use_id, content, ...rest }: Block, messageId: string): object {
  // JSON can be read back; a text could be taken for JSON, so it is kept beside itself.
  const isText = typeof content === 'string'
  const claude = isText ? { ...rest, content } : rest
  const text = isText ? content : JSON.stringify(content ?? null)
  return { messageId, toolCallId: tool_use_id, role: 'tool', content: text, metadata: { claude } }
}
