import { applyDelta, applyOtherDelta, type Block, type OpenBlock, openBlock, toolInput } from './blocks.ts'
import { isTerminal, type LogEvent, type TerminalEvent, toolBlockTypes } from './events.ts'
import { mergeUsage, noUsage, type Usage } from './usage.ts'

/** Claude's message as far as a log has it, in the shape of the Messages API. */
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
  for (const event of events) {
    if (isTerminal(event)) terminal = event
    else if (event.type === 'message_start') message = begin(event.message)
    else if (message) extend(message, open, event)
  }
  return { message, terminal }
}

function begin(message: { id: string; model: string; usage: object }): Message {
  return {
    ...message,
    type: 'message',
    role: 'assistant',
    content: [],
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
  }
}
