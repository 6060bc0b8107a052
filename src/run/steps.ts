import type { Block } from '../core/blocks.ts'
import {
  isToolEvent,
  type LogEvent,
  type ToolApprovalEvent,
  type ToolDecisionEvent,
  type ToolEvent,
  type ToolResultEvent,
} from '../core/events.ts'
import { snapshot } from '../core/message.ts'
import { isObject } from '../core/object.ts'
import type { MessageRequest } from '../core/request.ts'
import type { ToolCall } from '../core/tools.ts'
import { isBlank } from './partial.ts'

/** A call of a tool of the server's; without an input that is an object it is not to be run. */
export type ServerCall = Omit<ToolCall, 'input'> & { readonly input: ToolCall['input'] | undefined }

/**
 * How Claude left a message: `end`, it is the last of the answer; `pause`, Claude wants to go on with it; `calls`, it
 * waits for results of the server's tools; `shared`, for some of the client's as well, who asks again with all of them.
 */
export type StepEnd = 'end' | 'pause' | 'calls' | 'shared'

/** One message of Claude's in an answer that can have several, and what came of its calls. */
export interface Step {
  /** Its part of the log. */
  readonly events: readonly LogEvent[]
  /** As Claude wants it back: as it came. */
  readonly content: readonly Block[]
  readonly container: unknown
  /** `undefined` while it is not at its end. */
  readonly end: StepEnd | undefined
  /** Of the server's tools, in Claude's order. */
  readonly calls: readonly ServerCall[]
  readonly results: ReadonlyMap<string, ToolResultEvent>
  readonly approvals: ReadonlyMap<string, ToolApprovalEvent>
  readonly decisions: ReadonlyMap<string, ToolDecisionEvent>
}

/** The steps that a log tells of, the last of which may be under way. */
export function stepsOf(history: readonly LogEvent[]): Step[] {
  const [start] = history
  const tools = start?.type === 'start' ? start.tools : undefined
  const begins = history.flatMap(({ type }, at) => (type === 'message_start' ? [at] : []))
  return begins.map((begin, n) => stepOf(history.slice(begin, begins[n + 1]), tools))
}

function stepOf(events: readonly LogEvent[], tools: readonly string[] | undefined): Step {
  const said = events.filter((event) => !isToolEvent(event))
  const { message } = snapshot(said)
  const blocks = message?.content ?? []
  const called = blocks.filter(({ type }) => type === 'tool_use')
  const calls = called.filter(({ name }) => tools?.includes(String(name))).map(toCall)
  const results = byId(events, 'tool_result')
  return {
    events,
    content: blocks.filter((block) => !isBlank(block)).map((block) => readable(block, said)),
    container: message && (message as { container?: unknown }).container,
    end: events.some(({ type }) => type === 'message_stop')
      ? endOf(tools && message?.stop_reason, calls, called.length > calls.length, results)
      : undefined,
    calls,
    results,
    approvals: byId(events, 'tool_approval'),
    decisions: byId(events, 'tool_decision'),
  }
}

function endOf(
  stopReason: string | null | undefined,
  calls: readonly ServerCall[],
  clientsToo: boolean,
  results: Step['results'],
): StepEnd {
  if (stopReason === 'pause_turn' && !clientsToo) return 'pause'
  // What has calls of the client's goes back with their results alone, however Claude left it.
  if ((stopReason !== 'tool_use' && stopReason !== 'pause_turn') || calls.length === 0) return 'end'
  if (!clientsToo) return 'calls'
  return calls.every(({ id }) => results.has(id)) ? 'end' : 'shared'
}

function toCall({ id, name, input }: Block): ServerCall {
  return { id: String(id), name: String(name), input: isObject(input) ? input : undefined }
}

function byId<T extends ToolEvent['type']>(events: readonly LogEvent[], type: T) {
  type Found = Extract<ToolEvent, { type: T }>
  return new Map(events.filter((event): event is Found => event.type === type).map((event) => [event.id, event]))
}

/**
 * The few things that Claude says in an answer and takes in no request: an input that is no object goes back in the way
 * Claude knows, and citations of documents without the id of the file.
 * @see https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
 */
function readable(block: Block, events: readonly LogEvent[]): Block {
  const { citations } = block
  if (block.type === 'text' && Array.isArray(citations)) return { ...block, citations: citations.map(withoutFile) }
  if (block.type !== 'tool_use' || toCall(block).input) return block
  return { ...block, input: { INVALID_JSON: block['input'] === null ? inputTextOf(block, events) : block['input'] } }
}

function withoutFile(citation: object): object {
  return Object.fromEntries(Object.entries(citation).filter(([field]) => field !== 'file_id'))
}

function inputTextOf({ id }: Block, events: readonly LogEvent[]): string {
  const start = events.find((event) => event.type === 'content_block_start' && Object(event.content_block).id === id)
  const index = start && 'index' in start ? start.index : undefined
  return events
    .map((event) => (event.type === 'delta' && event.kind === 'input_json' && event.index === index ? event.text : ''))
    .join('')
}

/** The request for what follows on steps that are complete. */
export function requestAfter(request: MessageRequest, steps: readonly Step[]): MessageRequest {
  if (steps.length === 0) return request
  const container = steps.map(containerIdOf).findLast((id) => id !== undefined)
  return {
    ...request,
    ...(steps.some(({ results }) => results.size > 0) && freeChoice(request)),
    ...inContainer(request['container'] ?? null, container),
    messages: [...request.messages, ...steps.flatMap(messagesOf)],
  }
}

function messagesOf({ content, calls, results }: Step): object[] {
  const answers = calls.flatMap(({ id }) => results.get(id) ?? []).map(toBlock)
  return [{ role: 'assistant', content }, ...(answers.length > 0 ? [{ role: 'user', content: answers }] : [])]
}

function toBlock({ id, content, is_error }: ToolResultEvent): object {
  const told = is_error ? errorContent(content) : taken(content)
  return { type: 'tool_result', tool_use_id: id, content: told, ...(is_error && { is_error }) }
}

function taken(content: ToolResultEvent['content']): ToolResultEvent['content'] {
  return typeof content === 'string' ? content : content.filter((block) => !isBlank(block as Block))
}

/** Of an error Claude takes text alone, and some of it there has to be. */
function errorContent(content: ToolResultEvent['content']): ToolResultEvent['content'] {
  if (typeof content === 'string') return content.trim() === '' ? silentError : content
  const kept = taken(content) as readonly Block[]
  const texts = kept.map((block) => (block.type === 'text' ? block : leftOut(block)))
  return texts.length > 0 ? texts : silentError
}

const silentError = 'The tool failed, and did not say why.'

function leftOut({ type }: Block): object {
  return { type: 'text', text: `[Left out, as an error can hold text alone: ${type}]` }
}

/** A choice that forces a call holds for the first step: forced in each, Claude could never answer. */
function freeChoice({ tool_choice }: MessageRequest): { tool_choice?: object } {
  const choice = (tool_choice ?? {}) as { type?: unknown; disable_parallel_tool_use?: unknown }
  if (choice.type !== 'any' && choice.type !== 'tool') return {}
  const { disable_parallel_tool_use: alone } = choice
  return { tool_choice: { type: 'auto', ...(alone !== undefined && { disable_parallel_tool_use: alone }) } }
}

/** @param asked may name skills that are to be there, and no container yet */
function inContainer(asked: unknown, id: string | undefined): { container?: unknown } {
  if (id === undefined || typeof asked === 'string') return {}
  const { id: ownId = null, ...skills } = Object(asked)
  if (ownId !== null) return {}
  return { container: asked === null ? id : { ...skills, id } }
}

/** Where Anthropic ran code for the answer: it goes on there. */
function containerIdOf({ container }: Step): string | undefined {
  const id = Object(container).id
  return typeof id === 'string' ? id : undefined
}
