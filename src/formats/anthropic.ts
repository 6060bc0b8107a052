import { type Delta, eventOpening, perBlock } from '../core/delta.ts'
import type { ErrorCode, PublicError } from '../core/errors.ts'
import { isTerminal, type LogEvent } from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { closing, type Frames, opening, unnumbered } from '../core/sse.ts'
import { FoldedSteps } from './anthropic-steps.ts'

/**
 * Claude's own events, as the Messages API sends them: for the Anthropic SDKs and whatever else speaks to Anthropic.
 * @see https://platform.claude.com/docs/en/api/messages-streaming
 */
export const anthropic: Format = {
  name: 'anthropic',
  headers: {},
  heartbeat: unnumbered('ping', '{"type": "ping"}'),
  encoder,
}

/** Only a log of several steps has to be folded: any other goes through as it is. */
function encoder(): Encoder {
  let folded: FoldedSteps | undefined
  return (event, out) => {
    if (event.type === 'start' && event.tools) folded = new FoldedSteps(event.tools)
    if (!folded) return encode(event, out)
    if (isTerminal(event)) {
      for (const each of folded.end(event)) encode(each, out)
      encode(event, out)
    } else for (const each of folded.fold(event)) encode(each, out)
  }
}

const deltaName = 'content_block_delta'
const deltaOpening = perBlock((kind, index) => opening(eventOpening(kind, index), deltaName))
const deltaClosing = closing('"}}')

function writeDelta({ kind, index, escaped, raw }: Delta, out: Frames): void {
  if (raw === undefined) out.spliced(deltaOpening(kind, index), escaped, deltaClosing)
  else out.event(deltaName, raw)
}

const encode: Encoder = (event, out) => {
  switch (event.type) {
    case 'delta':
      return writeDelta(event, out)
    case 'unknown':
      return out.event(event.event.type, JSON.stringify(event.event))
    case 'start':
    case 'progress':
    case 'recovery':
    case 'tool_result':
    case 'tool_approval':
    case 'tool_decision':
    case 'tool_progress':
      return
    case 'done':
    case 'error':
    case 'cancelled':
      return end(event, out)
    default:
      return out.event(event.type, JSON.stringify(event))
  }
}

function end(event: Extract<LogEvent, { type: 'done' | 'error' | 'cancelled' }>, out: Frames): void {
  if (event.type === 'error') out.event('error', JSON.stringify(anthropicError(event.error)))
  if (event.type === 'cancelled') out.event('error', JSON.stringify(cancelled))
  out.end('without [DONE]')
}

/** An error as the Messages API has it, in bodies and in streams. */
export interface AnthropicError {
  readonly type: 'error'
  readonly error: { readonly type: string; readonly message: string; readonly details: null }
}

const cancelled: AnthropicError = {
  type: 'error',
  error: { details: null, type: 'api_error', message: 'The stream was stopped before it was complete.' },
}

/** Where our codes mean what one of Anthropic's error types means; all others are `api_error`. */
const types: Partial<Record<ErrorCode, string>> = {
  invalid_request: 'invalid_request_error',
  invalid_json: 'invalid_request_error',
  body_too_complex: 'invalid_request_error',
  invalid_position: 'invalid_request_error',
  key_reused: 'invalid_request_error',
  preset_required: 'invalid_request_error',
  preset_not_found: 'invalid_request_error',
  preset_conflict: 'invalid_request_error',
  model_not_allowed: 'invalid_request_error',
  not_allowed: 'invalid_request_error',
  resume_unavailable: 'invalid_request_error',
  unsupported_media_type: 'invalid_request_error',
  upstream_invalid_request: 'invalid_request_error',
  unauthorized: 'authentication_error',
  access_revoked: 'authentication_error',
  token_invalid: 'authentication_error',
  token_expired: 'authentication_error',
  not_permitted: 'permission_error',
  stream_not_found: 'not_found_error',
  route_not_found: 'not_found_error',
  upstream_not_found: 'not_found_error',
  body_too_large: 'request_too_large',
  upstream_too_large: 'request_too_large',
  upstream_rate_limited: 'rate_limit_error',
  too_many_wrong_keys: 'rate_limit_error',
  too_many_unknown_streams: 'rate_limit_error',
  rate_limited: 'rate_limit_error',
  too_many_concurrent_streams: 'rate_limit_error',
  budget_reserved: 'rate_limit_error',
  token_budget_exhausted: 'rate_limit_error',
  spend_limit_reached: 'rate_limit_error',
  model_without_price: 'invalid_request_error',
  budget_exhausted: 'billing_error',
  upstream_overloaded: 'overloaded_error',
  too_many_streams: 'overloaded_error',
  upstream_timeout: 'timeout_error',
  upstream_stalled: 'timeout_error',
  total_timeout: 'timeout_error',
}

export function anthropicError({ code, message }: PublicError): AnthropicError {
  return { type: 'error', error: { details: null, type: types[code] ?? 'api_error', message } }
}
