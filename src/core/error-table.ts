/**
 * Every failure a client can be told about, in one table: what it is called, which HTTP status it gets before a stream
 * has begun, whether the same request may be sent again, and the sentence that says what to do. `docs/errors.md` is
 * generated from it. Nothing that upstream or a client wrote gets into a sentence unless it passed `sanitize`.
 */
export const errorTable = {
  invalid_request: { status: 400, retryable: false, message: 'The request is not valid.' },
  invalid_json: { status: 400, retryable: false, message: 'The body is not valid JSON in UTF-8.' },
  body_too_complex: {
    status: 400,
    retryable: false,
    message: 'The JSON body is nested too deeply or holds too many values.',
  },
  invalid_position: {
    status: 400,
    retryable: false,
    message: 'The resume position is malformed or lies beyond what this stream has sent.',
  },
  preset_required: {
    status: 400,
    retryable: false,
    message: 'Name a preset of this server: it takes no other requests from you.',
  },
  preset_not_found: { status: 400, retryable: false, message: 'There is no preset of this name that you may use.' },
  preset_conflict: {
    status: 400,
    retryable: false,
    message: 'The request sets what its preset does not leave to clients.',
  },
  model_not_allowed: {
    status: 400,
    retryable: false,
    message: 'This server does not offer a model that is asked for.',
  },
  not_allowed: { status: 400, retryable: false, message: 'The request asks for more than this server allows.' },
  unauthorized: {
    status: 401,
    retryable: false,
    message: 'Send a valid key or token, as Authorization: Bearer or x-api-key.',
  },
  token_invalid: {
    status: 401,
    retryable: false,
    message: 'The token is not valid here. Send one of the issuer, for the audience, that this server knows.',
  },
  token_expired: { status: 401, retryable: false, message: 'The token has expired. Send a new one.' },
  ticket_invalid: {
    status: 401,
    retryable: false,
    message: 'The ticket is over, or was never one of this server. Have a new one made by POST /tickets.',
  },
  operators_only: {
    status: 401,
    retryable: false,
    message: "Send the operators' token (access.ops_token), as Authorization: Bearer; clients' keys are none.",
  },
  access_revoked: { status: 401, retryable: false, message: 'The key is not valid any more.' },
  origin_not_allowed: {
    status: 403,
    retryable: false,
    message: 'Pages of other sites may not use this server. Add their origin to CORS_ORIGINS (server.cors_origins).',
  },
  not_permitted: { status: 403, retryable: false, message: 'What you came with does not allow that.' },
  tool_call_not_found: { status: 404, retryable: false, message: 'This stream has no such tool call.' },
  tool_call_decided: { status: 409, retryable: false, message: 'This tool call does not wait for a decision.' },
  stream_not_found: {
    status: 404,
    retryable: false,
    message: 'There is no such stream: it never existed, has expired, or is not yours.',
  },
  resume_unavailable: {
    status: 410,
    retryable: false,
    message: 'Part of this stream is no longer held. Ask again from the start.',
  },
  key_reused: {
    status: 422,
    retryable: false,
    message: 'Another request has used this idempotency key. Send a new key with a new request.',
  },
  route_not_found: { status: 404, retryable: false, message: 'There is no such route.' },
  request_timeout: { status: 408, retryable: true, message: 'The request was not sent in time.' },
  body_too_large: { status: 413, retryable: false, message: 'The body is larger than this server accepts.' },
  unsupported_media_type: {
    status: 415,
    retryable: false,
    message: 'Send the body as application/json, without a content encoding.',
  },
  host_not_allowed: {
    status: 421,
    retryable: false,
    message: 'This Host is not served here. Add it to server.allowed_hosts if it should be.',
  },
  too_many_wrong_keys: {
    status: 429,
    retryable: false,
    message: 'Too many wrong keys have come from this address. Check the key, and try again later.',
  },
  too_many_unknown_streams: {
    status: 429,
    retryable: false,
    message:
      'Too many streams that are not there have been asked for from this address. Those that are there are served.',
  },
  rate_limited: {
    status: 429,
    retryable: true,
    message: 'Too many requests have come within a minute. Try again when Retry-After says so.',
  },
  too_many_concurrent_streams: {
    status: 429,
    retryable: true,
    message: 'As many streams are running as may at one time. Try again when one of them has ended.',
  },
  budget_reserved: {
    status: 429,
    retryable: true,
    message:
      "Streams that are running have reserved what is left of today's budget. Try again when one of them has ended.",
  },
  token_budget_exhausted: {
    status: 429,
    retryable: false,
    message: "Today's tokens are used up. There are new ones at midnight UTC.",
  },
  spend_limit_reached: {
    status: 429,
    retryable: false,
    message: 'No more may be spent today. The limit begins anew at midnight UTC.',
  },
  model_without_price: {
    status: 400,
    retryable: false,
    message:
      'What this model costs is not known here, and spending is limited. Its operator has to add it to upstream.prices.',
  },
  headers_too_large: { status: 431, retryable: false, message: 'The request headers are too large.' },
  internal: { status: 500, retryable: true, message: 'Something went wrong inside the proxy.' },
  tickets_off: {
    status: 501,
    retryable: false,
    message:
      'This server makes no tickets: it has no access control, or several replicas and no access.tickets.secret.',
  },
  access_unavailable: {
    status: 503,
    retryable: true,
    message: 'Nobody can tell now whether the token is valid: the keys of its issuer cannot be fetched.',
  },
  too_many_streams: {
    status: 503,
    retryable: true,
    message: 'All streams of this server are taken. Try again shortly.',
  },
  store_unavailable: {
    status: 503,
    retryable: true,
    message: 'The store that all replicas share is away or full, and only it can tell. Try again shortly.',
  },
  replica_lost: {
    status: 503,
    retryable: true,
    message: 'The server that wrote this answer is gone. Send the request again.',
  },
  stopped: { status: 503, retryable: true, message: 'The stream was stopped before it was complete.' },
  shutting_down: { status: 503, retryable: true, message: 'This server is shutting down. Send the request again.' },
  upstream_invalid_request: { status: 400, retryable: false, message: 'Claude refused the request as invalid.' },
  upstream_not_found: {
    status: 404,
    retryable: false,
    message: 'Claude does not know the model or another resource that the request names.',
  },
  upstream_too_large: { status: 413, retryable: false, message: 'The request is larger than Claude accepts.' },
  upstream_rate_limited: {
    status: 429,
    retryable: true,
    message: 'The rate limit of the Claude account is reached. Try again later.',
  },
  upstream_auth: {
    status: 502,
    retryable: false,
    message: "Claude refused this server's own credentials. Its operator has to check the Anthropic API key.",
  },
  upstream_unreachable: { status: 502, retryable: true, message: 'Claude could not be reached.' },
  upstream_tls: {
    status: 502,
    retryable: false,
    message: 'The secure connection to Claude could not be verified. The operator has to check certificates.',
  },
  upstream_error: { status: 502, retryable: true, message: 'Claude failed to answer.' },
  upstream_protocol: { status: 502, retryable: true, message: "Claude's answer could not be read." },
  upstream_truncated: { status: 502, retryable: true, message: "Claude's answer ended before it was complete." },
  upstream_overloaded: { status: 503, retryable: true, message: 'Claude is overloaded. Try again shortly.' },
  budget_exhausted: {
    status: 503,
    retryable: false,
    message: 'The spending limit of the Claude account is reached. Its operator has to raise it.',
  },
  upstream_timeout: { status: 504, retryable: true, message: 'Claude did not begin to answer in time.' },
  upstream_stalled: { status: 504, retryable: true, message: "Claude's answer stopped coming." },
  total_timeout: { status: 504, retryable: false, message: 'The answer took longer than a stream may last.' },
  tool_time_exceeded: {
    status: 504,
    retryable: false,
    message: 'The tools of this answer took longer than they may together (tool_limits.total_ms).',
  },
  tool_steps_exceeded: {
    status: 502,
    retryable: false,
    message: 'Claude called tools in more steps than an answer may have (tool_limits.max_steps).',
  },
  tool_output_exceeded: {
    status: 502,
    retryable: false,
    message: 'The tools of this answer gave more than they may (tool_limits.max_result_bytes, max_total_result_bytes).',
  },
  tool_tokens_exceeded: {
    status: 502,
    retryable: false,
    message: 'The steps of this answer have used up its output tokens (tool_limits.max_tokens).',
  },
  limit_exceeded: { status: 502, retryable: false, message: 'The answer is larger than a stream may be.' },
} as const satisfies Record<string, { status: number; retryable: boolean; message: string }>

export type ErrorCode = keyof typeof errorTable
