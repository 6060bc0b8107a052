import { z } from 'zod'
import { check, type ParsedRequest } from '../core/request.ts'
import { type Block, fileBlock, filePart, reject } from './ai-sdk-files.ts'
import { anthropicOf, clientTool, type Place, providerTool } from './ai-sdk-tools.ts'

/** What `useChat` asks for. */
export interface ChatRequest extends ParsedRequest {
  readonly chatId: string | undefined
  /** The id of the assistant's message that the answer belongs to, when it goes on with one after a tool's result. */
  readonly continues: string | undefined
}

const text = z.string().min(1)
const metadata = z.record(z.string(), z.unknown()).nullish()

/** Parts that say something to Claude; those of other types are for the page alone or unknown. */
const partShapes: Record<string, z.ZodType> = {
  text: z.looseObject({ text: z.string() }),
  reasoning: z.looseObject({ text: z.string(), providerMetadata: metadata }),
  file: filePart,
  tool: z.looseObject({ toolCallId: text, state: text, errorText: z.string().nullish() }),
  'dynamic-tool': z.looseObject({ toolCallId: text, toolName: text, state: text, errorText: z.string().nullish() }),
  'steering-message': z.looseObject({ parts: z.lazy(() => parts) }),
}

const forThePageOnly = new Set(['source-url', 'source-document', 'step-start', 'custom', 'reasoning-file'])

function shapeName(type: string): string {
  return type.startsWith('tool-') ? 'tool' : type
}

const part = z.looseObject({ type: text }).superRefine((value, context) => {
  const name = shapeName(value.type)
  if (forThePageOnly.has(name) || name.startsWith('data-')) return
  const shape = Object.hasOwn(partShapes, name) ? partShapes[name] : undefined
  if (!shape) context.addIssue({ code: 'custom', path: ['type'], message: 'is no type of part that is known here' })
  for (const issue of shape?.safeParse(value).error?.issues ?? []) {
    context.addIssue({ code: 'custom', path: issue.path, message: issue.message })
  }
})
const parts = z.array(part).max(100_000)

export const chatBody = z.looseObject({
  // As long as Fastify lets a parameter of a path be, which it is when the stream is resumed.
  id: text.max(100).optional(),
  messages: z
    .array(z.looseObject({ id: z.string().optional(), role: z.enum(['system', 'user', 'assistant']), parts }))
    .min(1)
    .max(100_000),
  trigger: z.enum(['submit-message', 'regenerate-message']).optional(),
  messageId: z.string().nullish(),
})

type ChatBody = z.output<typeof chatBody>
type Part = z.output<typeof part>

interface Turn {
  readonly role: 'user' | 'assistant'
  readonly content: Block[]
}

/** Whether a body is one of `useChat` rather than of the Messages API. */
export function isChatBody(body: unknown): boolean {
  const messages = (body as { messages?: unknown } | null | undefined)?.messages
  return (
    Array.isArray(messages) && messages.some((each) => typeof each === 'object' && each !== null && 'parts' in each)
  )
}

/** Fields of our own bodies that have no meaning beside `messages[].parts`. */
const notHere = ['prompt', 'format', 'progress']

/**
 * The reader of what `DefaultChatTransport` sends; extra fields are those of the Messages API.
 * @see https://github.com/vercel/ai/blob/main/packages/ai/src/ui/http-chat-transport.ts
 * @param fromBody the reader of our own bodies
 */
export function chatReader(fromBody: (body: unknown) => ParsedRequest): (body: unknown) => ChatRequest {
  return (input) => {
    const body = check(chatBody, input)
    const { id, messages, trigger: _, messageId: __, ...fields } = body
    const foreign = notHere.find((name) => Object.hasOwn(fields, name))
    if (foreign) reject(foreign, 'is not known in a useChat body')
    const turns = toTurns(messages)
    if (turns.length === 0) reject('messages', 'say nothing to Claude')
    const system = systemOf(messages, fields['system'])
    return {
      ...fromBody({ ...fields, ...(system !== undefined && { system }), messages: turns }),
      chatId: id,
      continues: continuedMessage(body),
    }
  }
}

/** The same choice as the client's own, which fills this message with what comes. */
function continuedMessage({ messages, trigger, messageId }: ChatBody): string | undefined {
  if (trigger === 'regenerate-message') return undefined
  const named = messageId ? messages.find(({ id }) => id === messageId) : undefined
  const target = named ?? messages.at(-1)
  return target?.role === 'assistant' ? target.id || undefined : undefined
}

function systemOf(messages: ChatBody['messages'], field: unknown): unknown {
  const blocks = messages
    .filter(({ role }) => role === 'system')
    .flatMap((message) => message.parts.filter(isToldText))
    .map((each) => ({ type: 'text', text: each['text'] }))
  if (blocks.length === 0) return field
  return [
    ...(typeof field === 'string' ? [{ type: 'text', text: field }] : Array.isArray(field) ? field : []),
    ...blocks,
  ]
}

/** Claude refuses text without any word in it. */
function isToldText(each: Part): boolean {
  return each.type === 'text' && String(each['text']).trim() !== ''
}

function toTurns(messages: ChatBody['messages']): Turn[] {
  const turns: Turn[] = []
  const lastQuestion = messages.findLastIndex(({ role }) => role === 'user')
  for (const [index, message] of messages.entries()) {
    const path = `messages.${index}.parts`
    if (message.role === 'user') add(turns, 'user', userBlocks(message.parts, path))
    if (message.role === 'assistant') addAnswer(turns, message.parts, { path, superseded: index < lastQuestion })
  }
  return turns
}

/** Claude writes blocks of nothing but blanks, between citations, which it does not take back: they join the one before. */
function addText(turns: Turn[], text: string): void {
  const last = turns.at(-1)
  const before = last?.role === 'assistant' ? last.content.at(-1) : undefined
  if (text.trim() !== '') add(turns, 'assistant', [{ type: 'text', text }])
  else if (before?.type === 'text') last?.content.splice(-1, 1, { ...before, text: `${before['text']}${text}` })
}

/** Claude wants turns to alternate. */
function add(turns: Turn[], role: Turn['role'], blocks: readonly Block[]): void {
  if (blocks.length === 0) return
  const last = turns.at(-1)
  if (last?.role === role) last.content.push(...blocks)
  else turns.push({ role, content: [...blocks] })
}

function userBlocks(parts: readonly Part[], path: string): Block[] {
  return parts.flatMap((each, index) => {
    if (isToldText(each)) return [{ type: 'text', text: each['text'] }]
    return each.type === 'file' ? [fileBlock(each, `${path}.${index}`)] : []
  })
}

/** One message of the UI's may hold several of Claude's turns: the results of a step's tools stand between them. */
function addAnswer(turns: Turn[], parts: readonly Part[], { path, superseded }: Place): void {
  let results: Block[] = []
  const endStep = () => {
    add(turns, 'user', results)
    results = []
  }
  for (const [index, each] of parts.entries()) {
    const place = { path: `${path}.${index}`, superseded }
    if (each.type === 'step-start') endStep()
    if (each.type === 'steering-message') {
      endStep()
      add(turns, 'user', userBlocks(each['parts'] as Part[], `${place.path}.parts`))
    }
    if (each.type === 'text') addText(turns, String(each['text']))
    if (each.type === 'reasoning') add(turns, 'assistant', thinkingBlocks(each))
    if (each.type === 'file') reject(place.path, 'Claude takes files from the user only')
    if (each.type !== 'dynamic-tool' && !each.type.startsWith('tool-')) continue
    const { call, result } = each['providerExecuted'] ? providerTool(each) : clientTool(each, place)
    add(turns, 'assistant', call)
    results.push(...result)
  }
  endStep()
}

/** Claude takes its thinking back only as it was, which its signature proves. */
function thinkingBlocks(reasoning: Part): Block[] {
  const { signature, redactedData } = anthropicOf(reasoning['providerMetadata'])
  if (typeof redactedData === 'string') return [{ type: 'redacted_thinking', data: redactedData }]
  if (typeof signature !== 'string' || signature === '') return []
  return [{ type: 'thinking', thinking: reasoning['text'], signature }]
}
