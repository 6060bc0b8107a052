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
  unauthorized: {
    status: 401,
    retryable: false,
    message: 'Send a valid key of this server, as Authorization: Bearer or x-api-key.',
  },
  access_revoked: { status: 401, retryable: false, message: 'The key is not valid any more.' },
  origin_not_allowed: {
    status: 403,
    retryable: false,
    message: 'Pages of other sites may not use this server. Add their origin to server.cors_origins if they should.',
  },
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
  headers_too_large: { status: 431, retryable: false, message: 'The request headers are too large.' },
  internal: { status: 500, retryable: true, message: 'Something went wrong inside the proxy.' },
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
  limit_exceeded: { status: 502, retryable: false, message: 'The answer is larger than a stream may be.' },
} as const satisfies Record<string, { status: number; retryable: boolean; message: string }>

export type ErrorCode = keyof typeof errorTable

/** What a client sees of a failure: in an HTTP body (with `request_id`) or in an `error` frame. */
export interface PublicError {
  readonly code: ErrorCode
  readonly message: string
  readonly retryable: boolean
}

interface ErrorDetails {
  /** Replaces the table's sentence; must not contain secrets, prompts or raw upstream text. */
  readonly message?: string
  /** Wait this long before another try, in milliseconds; becomes `Retry-After`. */
  readonly retryAfterMs?: number | undefined
  /** Whether to try again, whatever the code means: Claude has said so, or there is another key to try with. */
  readonly shouldRetry?: boolean | undefined
  /** Anthropic's id of the failed request. */
  readonly upstreamRequestId?: string | undefined
  /** Short machine-made cause for the log only, such as `ECONNREFUSED`, `529` or `silence_ms`. */
  readonly reason?: string | undefined
  readonly cause?: unknown
}

/** The one error class: a code of the table and the facts that go with it. */
export class SluiceError extends Error {
  override readonly name = 'SluiceError'
  readonly code: ErrorCode
  readonly retryAfterMs: number | undefined
  readonly shouldRetry: boolean | undefined
  readonly upstreamRequestId: string | undefined
  readonly reason: string | undefined

  constructor(code: ErrorCode, details: ErrorDetails = {}) {
    super(details.message ?? errorTable[code].message, { cause: details.cause })
    this.code = code
    this.retryAfterMs = details.retryAfterMs
    this.shouldRetry = details.shouldRetry
    this.upstreamRequestId = details.upstreamRequestId
    this.reason = details.reason
  }

  get status(): number {
    return errorTable[this.code].status
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable
  }

  toPublic(): PublicError {
    return { code: this.code, message: this.message, retryable: this.retryable }
  }
}

/** Anything thrown, as a SluiceError: what is not one of ours is `internal`, and its text stays inside. */
export function toSluiceError(thrown: unknown): SluiceError {
  return thrown instanceof SluiceError ? thrown : new SluiceError('internal', { cause: thrown })
}

const keyShape = /\b(?:(?:sk|slk|pk|key)[-_ ][\w-]{6,}|bearer\s+[^\s"',;()]{6,})/gi

/** One line of foreign text made fit to show: no control characters, nothing key-shaped, at most 300 characters. */
export function sanitize(text: string): string {
  // Cut first: a pattern over megabytes of one line overflows the matcher's stack.
  const line = text
    .slice(0, 2_000)
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
    .replace(keyShape, '[redacted]')
    .trim()
  return line.length > 300 ? `${line.slice(0, 299).toWellFormed()}…` : line
}

/** Where a defect struck, without its message, which may quote content. */
export function describeFault(thrown: unknown): { name: string; code?: string; at: string[] } {
  if (!(thrown instanceof Error)) return { name: typeof thrown, at: [] }
  const { stack = '', message } = thrown
  const begin = stack.indexOf(message)
  const at = (begin < 0 ? '' : stack.slice(begin + message.length)).split('\n').filter((line) => /^\s+at /.test(line))
  const { code } = thrown as NodeJS.ErrnoException
  return { name: thrown.name, ...(code !== undefined && { code }), at: at.slice(0, 8).map((line) => line.trim()) }
}
