import type {
  BetaRawContentBlockDeltaEvent,
  BetaRawContentBlockStartEvent,
  BetaRawContentBlockStopEvent,
  BetaRawMessageDeltaEvent,
  BetaRawMessageStartEvent,
  BetaRawMessageStopEvent,
} from '@anthropic-ai/sdk/resources/beta/messages'
import type { Delta } from './delta.ts'
import type { ErrorCode, PublicError } from './errors.ts'
import type { Usage } from './usage.ts'

/**
 * A stream event as Claude sends it. Blocks and deltas of types this SDK does not know come through unchanged. Deltas
 * of text, thinking and tool input come as `Delta` instead.
 */
export type ClaudeEvent =
  | BetaRawMessageStartEvent
  | BetaRawContentBlockStartEvent
  | BetaRawContentBlockDeltaEvent
  | BetaRawContentBlockStopEvent
  | BetaRawMessageDeltaEvent
  | BetaRawMessageStopEvent

/** An event whose type this version does not know: Anthropic adds types over time, and they must pass through whole. */
export interface UnknownEvent {
  readonly type: 'unknown'
  readonly event: { readonly type: string; readonly [field: string]: unknown }
}

export interface PingEvent {
  readonly type: 'ping'
}

/** All that an upstream stream can say. */
export type UpstreamEvent = ClaudeEvent | Delta | UnknownEvent | PingEvent

/** The first event of every log: the client owns an id before upstream has said a word. */
export interface StartEvent {
  readonly type: 'start'
  readonly stream: string
  readonly model: string
  /** Unix time in seconds: formats have no clock of their own. */
  readonly created: number
  readonly echo: Echo
  /**
   * The server's own tools that the request offers. There, and be it empty, when the answer can have several steps: then
   * the end of a message of Claude's need not be that of the answer.
   */
  readonly tools?: readonly string[]
}

/** What a request said that its format has to give back, or to go by: part of the log, so that a replay is the same. */
export interface Echo {
  /** OpenAI: `stream_options.include_usage`. */
  readonly include_usage?: boolean
  /** AG-UI: the ids of the conversation and of this run. */
  readonly thread_id?: string
  readonly run_id?: string
  /** AI SDK: the assistant message that this answer goes on with. */
  readonly message_id?: string
}

/** How far the answer is, at most every 250 ms; only in logs of runs that were asked for it. */
export interface ProgressEvent {
  readonly type: 'progress'
  readonly output_tokens: number
  /** Of `max_tokens`. */
  readonly percent: number
  readonly tokens_per_second: number | null
  readonly elapsed_ms: number
}

/** Milliseconds from the start of the run; `null` where it never came to that. */
export interface Timing {
  readonly ttft_ms: number | null
  readonly duration_ms: number
  readonly tokens_per_second: number | null
}

/** How an answer went on after upstream had failed. */
export const recoveryModes = ['fallback', 'prefill', 'quote'] as const
export type RecoveryMode = (typeof recoveryModes)[number]

/**
 * Another attempt goes on where one failed: with another model before any content, or with the rest of the answer after
 * it. The blocks behind it count on from those before it; an open text block goes on as the same block.
 */
export interface RecoveryEvent {
  readonly type: 'recovery'
  /** Why the attempt before failed: an error code. */
  readonly reason: ErrorCode
  /** The number of the attempt that follows; the first of a run is 1. */
  readonly attempt: number
  readonly mode: RecoveryMode
  /** The model that answers from here on, when it is another. */
  readonly model?: string
}

/** What a tool of the server's answered to a call, as Claude gets it. */
export interface ToolResultEvent {
  readonly type: 'tool_result'
  /** Of the call. */
  readonly id: string
  readonly name: string
  readonly content: string | readonly object[]
  readonly is_error: boolean
}

/** A call waits for somebody's consent. */
export interface ToolApprovalEvent {
  readonly type: 'tool_approval'
  readonly id: string
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
  /** ISO 8601: without a word until then it is denied. */
  readonly expires_at: string
}

/** What became of a call that waited: who answers it himself, or denies it, gives a result at once. */
export const toolDecisions = ['approved', 'denied', 'answered', 'expired'] as const

export interface ToolDecisionEvent {
  readonly type: 'tool_decision'
  readonly id: string
  readonly name: string
  readonly decision: (typeof toolDecisions)[number]
  /** What the tool gets instead of Claude's input. */
  readonly input?: Readonly<Record<string, unknown>>
}

/** A line about how far a tool is. */
export interface ToolProgressEvent {
  readonly type: 'tool_progress'
  readonly id: string
  readonly name: string
  readonly text: string
}

/** What the server's own tools do, between two messages of Claude's. */
export type ToolEvent = ToolResultEvent | ToolApprovalEvent | ToolDecisionEvent | ToolProgressEvent

/** Who ended a stream before its time. */
export type CancelledBy = 'client' | 'stop' | 'shutdown' | 'limit'

export interface DoneEvent {
  readonly type: 'done'
  readonly stop_reason: string | null
  readonly stop_sequence?: string
  readonly stop_details?: unknown
  readonly usage: Usage
  readonly cost_usd: number | null
  readonly timing: Timing
  /** How often the answer was continued after content had been sent. */
  readonly recovered: number
  readonly upstream_request_id: string | null
}

export interface ErrorEvent {
  readonly type: 'error'
  readonly error: PublicError
  /** Content had been sent: what the client holds is the beginning of an answer. */
  readonly partial: boolean
  readonly usage: Usage
  readonly timing: Timing
}

export interface CancelledEvent {
  readonly type: 'cancelled'
  readonly by: CancelledBy
  readonly usage: Usage
}

/** Exactly one of these ends every log. */
export type TerminalEvent = DoneEvent | ErrorEvent | CancelledEvent

/** What a log holds: Claude's own stream events and our few. */
export type LogEvent =
  | StartEvent
  | ClaudeEvent
  | Delta
  | UnknownEvent
  | ProgressEvent
  | RecoveryEvent
  | ToolEvent
  | TerminalEvent

export function isTerminal(event: LogEvent): event is TerminalEvent {
  return event.type === 'done' || event.type === 'error' || event.type === 'cancelled'
}

const toolEventTypes: ReadonlySet<LogEvent['type']> = new Set<ToolEvent['type']>([
  'tool_result',
  'tool_approval',
  'tool_decision',
  'tool_progress',
])

export function isToolEvent(event: LogEvent): event is ToolEvent {
  return toolEventTypes.has(event.type)
}

/**
 * The run failed before any of the answer came, and Claude is not at work on it: to ask again is no second purchase.
 * After a time-out it may be; and who left or stopped an answer had asked for it.
 * @param before events in the log before this one: what comes before content is not stored without it
 */
export function cameToNothing(event: TerminalEvent, before: number): boolean {
  return event.type === 'error' && before <= 1 && !timeouts.has(event.error.code)
}

const timeouts: ReadonlySet<ErrorCode> = new Set(['upstream_timeout', 'upstream_stalled', 'total_timeout'])

/** Blocks that call a tool, here or at Anthropic; their input arrives as `input_json_delta`. */
export const toolBlockTypes: ReadonlySet<string> = new Set(['tool_use', 'server_tool_use', 'mcp_tool_use'])
