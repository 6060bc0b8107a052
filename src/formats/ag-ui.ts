import { applyDelta, applyOtherDelta, type OpenBlock, openBlock, toolInput } from '../core/blocks.ts'
import { type Delta, type DeltaKind, escapeJson } from '../core/delta.ts'
import {
  type ClaudeEvent,
  type LogEvent,
  type RecoveryEvent,
  type TerminalEvent,
  type ToolEvent,
  toolBlockTypes,
} from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { closing, comment, type Frames, opening } from '../core/sse.ts'
import { blockResultOf, resultOf } from './ag-ui-results.ts'
import { tokenUsage } from './ag-ui-usage.ts'

/**
 * AG-UI 1.0, for its `HttpAgent`. What Claude wants back on a later turn and AG-UI has no field for travels in the
 * `metadata` and `encryptedValue` of messages, which clients keep and return; `ag-ui-request.ts` reads it there.
 * @see https://docs.ag-ui.com/concepts/events
 */
export const agUi: Format = { name: 'ag-ui', headers: {}, heartbeat: comment('heartbeat'), encoder }

/** Before the data of a redacted thinking block; signatures are base64, which has no colon. */
export const redactedPrefix = 'redacted_thinking:'

/** Types of blocks that bring what a tool gave that Anthropic ran. */
export const isResultType = (type: string): boolean => type.endsWith('_tool_result')

/** A block between its start and its stop. */
interface Part extends OpenBlock {
  /** Of the AG-UI message or tool call. */
  readonly id: string
  /** The deltas that are passed on one by one, and how the event for each begins. */
  readonly kind: DeltaKind | undefined
  readonly opening: string
}

interface State {
  readonly parts: Map<number, Part>
  /** Tool calls that are the client's to answer. */
  readonly pending: Set<string>
  readonly ids: { threadId: string; runId: string }
  message: string
  model: string
  /** The message that the next tool call belongs to: it must not move ahead of thinking or results before it. */
  parent: string | undefined
}

function encoder(): Encoder {
  const ids = { threadId: '', runId: '' }
  const state: State = { parts: new Map(), pending: new Set(), ids, message: '', model: '', parent: undefined }
  return (event, out) => (event.type === 'delta' ? writeDelta(event, state, out) : write(event, state, out))
}

/** The one hot path: the payload goes from Claude's JSON into ours as it is. */
function writeDelta(delta: Delta, { parts }: State, out: Frames): void {
  const part = parts.get(delta.index)
  if (!part || delta.escaped === '') return
  if (part.kind === undefined || part.kind === 'input_json') applyDelta(part, delta)
  if (part.kind === delta.kind) out.spliced(part.opening, delta.escaped, deltaClosing)
}

function write(event: Exclude<LogEvent, Delta>, state: State, out: Frames): void {
  switch (event.type) {
    case 'start':
      start(event, state, out)
      break
    case 'message_start':
      closeAll(state, out)
      state.message = event.message.id || state.message
      state.model = event.message.model
      state.parent = undefined
      break
    case 'content_block_start':
      startBlock(event, state, out)
      break
    case 'content_block_delta':
      otherDelta(event, state, out)
      break
    case 'content_block_stop':
      stopBlock(event.index, state, out)
      break
    case 'unknown':
      custom('claude.event', event.event, out)
      break
    case 'recovery':
      recovery(event, out)
      break
    case 'tool_result':
      state.pending.delete(event.id)
      state.parent = undefined
      tell('TOOL_CALL_RESULT', resultOf(event, state.message), out)
      break
    case 'tool_approval':
    case 'tool_decision':
    case 'tool_progress':
      tellOfTool(event, out)
      break
    case 'done':
    case 'error':
    case 'cancelled':
      end(event, state, out)
  }
}

const tell = (type: string, fields: object, out: Frames) => out.data(JSON.stringify({ type, ...fields }))
const custom = (name: string, value: unknown, out: Frames) => tell('CUSTOM', { name, value }, out)

const recovery = ({ type: _, ...value }: RecoveryEvent, out: Frames) => custom('sluice.recovery', value, out)

const tellOfTool = ({ type, ...value }: ToolEvent, out: Frames) => custom(`sluice.${type}`, value, out)

/** A stream that was opened in another format is a thread and a run of its own. */
function start({ stream, echo, model }: Extract<LogEvent, { type: 'start' }>, state: State, out: Frames): void {
  state.ids.threadId = echo.thread_id ?? stream
  state.ids.runId = echo.run_id ?? stream
  state.message = stream
  state.model = model
  tell('RUN_STARTED', { ...state.ids, protocolVersion: '1.0', metadata: { stream } }, out)
}

type BlockStart = Extract<ClaudeEvent, { type: 'content_block_start' }>

function startBlock(event: BlockStart, state: State, out: Frames): void {
  stopBlock(event.index, state, out)
  const open = openBlock(event)
  const { type } = open.block
  const id = `${state.message}.${event.index}`
  let part: Part = { ...open, id, kind: undefined, opening: '' }
  if (type === 'text') {
    state.parent = id
    part = { ...part, kind: 'text', opening: openingOf('TEXT_MESSAGE_CONTENT', 'messageId', id) }
    tell('TEXT_MESSAGE_START', { messageId: id, role: 'assistant' }, out)
    sayFirst(part, out)
  } else if (type === 'thinking') {
    state.parent = undefined
    part = { ...part, kind: 'thinking', opening: openingOf('REASONING_MESSAGE_CONTENT', 'messageId', id) }
    openReasoning(id, out)
    sayFirst(part, out)
  } else if (toolBlockTypes.has(type)) {
    state.parent ??= id
    part = startCall(part, state.parent, state, out)
  }
  state.parts.set(event.index, part)
}

function startCall(part: Part, parentMessageId: string, { parts }: State, out: Frames): Part {
  const { id: callId, name, input: _, ...rest } = part.block
  // The client gives a whole stream up over an id that is open twice.
  const taken = typeof callId !== 'string' || [...parts.values()].some(({ id }) => id === callId)
  const toolCallId = taken ? part.id : callId
  const plain = rest.type === 'tool_use' && Object.keys(rest).length === 1
  const call = { toolCallId, toolCallName: String(name ?? ''), parentMessageId }
  tell('TOOL_CALL_START', { ...call, ...(!plain && { metadata: { claude: rest } }) }, out)
  return { ...part, id: toolCallId, kind: 'input_json', opening: openingOf('TOOL_CALL_ARGS', 'toolCallId', toolCallId) }
}

const deltaClosing = closing('"}')

function openingOf(type: string, field: string, id: string): string {
  return opening(`{"type":"${type}","${field}":${JSON.stringify(id)},"delta":"`)
}

/** What came with the start of its block. */
function sayFirst({ opening, block, kind = 'text' }: Part, out: Frames): void {
  const text = block[kind]
  if (typeof text === 'string' && text !== '') out.spliced(opening, escapeJson(text), deltaClosing)
}

function openReasoning(messageId: string, out: Frames): void {
  tell('REASONING_START', { messageId }, out)
  tell('REASONING_MESSAGE_START', { messageId, role: 'reasoning' }, out)
}

/** The encrypted value goes to the message, so the message must exist, and be it empty. */
function closeReasoning(messageId: string, encryptedValue: unknown, out: Frames): void {
  tell('REASONING_MESSAGE_END', { messageId }, out)
  if (typeof encryptedValue === 'string' && encryptedValue !== '') {
    tell('REASONING_ENCRYPTED_VALUE', { subtype: 'message', entityId: messageId, encryptedValue }, out)
  }
  tell('REASONING_END', { messageId }, out)
}

type OtherDelta = Extract<ClaudeEvent, { type: 'content_block_delta' }>

function otherDelta({ type, index, delta }: OtherDelta, { parts }: State, out: Frames): void {
  const part = parts.get(index)
  if (!part) return
  if (delta.type === 'citations_delta') {
    custom('claude.citation', { messageId: part.id, citation: delta.citation }, out)
  } else if (delta.type === 'signature_delta' || part.kind === undefined) applyOtherDelta(part, delta)
  else custom('claude.event', { type, index, delta }, out)
}

/** @param whole Claude said itself that the block was at its end */
function stopBlock(index: number, state: State, out: Frames, whole = true): void {
  const part = state.parts.get(index)
  if (!part) return
  state.parts.delete(index)
  const { id, kind, block } = part
  if (kind === 'text') tell('TEXT_MESSAGE_END', { messageId: id }, out)
  else if (kind === 'thinking') closeReasoning(id, block['signature'], out)
  else if (kind === 'input_json') endCall(part, state, out, whole)
  else if (block.type === 'redacted_thinking') {
    state.parent = undefined
    openReasoning(id, out)
    closeReasoning(id, `${redactedPrefix}${block['data']}`, out)
  } else if (isResultType(block.type) && typeof block['tool_use_id'] === 'string') tellResult(part, state, out)
  else custom('claude.block', block, out)
}

function endCall(part: Part, state: State, out: Frames, whole: boolean): void {
  const { id, opening, block, inputJson } = part
  // An empty string is no JSON, and clients parse what they get.
  if (inputJson === '') out.spliced(opening, escapeJson(JSON.stringify(block['input'] ?? {})), deltaClosing)
  const complete = whole && !('invalid' in toolInput(part))
  if (complete && block.type === 'tool_use') state.pending.add(id)
  tell('TOOL_CALL_END', { toolCallId: id, ...(!complete && { metadata: { incomplete: true } }) }, out)
}

function tellResult({ id, block }: Part, state: State, out: Frames): void {
  state.parent = undefined
  tell('TOOL_CALL_RESULT', blockResultOf(block, id), out)
}

function closeAll(state: State, out: Frames): void {
  for (const index of state.parts.keys()) stopBlock(index, state, out, false)
}

/** The end of a message or call would say that it is whole, so before RUN_ERROR, which may come any time, there is none. */
function end(event: TerminalEvent, state: State, out: Frames): void {
  const usage = [tokenUsage(event.usage, state.model)]
  if (event.type === 'done') {
    closeAll(state, out)
    const { stop_reason, stop_sequence, stop_details, cost_usd } = event
    const result = { stop_reason, stop_sequence, stop_details, cost_usd }
    const outcome = { type: 'success', ...(state.pending.size > 0 && { pendingToolCallIds: [...state.pending] }) }
    tell('RUN_FINISHED', { ...state.ids, result, outcome, usage }, out)
  } else if (event.type === 'error') {
    const { code, message, retryable } = event.error
    tell('RUN_ERROR', { message, code, usage, metadata: { retryable, partial: event.partial } }, out)
  } else {
    const message = 'The stream was stopped before it was complete.'
    tell('RUN_ERROR', { message, code: 'cancelled', usage, metadata: { by: event.by } }, out)
  }
  out.end('without [DONE]')
}
