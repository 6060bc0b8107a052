import { useEffect, useState, useSyncExternalStore } from 'react'
import { Chat } from './chat.ts'
import type { ChatOptions, ChatState } from './options.ts'

export { type Block, SluiceClientError, type Usage } from '../client/stream.ts'
export type { ChatMessage, ChatToolCall } from './conversation.ts'
export type { ChatOptions, ChatState } from './options.ts'

export type SluiceChat = ChatState & Pick<Chat, 'send' | 'stop' | 'resume' | 'answerTool'>

/**
 * A conversation with Claude in a component. Of the options, `url`, `id` and `persist` are those of its first rendering:
 * for another conversation give the component another `key`.
 */
export function useSluice(options: ChatOptions): SluiceChat {
  const [chat] = useState(() => new Chat(options))
  useEffect(() => {
    chat.options = options
  })
  useEffect(() => {
    chat.connect()
    return () => chat.disconnect()
  }, [chat])
  const state = useSyncExternalStore(chat.subscribe, chat.snapshot, chat.snapshot)
  const { send, stop, resume, answerTool } = chat
  return { ...state, send, stop, resume, answerTool }
}
