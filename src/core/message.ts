import { applyDelta, applyOtherDelta, type Block, type OpenBlock, openBlock, toolInput } from './blocks.ts'
import { isTerminal, type LogEvent, type TerminalEvent, toolBlockTypes } from './events.ts'
import { addUsage, mergeUsage, noUsage, type Usage } from './usage.ts'

/**
 * Claude's answer as far as a log has it, in the shape of a message of the Messages API. An answer in several steps is
 * one message under the id of the first: the blocks of all of them in their order, the results of the server's tools
 * between them.
 */
export interface Message {
  id: string
  type: 'message'
  role: 'assistant'
  model: string
  content: Block[]
  stop_reason: string | null
  stop_sequence: string | null
  usage: Usage
}

export interface Snapshot {
  /** `null` until Claude has begun. */
  readonly message: Message | null
  readonly terminal: TerminalEvent | undefined
}

/** Folds a log, or the beginning of one, into the message it tells. */
export function snapshot(events: Iterable<LogEvent>): Snapshot {
  let message: Message | null = null
  let terminal: TerminalEvent | undefined
  const open = new Map<number, OpenBlock>()
  /** Of the steps before the one under way. */
  let earlier: Usage | undefined
  for (const event of events) {
    if (isTerminal(event)) terminal = event
    else if (event.type === 'message_start') {
      earlier = message ? total(message, earlier) : undefined
      message = begin(event.message, message)
      open.clear()
    } else if (message) extend(message, open, event)
  }
  if (message) message.usage = total(message, earlier)
  return { message, terminal }
}

function total({ usage }: Message, earlier: Usage | undefined): Usage {
  return earlier ? addUsage(earlier, usage) : usage
}

/** The same for a client that knows nothing of the server's tools: as if none had been called. */
export function clientSnapshot(events: readonly LogEvent[]): Snapshot {
  const { message, terminal } = snapshot(events)
  const [start] = events
  const tools = start?.type === 'start' ? start.tools : undefined
  if (!message || !tools) return { message, terminal }
  const isOwn = ({ type, name }: Block) =>
    type === 'tool_result' || (type === 'tool_use' && tools.includes(String(name)))
  return { message: { ...message, content: message.content.filter((block) => !isOwn(block)) }, terminal }
}

function begin(message: { id: string; model: string; usage: object }, before: Message | null): Message {
  return {
    ...message,
    id: before?.id ?? message.id,
    type: 'message',
    role: 'assistant',
    content: before?.content ?? [],
    stop_reason: null,
    stop_sequence: null,
    usage: mergeUsage(noUsage, message.usage),
  }
}

function extend(message: Message, open: Map<number, OpenBlock>, event: LogEvent): void {
  switch (event.type) {
    case 'content_block_start': {
      const opened = openBlock(event)
      open.set(event.index, opened)
      message.content.push(opened.block)
      break
    }
    case 'delta': {
      const opened = open.get(event.index)
      if (opened) applyDelta(opened, event)
      break
    }
    case 'content_block_delta': {
      const opened = open.get(event.index)
      if (opened) applyOtherDelta(opened, event.delta)
      break
    }
    case 'content_block_stop': {
      const opened = open.get(event.index)
      if (opened && toolBlockTypes.has(opened.block.type)) opened.block['input'] = toolInput(opened).input
      break
    }
    case 'message_delta':
      // Beside the reason: the container, what was cut from the context, and whatever comes to be there.
      Object.assign(message, event.delta, event.context_management && { context_management: event.context_management })
      message.usage = mergeUsage(message.usage, event.usage)
      break
    case 'tool_result': {
      const { id: tool_use_id, type, content, is_error } = event
      message.content.push({ type, tool_use_id, content, is_error })
      break
    }
  }
}
