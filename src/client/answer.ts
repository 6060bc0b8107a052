import type { Block } from '../core/blocks.ts'
import type { Frame } from '../core/frames.ts'
import type { Message } from '../core/message.ts'
import type { Usage } from '../core/usage.ts'

export type { Block, Message }

/** A turn of a conversation, as the Messages API has it. */
export interface Turn {
  role: 'user' | 'assistant'
  content: string | Block[]
}

/** A tool call as a page shows it. */
export interface ToolCall {
  readonly id: string
  readonly name: string
  /** Anthropic runs it. */
  readonly server: boolean
  /** `undefined` until the call is whole. */
  readonly input: unknown
  /** The input as it came, when it is no JSON: do not run the tool. */
  readonly invalid?: string
}

type Written = Extract<Frame, { type: 'text' | 'thinking' }>

/** Puts the frames of one stream together again. */
export class Answer {
  /** What the stream adds to the conversation: one assistant turn, or more with results between them. */
  readonly turns: Turn[] = []
  readonly toolCalls = new Map<string, ToolCall>()
  /** All text of all turns. */
  text = ''
  thinking = ''
  /** The last message, or what there is of it. */
  message: Message | undefined
  /** By their numbers, which begin anew with each message. */
  #blocks = new Map<number, Block>()

  add(frame: Frame): void {
    switch (frame.type) {
      case 'message':
        this.#begin(frame)
        break
      case 'text':
      case 'thinking':
        this.#write(frame)
        break
      case 'citation': {
        const block = this.#block(frame.block, 'text')
        block['citations'] = [...((block['citations'] as unknown[] | undefined) ?? []), frame.citation]
        break
      }
      case 'tool_start':
        this.toolCalls.set(frame.id, { id: frame.id, name: frame.name, server: frame.server, input: undefined })
        this.#start(frame)
        break
      case 'tool_call':
        this.#call(frame)
        break
      case 'block':
        this.#addBlock(frame.block, frame.content_block)
        break
      case 'done':
        if (this.message) Object.assign(this.message, endOf(frame))
        break
      default:
        this.#addOther(frame)
    }
  }

  /** A server may put results of tools that it ran itself between two messages. */
  #addOther(frame: { readonly type: string }): void {
    if (frame.type !== 'tool_result') return
    const { id, content, is_error } = frame as { id?: unknown; content?: unknown; is_error?: unknown }
    const result = { type: 'tool_result', tool_use_id: id, content, ...(is_error === true && { is_error }) }
    const last = this.turns.at(-1)
    if (last?.role === 'user') (last.content as Block[]).push(result)
    else this.turns.push({ role: 'user', content: [result] })
  }

  #begin({ id, model, usage }: { id: string; model: string; usage: object }): void {
    const content: Block[] = []
    this.#blocks = new Map()
    this.turns.push({ role: 'assistant', content })
    this.message = {
      id,
      type: 'message',
      role: 'assistant',
      model,
      content,
      stop_reason: null,
      stop_sequence: null,
      usage: { input_tokens: 0, output_tokens: 0, ...usage },
    }
  }

  #write({ type, block: index, text }: Written): void {
    const block = this.#block(index, type)
    block[type] = `${block[type] ?? ''}${text}`
    if (type === 'text') this.text += text
    else this.thinking += text
  }

  #start({ block: index, type: _, id, name, server, ...more }: Extract<Frame, { type: 'tool_start' }>): void {
    const type = server ? ('server_name' in more ? 'mcp_tool_use' : 'server_tool_use') : 'tool_use'
    // It joins the message when its input is whole: half a call cannot be given back to Claude.
    this.#blocks.set(index, { type, id, name, input: {}, ...more })
  }

  #call({ type: _, block: index, ...call }: Extract<Frame, { type: 'tool_call' }>): void {
    const block = this.#blocks.get(index)
    const { server = false } = this.toolCalls.get(call.id) ?? {}
    const { id, name, input, invalid } = call
    this.toolCalls.set(id, { id, name, server, input, ...(invalid !== undefined && { invalid }) })
    if (!block) return
    // Claude takes nothing but an object back.
    if (typeof input === 'object' && input !== null) block['input'] = input
    this.message?.content.push(block)
  }

  #addBlock(index: number, content: Block): void {
    const known = this.#blocks.get(index)
    // The end of a thinking block brings its signature: its text has come in pieces.
    if (known && content.type === 'thinking') known['signature'] = content['signature']
    else this.#open(index, { ...content })
  }

  #block(index: number, type: 'text' | 'thinking'): Block {
    return this.#blocks.get(index) ?? this.#open(index, { type, [type]: '' })
  }

  #open(index: number, block: Block): Block {
    this.#blocks.set(index, block)
    this.message?.content.push(block)
    return block
  }
}

function endOf({ stop_reason, stop_sequence, usage }: Extract<Frame, { type: 'done' }>): Partial<Message> {
  return { stop_reason, stop_sequence: stop_sequence ?? null, usage: usage as Usage }
}
