import { z } from 'zod'
import type { Block } from '../core/blocks.ts'
import { type Echo, toolBlockTypes } from '../core/events.ts'
import { type AskedRequest, check, requestReader, type StreamOptions } from '../core/request.ts'
import { isResultType, redactedPrefix } from './ag-ui.ts'
import type { ClaudeResult } from './ag-ui-results.ts'

const source = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('data'), value: z.string(), mimeType: z.string() }),
  z.looseObject({ type: z.literal('url'), value: z.string() }),
  z.looseObject({ type: z.literal('file'), value: z.string() }),
])
const part = z.discriminatedUnion(
  'type',
  [
    z.looseObject({ type: z.literal('text'), text: z.string() }),
    z.looseObject({ type: z.literal('image'), source }),
    z.looseObject({ type: z.literal('document'), source }),
  ],
  'Claude takes parts of type text, image and document',
)
const content = z.union([z.string(), z.array(part)])
const name = z.string().min(1)

const toolCall = z.looseObject({
  id: name,
  function: z.looseObject({ name, arguments: z.string() }),
  metadata: z.unknown().optional(),
})

/** Optional fields may be null here: producers of older versions send that, and it can mean but one thing. */
const message = z.discriminatedUnion('role', [
  z.looseObject({ role: z.literal(['system', 'developer']), content: z.string() }),
  z.looseObject({ role: z.literal('user'), content }),
  z.looseObject({
    role: z.literal('assistant'),
    content: z.string().nullish(),
    toolCalls: z.array(toolCall).nullish(),
  }),
  z.looseObject({
    role: z.literal('tool'),
    toolCallId: name,
    content,
    error: z.string().nullish(),
    metadata: z.unknown().optional(),
  }),
  z.looseObject({ role: z.literal('reasoning'), content: z.string(), encryptedValue: z.string().nullish() }),
  z.looseObject({ role: z.literal('activity') }),
])

const tool = z.looseObject({
  name,
  description: z.string().nullish(),
  parameters: z.looseObject({}).nullish(),
})

/** What `forwardedProps` may say: of the Messages API all that AG-UI has no field for, and two options of Sluice's. */
const forwardable = [
  ...['model', 'max_tokens', 'system', 'tools', 'tool_choice', 'thinking', 'temperature', 'top_p', 'top_k'],
  ...['stop_sequences', 'output_config', 'output_format', 'metadata', 'cache_control', 'container', 'speed'],
  ...['context_management', 'compaction', 'diagnostics', 'inference_geo', 'service_tier', 'mcp_servers'],
  ...['fallbacks', 'fallback_credit_token', 'billing_policy', 'betas', 'user_profile_id', 'workspace_id'],
  ...['preset', 'on_disconnect'],
]
const forwardedProps = z.strictObject(Object.fromEntries(forwardable.map((field) => [field, z.unknown().optional()])))

/** 1.0 takes what it does not know for absent; what it knows must be as it says. */
export const runAgentInput = z.looseObject({
  threadId: z.string().max(1024),
  runId: z.string().max(1024),
  protocolVersion: z.string().nullish(),
  messages: z.array(message).max(100_000),
  tools: z.array(tool).max(10_000).nullish(),
  context: z.array(z.looseObject({ description: z.string(), value: z.string() })).nullish(),
  forwardedProps: forwardedProps.nullish(),
  resume: z.array(z.unknown()).max(0, 'nothing here interrupts a run, so nothing can be resumed').nullish(),
})

type Input = z.output<typeof runAgentInput>
type InputMessage = z.output<typeof message>
type InputPart = z.output<typeof part>
type Of<Role extends InputMessage['role']> = Extract<InputMessage, { role: Role }>

export interface AgUiRequest {
  readonly message: AskedRequest
  readonly echo: Required<Pick<Echo, 'thread_id' | 'run_id'>>
  readonly options: Pick<StreamOptions, 'preset' | 'on_disconnect'>
}

/** The reader of `RunAgentInput`. `state` is the application's own and is not shown to Claude. */
export function agUiReader(): (body: unknown) => AgUiRequest {
  const read = requestReader(['ag-ui'])
  return (body) => {
    const input = check(runAgentInput, body)
    const { system, tools, ...forwarded } = input.forwardedProps ?? {}
    const { message, options } = read.fromBody({
      ...forwarded,
      ...toSystem(input, system),
      ...toTools(input, tools),
      messages: toTurns(input.messages).map(({ role, content }) => ({ role, content })),
    })
    const echo = { thread_id: input.threadId, run_id: input.runId }
    return { message, echo, options }
  }
}

/** Forwarded blocks come first: that is where a prompt cache wants what does not change. */
function toSystem({ messages, context }: Input, forwarded: unknown): { system?: unknown } {
  const texts = messages.flatMap((each) => (each.role === 'system' || each.role === 'developer' ? [each.content] : []))
  const facts = (context ?? []).map(({ description, value }) => `${description}:\n${value}`)
  const all = [...texts, ...facts].filter((text) => text !== '')
  if (forwarded !== undefined && typeof forwarded !== 'string') {
    const blocks = Array.isArray(forwarded) ? forwarded : [forwarded]
    return { system: [...blocks, ...all.map((text) => ({ type: 'text', text }))] }
  }
  const system = [...(forwarded ? [forwarded] : []), ...all].join('\n\n')
  return system === '' ? {} : { system }
}

/** Tools that Anthropic runs have no place in AG-UI's list and come forwarded. */
function toTools({ tools }: Input, forwarded: unknown): { tools?: unknown } {
  const own = (tools ?? []).map(({ name, description, parameters }) => ({
    name,
    ...(description && { description }),
    input_schema: { type: 'object', ...parameters },
  }))
  if (forwarded !== undefined && !Array.isArray(forwarded)) return { tools: forwarded }
  const all = [...own, ...((forwarded as unknown[] | undefined) ?? [])]
  return all.length > 0 ? { tools: all } : {}
}

interface Turn {
  readonly role: 'user' | 'assistant'
  readonly content: string | Block[]
  /** More of the same may join it. */
  readonly of: InputMessage['role']
}

/** Claude's turn is one message; AG-UI has one for each text and each stretch of reasoning in it. */
function toTurns(messages: readonly InputMessage[]): Turn[] {
  const turns: Turn[] = []
  const join = (of: 'assistant' | 'tool', blocks: Block[]) => {
    const last = turns.at(-1)
    if (blocks.length === 0) return
    if (last?.of === of && typeof last.content !== 'string') last.content.push(...blocks)
    else turns.push({ role: of === 'tool' ? 'user' : of, content: blocks, of })
  }
  const answered = new Set(messages.flatMap((each) => (each.role === 'tool' ? [each.toolCallId] : [])))
  const lastQuestion = messages.findLastIndex((each) => each.role === 'user')
  for (const [index, each] of messages.entries()) {
    if (each.role === 'user') turns.push({ role: 'user', content: toContent(each.content), of: 'user' })
    if (each.role === 'reasoning') join('assistant', toThinking(each))
    if (each.role === 'assistant') join('assistant', toAssistant(each, answered, index > lastQuestion))
    if (each.role !== 'tool') continue
    const claude = claudeBlock(each.metadata)
    if (!claude || !isResultType(claude.type)) join('tool', [toToolResult(each)])
    else joinServerResult(turns, toServerResult(each, claude))
  }
  return turns
}

function toThinking({ content, encryptedValue }: Of<'reasoning'>): Block[] {
  // Without its signature Claude refuses it: a stream that was cut, or another model's.
  if (!encryptedValue) return []
  if (!encryptedValue.startsWith(redactedPrefix)) {
    return [{ type: 'thinking', thinking: content, signature: encryptedValue }]
  }
  return [{ type: 'redacted_thinking', data: encryptedValue.slice(redactedPrefix.length) }]
}

/** @param open nobody has asked anything since, so that tools of Anthropic's may still be at work */
function toAssistant({ content, toolCalls }: Of<'assistant'>, answered: ReadonlySet<string>, open: boolean): Block[] {
  // A message of blanks alone is one of Claude's own, which Claude does not take back.
  const text = content?.trim() ? [{ type: 'text', text: content }] : []
  const calls = (toolCalls ?? []).flatMap(({ id, function: call, metadata }) => {
    const claude = claudeBlock(metadata)
    const { type, ...rest } = claude && toolBlockTypes.has(claude.type) ? claude : { type: 'tool_use' }
    const input = call.arguments === '' ? {} : parseJson(call.arguments)
    // A call that a failed run left behind would keep the conversation from ever going on.
    const unfinished = input === undefined || (type !== 'tool_use' && !open)
    if (unfinished && !answered.has(id)) return []
    return [{ type, id, name: call.name, input, ...rest }]
  })
  return [...text, ...calls]
}

function toToolResult({ toolCallId, content, error, metadata }: Of<'tool'>): Block {
  const claude = claudeBlock(metadata) as Partial<ClaudeResult> | undefined
  const told = claude?.content ?? (content === '' && error ? error : toContent(content))
  const failed = error || claude?.is_error
  return { type: 'tool_result', tool_use_id: toolCallId, content: told, ...(failed && { is_error: true }) }
}

/** What a tool at Anthropic gave is part of Claude's own turn. */
function joinServerResult(turns: Turn[], block: Block): void {
  const own = turns.findLast((turn) => turn.of === 'assistant')
  if (own && typeof own.content !== 'string') own.content.push(block)
  else turns.push({ role: 'assistant', content: [block], of: 'assistant' })
}

function toServerResult({ toolCallId, content }: Of<'tool'>, { type, ...rest }: Block): Block {
  const told = typeof content === 'string' ? (parseJson(content) ?? content) : toContent(content)
  return { type, tool_use_id: toolCallId, content: told, ...rest }
}

function toContent(content: string | InputPart[]): string | Block[] {
  return typeof content === 'string' ? content : content.map(toBlock)
}

function toBlock(each: InputPart): Block {
  if (each.type === 'text') return { type: 'text', text: each.text }
  const { type, source } = each
  if (source.type === 'url') return { type, source: { type: 'url', url: source.value } }
  if (source.type === 'file') return { type, source: { type: 'file', file_id: source.value } }
  const media_type = source.mimeType
  if (type === 'image' || !media_type.startsWith('text/')) {
    return { type, source: { type: 'base64', media_type, data: source.value } }
  }
  const data = Buffer.from(source.value, 'base64').toString('utf8')
  return { type, source: { type: 'text', media_type: 'text/plain', data } }
}

/** What `ag-ui.ts` put beside a call or a result. */
function claudeBlock(metadata: unknown): Block | undefined {
  const claude = (metadata as { claude?: Partial<Block> } | null | undefined)?.claude
  return typeof claude?.type === 'string' ? (claude as Block) : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
