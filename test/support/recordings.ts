import { loadRecordings } from '../../src/simulator/recordings.ts'

/** What a recording says, read without any code of the project. */
export interface Expected {
  readonly text: string
  readonly thinking: string
  readonly tools: { id: string; name: string; input: unknown }[]
  readonly citations: unknown[]
  /** Types of all blocks that are neither text, thinking nor tool calls. */
  readonly otherBlocks: { type: string }[]
  readonly signatures: string[]
  readonly stopReason: string | null
  readonly usage: Record<string, unknown>
  readonly whole: boolean
  readonly errorType: string | undefined
  readonly model: string
}

export const recordings = loadRecordings()

// biome-ignore lint/suspicious/noExplicitAny: the oracle reads raw JSON, unlike the code it judges
type Json = any

export function parseRecording(bytes: Buffer): Json[] {
  return bytes
    .toString('utf8')
    .split('\n')
    .filter((line) => line.startsWith('data:'))
    .map((line) => JSON.parse(line.slice(5)))
}

export function expectedOf(bytes: Buffer): Expected {
  const toolTypes = ['tool_use', 'server_tool_use', 'mcp_tool_use']
  const blocks: Json[] = []
  let text = ''
  let thinking = ''
  const citations: unknown[] = []
  const signatures: string[] = []
  let stopReason: string | null = null
  let usage: Record<string, unknown> = {}
  let whole = false
  let errorType: string | undefined
  let model = ''
  const overwrite = (update: Record<string, unknown>) => {
    for (const [key, value] of Object.entries(update)) if (value !== null && value !== undefined) usage[key] = value
  }
  for (const event of parseRecording(bytes)) {
    if (event.type === 'message_start') {
      usage = {}
      overwrite(event.message.usage)
      model = event.message.model
    }
    if (event.type === 'content_block_start') blocks[event.index] = { ...event.content_block, json: '' }
    if (event.type === 'content_block_delta') {
      const { delta } = event
      if (delta.type === 'text_delta') text += delta.text
      if (delta.type === 'thinking_delta') thinking += delta.thinking
      if (delta.type === 'input_json_delta') blocks[event.index].json += delta.partial_json
      if (delta.type === 'citations_delta') citations.push(delta.citation)
      if (delta.type === 'signature_delta') signatures.push(delta.signature)
    }
    if (event.type === 'message_delta') {
      stopReason = event.delta.stop_reason
      overwrite(event.usage)
    }
    if (event.type === 'message_stop') whole = true
    if (event.type === 'error') errorType = event.error.type
  }
  const tools = blocks
    .filter((block) => toolTypes.includes(block.type))
    .map(({ id, name, json, input }) => ({ id, name, input: json === '' ? input : JSON.parse(json) }))
  const otherBlocks = blocks
    .filter((block) => !['text', 'thinking', ...toolTypes].includes(block.type))
    .map(({ json: _, ...block }) => block)
  return { text, thinking, tools, citations, otherBlocks, signatures, stopReason, usage, whole, errorType, model }
}
