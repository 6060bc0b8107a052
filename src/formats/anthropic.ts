import { type Delta, eventOpening, perBlock } from '../core/delta.ts'
import type { ErrorCode, PublicError } from '../core/errors.ts'
import type { LogEvent } from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { closing, type Frames, opening, unnumbered } from '../core/sse.ts'

/**
 * Claude's own events, as the Messages API sends them: for the Anthropic SDKs and whatever else speaks to Anthropic.
 * @see https://platform.claude.com/docs/en/api/messages-streaming
 */
export const anthropic: Format = {
  name: 'anthropic',
  headers: {},
  heartbeat: unnumbered('ping', '{"type": "ping"}'),
  encoder: () => encode,
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
  resume_unavailable: 'invalid_request_error',
  unsupported_media_type: 'invalid_request_error',
  upstream_invalid_request: 'invalid_request_error',
  unauthorized: 'authentication_error',
  access_revoked: 'authentication_error',
  stream_not_found: 'not_found_error',
  route_not_found: 'not_found_error',
  upstream_not_found: 'not_found_error',
  body_too_large: 'request_too_large',
  upstream_too_large: 'request_too_large',
  upstream_rate_limited: 'rate_limit_error',
  too_many_wrong_keys: 'rate_limit_error',
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
