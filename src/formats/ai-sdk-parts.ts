import { applyOtherDelta, type OpenBlock, openBlock, toolInput } from '../core/blocks.ts'
import { type ClaudeEvent, toolBlockTypes } from '../core/events.ts'
import { opening } from '../core/sse.ts'

export interface Chunk {
  readonly type: string
  readonly [field: string]: unknown
}

/** A content block on its way, as a part of the UI's message. */
export interface Part {
  readonly kind: 'text' | 'reasoning' | 'tool' | 'whole'
  /** Names the part in chunks; tool calls go by Claude's own id. */
  readonly id: string
  /** What comes before the payload of its deltas, which is put there as it came. */
  readonly opening: string
  readonly open: OpenBlock
}

export interface State {
  stream: string
  model: string | null
  inStep: boolean
  /** Parts begun so far. */
  count: number
  /** Those that have not ended, by the index of their block. */
  readonly parts: Map<number, Part>
  /** Ids of the tool calls told: a client fails at the result of any other. */
  readonly calls: Set<string>
  /** Those of them that somebody said no to, which is all that is told of their results. */
  readonly denied: Set<string>
  /** What has been told as a source, and as which. */
  readonly sources: Set<string>
}

type BlockStart = Extract<ClaudeEvent, { type: 'content_block_start' }>

export function beginPart(event: BlockStart, state: State): Chunk[] {
  const open = openBlock(event)
  const { block } = open
  const id = String(state.count++)
  const begin = (part: Omit<Part, 'open'>) => void state.parts.set(event.index, { ...part, open })
  if (block.type === 'text' || block.type === 'thinking') {
    const kind = block.type === 'text' ? 'text' : 'reasoning'
    begin({ kind, id, opening: opening(`{"type":"${kind}-delta","id":"${id}","delta":"`) })
    const text = block[block.type]
    const first = typeof text === 'string' && text !== '' ? [{ type: `${kind}-delta`, id, delta: text }] : []
    return [{ type: `${kind}-start`, id }, ...first]
  }
  if (block.type === 'redacted_thinking') {
    begin({ kind: 'reasoning', id, opening: opening(`{"type":"reasoning-delta","id":"${id}","delta":"`) })
    return [{ type: 'reasoning-start', id, providerMetadata: { anthropic: { redactedData: block['data'] } } }]
  }
  const { id: toolCallId, name: toolName } = block
  if (!toolBlockTypes.has(block.type) || typeof toolCallId !== 'string' || typeof toolName !== 'string') {
    begin({ kind: 'whole', id, opening: '' })
    return []
  }
  const head = `{"type":"tool-input-delta","toolCallId":${JSON.stringify(toolCallId)},"inputTextDelta":"`
  begin({ kind: 'tool', id: toolCallId, opening: opening(head) })
  state.calls.add(toolCallId)
  return [{ type: 'tool-input-start', toolCallId, toolName, ...whoRuns(block.type) }]
}

/** Anthropic runs its own tools, and MCP tools, of which the page cannot have types. */
function whoRuns(blockType: string): { providerExecuted?: true; dynamic?: true } {
  if (blockType === 'tool_use') return {}
  return blockType.startsWith('mcp_') ? { providerExecuted: true, dynamic: true } : { providerExecuted: true }
}

/** @param cutOff when the answer ended before the block did */
export function endPart(index: number, state: State, cutOff?: 'cut off'): Chunk[] {
  const part = state.parts.get(index)
  if (!part) return []
  state.parts.delete(index)
  const { kind, id, open } = part
  if (kind === 'tool') return endTool(part, cutOff)
  if (kind === 'whole') return cutOff ? [] : wholeBlock(open, state)
  const { citations, signature } = open.block
  const anthropic = {
    ...(Array.isArray(citations) && citations.length > 0 && { citations }),
    ...(kind === 'reasoning' && signature ? { signature } : {}),
  }
  const told = Object.keys(anthropic).length > 0
  return [{ type: `${kind}-end`, id, ...(told && { providerMetadata: { anthropic } }) }]
}

function endTool({ id: toolCallId, open }: Part, cutOff: 'cut off' | undefined): Chunk[] {
  const { type, id: _, name: toolName, input: __, ...more } = open.block
  const facts = { toolCallId, toolName, ...whoRuns(type) }
  if (cutOff) return [{ type: 'tool-input-error', ...facts, input: open.inputJson, errorText: 'The call was cut off.' }]
  const read = toolInput(open)
  if ('invalid' in read) {
    return [
      {
        type: 'tool-input-error',
        ...facts,
        input: read.invalid,
        errorText: 'The input of this call is not valid JSON.',
      },
    ]
  }
  // What a later request must give back beside id, name and input.
  const plain = type === 'tool_use' && Object.keys(more).length === 0
  const providerMetadata = { anthropic: { block: { type, ...more } } }
  return [{ type: 'tool-input-available', ...facts, input: read.input, ...(!plain && { providerMetadata }) }]
}

/** Blocks that come whole: results of the tools that Anthropic runs, and whatever Claude will send one day. */
function wholeBlock({ block }: OpenBlock, state: State): Chunk[] {
  const { tool_use_id: toolCallId, content, ...rest } = block
  if (!block.type.endsWith('_tool_result') || typeof toolCallId !== 'string' || !state.calls.has(toolCallId)) {
    return [{ type: 'data-claude-block', data: block }]
  }
  const facts = { toolCallId, ...whoRuns(block.type), providerMetadata: { anthropic: { block: rest } } }
  const errorText = errorOf(block)
  if (errorText !== undefined) {
    const providerMetadata = { anthropic: { block: { ...rest, content } } }
    return [{ type: 'tool-output-error', ...facts, providerMetadata, errorText }]
  }
  const results = Array.isArray(content) ? content : [content]
  return [
    { type: 'tool-output-available', ...facts, output: content },
    ...results.flatMap((each) => source(each, state)),
  ]
}

function errorOf(block: Record<string, unknown>): string | undefined {
  const content = block['content'] as { type?: unknown; error_code?: unknown } | null | undefined
  const code = content?.error_code
  if (typeof code === 'string') return code
  return block['is_error'] === true ? asText(content) : undefined
}

/** The text of a failed tool's answer. */
export function asText(content: unknown): string {
  if (typeof content === 'string') return content
  const blocks: { text?: unknown }[] = Array.isArray(content) ? content : []
  const text = blocks.map((each) => (typeof each?.text === 'string' ? each.text : '')).join('')
  return text || 'The tool failed.'
}

type OtherDelta = Extract<ClaudeEvent, { type: 'content_block_delta' }>

export function otherDelta({ index, delta }: OtherDelta, state: State): Chunk[] {
  const part = state.parts.get(index)
  if (!part) return []
  applyOtherDelta(part.open, delta)
  return delta.type === 'citations_delta' ? source(delta.citation, state) : []
}

/** A search result or a citation as a source, once for each page or document. */
function source(found: unknown, state: State): Chunk[] {
  const { url, source, title, document_title, document_index, type } = (found ?? {}) as Record<string, unknown>
  const link = [url, source].find((each) => typeof each === 'string' && /^https?:/i.test(each))
  const isDocument = typeof document_index === 'number' || type === 'search_result_location'
  if (link === undefined && !isDocument) return []
  const name = [title, document_title, source].find((each) => typeof each === 'string' && each !== '')
  const key = JSON.stringify(link ?? [document_index ?? source, name])
  if (state.sources.has(key)) return []
  state.sources.add(key)
  const sourceId = `${state.stream}-source-${state.sources.size}`
  if (link !== undefined) return [{ type: 'source-url', sourceId, url: link, title: name }]
  const mediaType = type === 'page_location' ? 'application/pdf' : 'text/plain'
  return [
    { type: 'source-document', sourceId, mediaType, title: name ?? `Document ${Number(document_index ?? 0) + 1}` },
  ]
}
