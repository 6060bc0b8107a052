import type { ClientOptions, SluiceClientError, Usage } from '../client/stream.ts'
import type { ChatMessage, ChatToolCall } from './conversation.ts'

export interface ChatOptions extends Omit<ClientOptions, 'signal'> {
  /** Of `/stream`, whatever stands before it. */
  readonly url: string
  /** The name of a preset of the server. */
  readonly preset?: string
  /** Other fields of each question: `model`, `system`, `tools` and so on. */
  readonly body?: Readonly<Record<string, unknown>>
  /** A stream that is there already, to be shown from its beginning. */
  readonly id?: string
  /** Keeps the conversation in this tab under that name, and an answer that is under way goes on after a reload. */
  readonly persist?: string
}

export interface ChatState {
  readonly messages: readonly ChatMessage[]
  /** `submitted` until something of the answer comes. */
  readonly status: 'ready' | 'submitted' | 'streaming' | 'error'
  /** Of the last answer, as `thinking`, `toolCalls` and `usage` are. */
  readonly text: string
  readonly thinking: string
  readonly toolCalls: readonly ChatToolCall[]
  readonly usage: Usage | undefined
  readonly error: SluiceClientError | undefined
  /** The stream of the last answer. */
  readonly streamId: string | undefined
}
