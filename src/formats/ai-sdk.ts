import { applyDelta } from '../core/blocks.ts'
import type { Delta } from '../core/delta.ts'
import {
  isTerminal,
  isToolEvent,
  type LogEvent,
  type RecoveryEvent,
  type TerminalEvent,
  type ToolEvent,
} from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { closing, comment, type Frames } from '../core/sse.ts'
import { asText, beginPart, type Chunk, endPart, otherDelta, type State } from './ai-sdk-parts.ts'

/**
 * Vercel's UI message stream, for `useChat`: only chunks that both ai 6 and ai 7 know, as a client fails the whole chat
 * at any other.
 * @see https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
 */
export const aiSdk: Format = {
  name: 'ai-sdk',
  headers: { 'x-vercel-ai-ui-message-stream': 'v1' },
  heartbeat: comment('heartbeat'),
  smoothable: true,
  encoder,
}

function encoder(): Encoder {
  const state: State = {
    stream: '',
    model: null,
    inStep: false,
    count: 0,
    parts: new Map(),
    calls: new Set(),
    denied: new Set(),
    sources: new Set(),
  }
  return (event, out) => {
    if (event.type === 'delta') return writeDelta(event, state, out)
    for (const chunk of chunksOf(event, state)) out.data(JSON.stringify(chunk))
    if (isTerminal(event)) out.end('with [DONE]')
  }
}

const kindOfDelta = { text: 'text', thinking: 'reasoning', input_json: 'tool' } as const

/** The one hot path: the payload goes from Claude's JSON into ours as it is. */
const deltaClosing = closing('"}')

function writeDelta(delta: Delta, state: State, out: Frames): void {
  const part = state.parts.get(delta.index)
  if (!part || delta.escaped === '') return
  const told = part.kind === kindOfDelta[delta.kind]
  if (!told || part.kind === 'tool') applyDelta(part.open, delta)
  if (told) out.spliced(part.opening, delta.escaped, deltaClosing)
}

function chunksOf(event: Exclude<LogEvent, Delta>, state: State): Chunk[] {
  switch (event.type) {
    case 'start':
      state.stream = event.stream
      state.model = event.model
      // A message that goes on after a tool's result keeps its id; the client would show a second one otherwise.
      return [{ type: 'start', messageId: event.echo.message_id ?? event.stream }]
    case 'message_start':
      state.model = event.message.model
      return [...endStep(state), ...beginStep(state)]
    case 'content_block_start':
      return [...endPart(event.index, state), ...beginStep(state), ...beginPart(event, state)]
    case 'content_block_delta':
      return otherDelta(event, state)
    case 'content_block_stop':
      return endPart(event.index, state)
    case 'recovery':
      return [recovery(event)]
    case 'cancelled':
      dropCalls(state)
      return [...endStep(state), ...end(event, state)]
    case 'done':
    case 'error':
      return [...endStep(state), ...end(event, state)]
    default:
      return isToolEvent(event) ? toolChunks(event, state) : []
  }
}

function beginStep(state: State): Chunk[] {
  if (state.inStep) return []
  state.inStep = true
  return [{ type: 'start-step' }]
}

/**
 * A call that was cut off counts as answered once its error is told, and `sendAutomaticallyWhen` would ask Claude again
 * right after somebody stopped the answer: such calls stay as they are.
 * @see https://ai-sdk.dev/docs/ai-sdk-ui/chatbot-tool-usage
 */
function dropCalls({ parts }: State): void {
  for (const [index, part] of parts) if (part.kind === 'tool') parts.delete(index)
}

/** A step ends when the next begins, so that results of tools still belong to the step that called them. */
function endStep(state: State): Chunk[] {
  const ends = [...state.parts.keys()].flatMap((index) => endPart(index, state, 'cut off'))
  if (!state.inStep) return ends
  state.inStep = false
  return [...ends, { type: 'finish-step' }]
}

/** The page hears of it in `onData`; it is no part of the message. */
function recovery({ type: _, ...data }: RecoveryEvent): Chunk {
  return { type: 'data-recovery', data, transient: true }
}

/** The calls are answered like those of tools that the AI SDK's own server runs: within the step that made them. */
function toolChunks(event: ToolEvent, { stream, calls, denied }: State): Chunk[] {
  const { id: toolCallId } = event
  if (!calls.has(toolCallId)) return []
  switch (event.type) {
    case 'tool_approval':
      // Where the decision is to be posted, below `/streams/`: the id of the message may be that of an earlier stream.
      return [{ type: 'tool-approval-request', approvalId: `${stream}/tools/${toolCallId}`, toolCallId }]
    case 'tool_decision':
      if (event.decision !== 'denied' && event.decision !== 'expired') return []
      denied.add(toolCallId)
      return [{ type: 'tool-output-denied', toolCallId }]
    case 'tool_progress': {
      const { type: _, ...data } = event
      return [{ type: 'data-tool-progress', data, transient: true }]
    }
    case 'tool_result':
      if (denied.has(toolCallId)) return []
      return event.is_error
        ? [{ type: 'tool-output-error', toolCallId, errorText: asText(event.content) }]
        : [{ type: 'tool-output-available', toolCallId, output: event.content }]
  }
}

/** As Vercel's own provider for Claude has it. */
const finishReasons: Readonly<Record<string, string>> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  pause_turn: 'stop',
  tool_use: 'tool-calls',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
  refusal: 'content-filter',
}

/** `useChat` reads nothing behind an `error`: what it is to know comes before it. */
function end(event: TerminalEvent, { model }: State): Chunk[] {
  const { usage } = event
  const metadata = (facts: object) => ({ type: 'message-metadata', messageMetadata: { model, usage, ...facts } })
  const finish = (finishReason: string) => ({ type: 'finish', finishReason })
  switch (event.type) {
    case 'done': {
      const { stop_reason, cost_usd } = event
      const known = stop_reason !== null && Object.hasOwn(finishReasons, stop_reason)
      return [metadata({ stop_reason, cost_usd }), finish((known && finishReasons[stop_reason]) || 'other')]
    }
    case 'error':
      return [metadata({ stop_reason: null }), { type: 'error', errorText: event.error.message }, finish('error')]
    case 'cancelled':
      return [metadata({ stop_reason: null }), { type: 'abort', reason: event.by }, finish('other')]
  }
}
