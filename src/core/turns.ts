import type { Block } from './blocks.ts'
import { isObject } from './object.ts'

/** What the messages of a request may hold beside what is said. */
export interface OpenDoors {
  /** Turns of the role `system`, which Claude obeys as it does the system prompt. */
  readonly system: boolean
  /** Blocks that give Claude tools in the middle of a conversation. */
  readonly tools: boolean
}

/** What people, Claude and tools say to each other. Whatever else there is or will be may be an instruction or a tool. */
const spoken = new Set([
  ...['text', 'image', 'document', 'search_result', 'thinking', 'redacted_thinking', 'fallback', 'container_upload'],
  ...['tool_use', 'tool_result', 'tool_reference', 'server_tool_use', 'mcp_tool_use', 'mcp_tool_result'],
  ...['web_search_tool_result', 'web_fetch_tool_result', 'tool_search_tool_result', 'advisor_tool_result'],
  ...['code_execution_tool_result', 'bash_code_execution_tool_result', 'text_editor_code_execution_tool_result'],
])

const roles: ReadonlySet<unknown> = new Set(['user', 'assistant'])

/** Where the first part of `messages` stands that is behind a door which is not open; `undefined` when there is none. */
export function firstForeign(messages: readonly unknown[], doors: OpenDoors): string | undefined {
  for (const [index, message] of messages.entries()) {
    const path = `messages.${index}`
    if (!isObject(message)) return path
    const { role, content, ...others } = message
    if (!roles.has(role) && !(doors.system && role === 'system')) return `${path}.role`
    if (Object.keys(others).length > 0) return `${path}.${Object.keys(others)[0]}`
    if (typeof content === 'string') continue
    const foreign = foreignBlock(content, `${path}.content`, doors)
    if (foreign !== undefined) return foreign
  }
  return undefined
}

function foreignBlock(content: unknown, path: string, doors: OpenDoors): string | undefined {
  if (!Array.isArray(content)) return path
  for (const [index, block] of content.entries()) {
    const place = `${path}.${index}`
    if (!isObject(block)) return place
    const { type } = block
    const isOpen = typeof type === 'string' && (spoken.has(type) || (doors.system && doors.tools))
    if (!isOpen && !(doors.tools && (type === 'tool_addition' || type === 'tool_removal'))) return `${place}.type`
    const inner = innerBlocks(block)
    const foreign = inner && foreignBlock(inner, `${place}.content`, doors)
    if (foreign !== undefined) return foreign
  }
  return undefined
}

/** All blocks, however deep within others they are; what Claude has given to a tool is none. */
export function* blocksIn(value: unknown): Generator<Block> {
  if (Array.isArray(value)) for (const each of value) yield* blocksIn(each)
  if (!isObject(value)) return
  if (typeof value['type'] === 'string') yield value as Block
  for (const [field, each] of Object.entries(value)) if (field !== 'input') yield* blocksIn(each)
}

/** What a client may put into a block: a tool's result, and a document in pieces. */
function innerBlocks(block: Record<string, unknown>): unknown[] | undefined {
  const { content, source } = block
  if (block['type'] === 'tool_result' || block['type'] === 'mcp_tool_result') return listOf(content)
  return isObject(source) ? listOf(source['content']) : undefined
}

function listOf(value: unknown): unknown[] | undefined {
  return Array.isArray(value) ? value : undefined
}
