import { APIConnectionError, APIError, APIUserAbortError } from '@anthropic-ai/sdk'
import { type ErrorCode, SluiceError, sanitize } from '../core/errors.ts'

/** Anthropic's error types, as they come in bodies and in `event: error`, and what they mean to a client of ours. */
const codeByType: Record<string, ErrorCode> = {
  invalid_request_error: 'upstream_invalid_request',
  authentication_error: 'upstream_auth',
  permission_error: 'upstream_auth',
  billing_error: 'budget_exhausted',
  not_found_error: 'upstream_not_found',
  conflict_error: 'upstream_invalid_request',
  request_too_large: 'upstream_too_large',
  rate_limit_error: 'upstream_rate_limited',
  timeout_error: 'upstream_timeout',
  api_error: 'upstream_error',
  overloaded_error: 'upstream_overloaded',
}

const codeByStatus: Record<number, ErrorCode> = {
  401: 'upstream_auth',
  402: 'budget_exhausted',
  403: 'upstream_auth',
  404: 'upstream_not_found',
  413: 'upstream_too_large',
  429: 'upstream_rate_limited',
  503: 'upstream_overloaded',
  504: 'upstream_timeout',
  529: 'upstream_overloaded',
}

/** Codes by which Claude tells the caller what is wrong with the request: its sentence is the help a developer needs. */
const callersFault: ReadonlySet<ErrorCode> = new Set([
  'upstream_invalid_request',
  'upstream_not_found',
  'upstream_too_large',
])

/** A 429 for money: waiting does not help, whatever the type says. */
const spendLimit = /spend_limit|credit|billing/i

/** An `error` event inside a stream. */
export function streamError(error: { type: string; message: string }, requestId: string | null): SluiceError {
  const code = (Object.hasOwn(codeByType, error.type) ? codeByType[error.type] : undefined) ?? 'upstream_error'
  return new SluiceError(code, {
    reason: sanitize(error.type),
    upstreamRequestId: requestId ?? undefined,
    ...explain(code, error.message),
  })
}

/** Whatever the SDK threw while it opened a stream. */
export function openError(thrown: unknown): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  if (thrown instanceof APIUserAbortError) return new SluiceError('upstream_error', { reason: 'aborted' })
  if (thrown instanceof APIConnectionError) return connectionError(thrown.cause ?? thrown, 'upstream_unreachable')
  if (thrown instanceof APIError && thrown.status !== undefined) return statusError(thrown, thrown.status)
  return new SluiceError('internal', { cause: thrown, reason: thrown instanceof Error ? thrown.name : 'unknown' })
}

function statusError(error: APIError, status: number): SluiceError {
  const code = codeOfStatus(error, status)
  return new SluiceError(code, {
    reason: String(status),
    upstreamRequestId: error.requestID ?? undefined,
    retryAfterMs: parseRetryAfter(error.headers),
    // Neither waiting nor asking again brings money.
    shouldRetry: code === 'budget_exhausted' ? false : parseShouldRetry(error.headers),
    ...explain(code, error.apiMessage ?? ''),
  })
}

function codeOfStatus(error: APIError, status: number): ErrorCode {
  const spent = status === 429 && spendLimit.test(`${error.errorCode ?? ''} ${error.type ?? ''}`)
  if (spent) return 'budget_exhausted'
  const byStatus = codeByStatus[status]
  if (byStatus) return byStatus
  if (status >= 400 && status < 500) return 'upstream_invalid_request'
  // Neither an answer nor a failure: a redirect, or a success without content.
  if (status < 400) return 'upstream_protocol'
  return 'upstream_error'
}

function explain(code: ErrorCode, message: string): { message?: string } {
  const reason = callersFault.has(code) ? sanitize(message) : ''
  return reason === '' ? {} : { message: `Claude refused the request: ${reason}` }
}

/** Claude's own word on trying again, which its SDKs obey before anything else. */
function parseShouldRetry(headers: Headers | undefined): boolean | undefined {
  const value = headers?.get('x-should-retry')
  return value === 'true' || value === 'false' ? value === 'true' : undefined
}

/** `retry-after-ms`, or `retry-after` in seconds or as a date, in milliseconds from now. */
export function parseRetryAfter(headers: Headers | undefined): number | undefined {
  const milliseconds = Number(headers?.get('retry-after-ms') || Number.NaN)
  if (Number.isFinite(milliseconds) && milliseconds >= 0) return milliseconds
  const value = headers?.get('retry-after')
  if (!value) return undefined
  const seconds = Number(value)
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000)
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now())
}

/**
 * A failed connection. undici wraps causes, and a host with several addresses gives an AggregateError without a code
 * of its own, so the whole tree is searched.
 */
export function connectionError(thrown: unknown, code: ErrorCode): SluiceError {
  const reason = findCode(thrown) ?? (thrown instanceof Error ? thrown.name : 'unknown')
  return new SluiceError(isTlsFault(reason) ? 'upstream_tls' : code, { reason, cause: thrown })
}

/** Chains of causes are short, but nothing keeps them from being circles. */
const maxCauses = 8

function findCode(thrown: unknown, depth = 0): string | undefined {
  if (!(thrown instanceof Error) || depth > maxCauses) return undefined
  const { code } = thrown as NodeJS.ErrnoException
  if (typeof code === 'string' && code !== '') return code
  const inner = thrown instanceof AggregateError ? thrown.errors : []
  return [thrown.cause, ...inner].map((each) => findCode(each, depth + 1)).find((found) => found !== undefined)
}

function isTlsFault(code: string): boolean {
  return /^(CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|CRL_|EPROTO)/.test(
    code,
  )
}
