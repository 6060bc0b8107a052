import { applyDelta, applyOtherDelta, type OpenBlock, openBlock, toolInput } from '../core/blocks.ts'
import { type Delta, perBlock } from '../core/delta.ts'
import { type ClaudeEvent, isTerminal, type LogEvent, toolBlockTypes } from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { closing, comment, type Frames, opening } from '../core/sse.ts'

/** The version of the frames below; it changes when a client that knew the last one would break. */
const formatVersion = 1

/** The default format: one JSON object a frame, told apart by `type`. */
export const json: Format = {
  name: 'json',
  headers: {},
  heartbeat: comment('heartbeat'),
  smoothable: true,
  reconnects: true,
  encoder,
}

function encoder(): Encoder {
  const blocks: Blocks = new Map()
  return (event, out) => {
    if (event.type === 'delta') return writeDelta(event, blocks, out)
    const frame = toFrame(event, blocks)
    if (frame) out.data(JSON.stringify(frame))
    if (isTerminal(event)) out.end('with [DONE]')
  }
}

const deltaOpening = perBlock((kind, index) => opening(`{"type":"${kind}","block":${index},"text":"`))
const deltaClosing = closing('"}')

/** The one hot path: the payload goes from Claude's JSON into ours as it is. */
function writeDelta(delta: Delta, blocks: Blocks, out: Frames): void {
  const { kind, index, escaped } = delta
  if (escaped === '') return
  if (kind === 'input_json') {
    const open = blocks.get(index)
    if (open) applyDelta(open, delta)
    const id = JSON.stringify(open?.block['id'] ?? null)
    out.data(`{"type":"tool_delta","block":${index},"id":${id},"json":"${escaped}"}`)
  } else {
    out.spliced(deltaOpening(kind, index), escaped, deltaClosing)
  }
}

type Blocks = Map<number, OpenBlock>

function toFrame(event: Exclude<LogEvent, Delta>, blocks: Blocks): object | undefined {
  switch (event.type) {
    case 'start':
      return { type: 'start', stream: event.stream, model: event.model, format_version: formatVersion }
    case 'message_start': {
      const { id, model, usage } = event.message
      return { type: 'message', id, model, usage }
    }
    case 'content_block_start':
      return startFrame(event, blocks)
    case 'content_block_delta':
      return otherDeltaFrame(event, blocks)
    case 'content_block_stop':
      return stopFrame(event.index, blocks)
    case 'message_delta':
    case 'message_stop':
      // What they say is told once, by the terminal frame.
      return undefined
    case 'unknown':
      return { type: 'event', event: event.event }
    default:
      return event
  }
}

function startFrame(event: Extract<ClaudeEvent, { type: 'content_block_start' }>, blocks: Blocks): object | undefined {
  const { index } = event
  const open = openBlock(event)
  blocks.set(index, open)
  const { type, id, name, input: _, ...rest } = open.block
  if (toolBlockTypes.has(type)) {
    return { type: 'tool_start', block: index, id, name, server: type !== 'tool_use', ...rest }
  }
  if (type === 'text') return textFrame('text', index, open.block['text'])
  if (type === 'thinking') return textFrame('thinking', index, open.block['thinking'])
  return undefined
}

function textFrame(type: 'text' | 'thinking', block: number, text: unknown): object | undefined {
  return typeof text === 'string' && text !== '' ? { type, block, text } : undefined
}

type OtherDeltaEvent = Extract<ClaudeEvent, { type: 'content_block_delta' }>

function otherDeltaFrame({ index, delta }: OtherDeltaEvent, blocks: Blocks): object | undefined {
  if (delta.type === 'citations_delta') return { type: 'citation', block: index, citation: delta.citation }
  const open = blocks.get(index)
  if (!open) return undefined
  const toldInPieces = ['text', 'thinking', ...toolBlockTypes].includes(open.block.type)
  if (toldInPieces && delta.type !== 'signature_delta') {
    return { type: 'event', event: { type: 'content_block_delta', index, delta } }
  }
  applyOtherDelta(open, delta)
  return undefined
}

function stopFrame(index: number, blocks: Blocks): object | undefined {
  const open = blocks.get(index)
  if (!open) return undefined
  blocks.delete(index)
  const { block } = open
  if (block.type === 'text') return undefined
  if (toolBlockTypes.has(block.type)) {
    return { type: 'tool_call', block: index, id: block['id'], name: block['name'], ...toolInput(open) }
  }
  // Thinking has been told by its deltas; its signature has not, and a tool turn must give it back.
  if (block.type === 'thinking' && !block['signature']) return undefined
  const content = block.type === 'thinking' ? { ...block, thinking: '' } : block
  return { type: 'block', block: index, content_block: content }
}
