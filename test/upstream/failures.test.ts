import { APIConnectionError, APIError, APIUserAbortError } from '@anthropic-ai/sdk'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { type ErrorCode, errorTable, SluiceError } from '../../src/core/errors.ts'
import { connectionError, openError, parseRetryAfter, streamError } from '../../src/upstream/failures.ts'

interface Refusal {
  type?: string
  message?: string
  error_code?: string
  headers?: Record<string, string>
}

/** What the SDK throws for a response with this status and body. */
function refusal(status: number, { type = 'api_error', message = 'secret', error_code, headers }: Refusal = {}) {
  const details = error_code === undefined ? null : { error_code }
  const body = { type: 'error', error: { type, message, details } }
  return APIError.generate(status, body, undefined, new Headers({ 'request-id': 'req_1', ...headers }))
}

describe('openError', () => {
  it.each<[number, ErrorCode]>([
    [400, 'upstream_invalid_request'],
    [401, 'upstream_auth'],
    [402, 'budget_exhausted'],
    [403, 'upstream_auth'],
    [404, 'upstream_not_found'],
    [409, 'upstream_invalid_request'],
    [413, 'upstream_too_large'],
    [422, 'upstream_invalid_request'],
    [429, 'upstream_rate_limited'],
    [500, 'upstream_error'],
    [502, 'upstream_error'],
    [503, 'upstream_overloaded'],
    [504, 'upstream_timeout'],
    [520, 'upstream_error'],
    [529, 'upstream_overloaded'],
  ])('takes status %i for %s', (status, code) => {
    expect(openError(refusal(status))).toMatchObject({ code, reason: String(status), upstreamRequestId: 'req_1' })
  })

  it.each([
    [{ error_code: 'enforced_spend_limit_reached' }],
    [{ error_code: 'contract_spend_limit_reached' }],
    [{ error_code: 'credit_exhausted' }],
    [{ type: 'billing_error' }],
  ])('takes a 429 with %j for a matter of money, whatever its headers say', (body) => {
    for (const headers of [{}, { 'x-should-retry': 'true', 'retry-after': '1' }]) {
      const error = openError(refusal(429, { ...body, headers }))
      expect(error).toMatchObject({ code: 'budget_exhausted', retryable: false, shouldRetry: false })
    }
  })

  it('takes a 429 of a limit that is lifted by and by for one to wait for', () => {
    expect(openError(refusal(429, { type: 'rate_limit_error', error_code: 'ramp_limit_exceeded' }))).toMatchObject({
      code: 'upstream_rate_limited',
      retryable: true,
      shouldRetry: undefined,
    })
  })

  it.each([
    ['true', true],
    ['false', false],
    ['TRUE', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('gives on whether to try again: %j', (value, expected) => {
    for (const status of [400, 429, 500, 529]) {
      const headers = value === undefined ? {} : { 'x-should-retry': value }
      expect(openError(refusal(status, { headers })).shouldRetry).toBe(expected)
    }
  })

  it('gives on how long to wait', () => {
    expect(openError(refusal(429, { headers: { 'retry-after': '7' } })).retryAfterMs).toBe(7_000)
    expect(openError(refusal(429)).retryAfterMs).toBeUndefined()
  })

  it.each([
    400, 404, 409, 413,
  ])('hands on, made fit to show, what Claude says of a %i: it is the caller’s to fix', (status) => {
    const { message } = openError(refusal(status, { message: 'max_tokens:\u0000too large for sk-ant-api03-abcdefgh' }))
    expect(message).toBe('Claude refused the request: max_tokens: too large for [redacted]')
  })

  it.each([401, 402, 403, 429, 500, 503, 504, 529])('hands on nothing of what Claude says of a %i', (status) => {
    const error = openError(refusal(status, { message: 'secret' }))
    expect(error.message).toBe(errorTable[error.code].message)
    expect(JSON.stringify([error, error.reason])).not.toContain('secret')
  })

  it('has its own sentence where Claude has none', () => {
    expect(openError(refusal(400, { message: '' })).message).toBe(errorTable.upstream_invalid_request.message)
  })

  it('survives bodies that are no JSON of Anthropic’s', () => {
    for (const body of [undefined, {}, 'bad gateway', { error: 'x' }, { error: null }]) {
      expect(openError(APIError.generate(502, body as object, 'x', new Headers())).code).toBe('upstream_error')
    }
  })

  it('looks below the SDK’s connection error', () => {
    const cause = Object.assign(new Error('connect'), { code: 'ECONNREFUSED' })
    expect(openError(new APIConnectionError({ cause }))).toMatchObject({
      code: 'upstream_unreachable',
      reason: 'ECONNREFUSED',
    })
    expect(openError(new APIConnectionError({ message: 'secret' })).code).toBe('upstream_unreachable')
  })

  it('knows our own abort, our own errors and strangers', () => {
    expect(openError(new APIUserAbortError())).toMatchObject({ code: 'upstream_error', reason: 'aborted' })
    const own = new SluiceError('upstream_protocol')
    expect(openError(own)).toBe(own)
    expect(openError(new TypeError('secret'))).toMatchObject({ code: 'internal', reason: 'TypeError' })
    expect(openError('secret')).toMatchObject({ code: 'internal', reason: 'unknown' })
  })
})

describe('streamError', () => {
  it.each<[string, ErrorCode]>([
    ['invalid_request_error', 'upstream_invalid_request'],
    ['authentication_error', 'upstream_auth'],
    ['permission_error', 'upstream_auth'],
    ['billing_error', 'budget_exhausted'],
    ['not_found_error', 'upstream_not_found'],
    ['request_too_large', 'upstream_too_large'],
    ['rate_limit_error', 'upstream_rate_limited'],
    ['timeout_error', 'upstream_timeout'],
    ['api_error', 'upstream_error'],
    ['overloaded_error', 'upstream_overloaded'],
    ['weather_error', 'upstream_error'],
    ['constructor', 'upstream_error'],
    ['__proto__', 'upstream_error'],
    ['', 'upstream_error'],
  ])('takes %s for %s', (type, code) => {
    expect(streamError({ type, message: 'x' }, 'req_1')).toMatchObject({
      code,
      reason: type,
      upstreamRequestId: 'req_1',
    })
  })

  it('hands on Claude’s words about the caller’s fault only', () => {
    expect(streamError({ type: 'invalid_request_error', message: 'bad\nblock' }, null).message).toBe(
      'Claude refused the request: bad block',
    )
    expect(streamError({ type: 'overloaded_error', message: 'secret' }, null).message).toBe(
      errorTable.upstream_overloaded.message,
    )
  })

  it('makes the type fit for the log', () => {
    expect(streamError({ type: `x\n${'y'.repeat(1_000)}`, message: '' }, null).reason).toMatch(/^x y{1,298}…$/)
  })
})

describe('parseRetryAfter', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')

  it.each<[Record<string, string>, number | undefined]>([
    [{}, undefined],
    [{ 'retry-after': '0' }, 0],
    [{ 'retry-after': '5' }, 5_000],
    [{ 'retry-after': '1.5' }, 1_500],
    [{ 'retry-after': '-5' }, 0],
    [{ 'retry-after': 'Thu, 01 Jan 2026 00:00:30 GMT' }, 30_000],
    [{ 'retry-after': 'Wed, 31 Dec 2025 23:59:00 GMT' }, 0],
    [{ 'retry-after': 'nonsense' }, undefined],
    [{ 'retry-after': 'Infinity' }, undefined],
    [{ 'retry-after': 'NaN' }, undefined],
    [{ 'retry-after': '' }, undefined],
    [{ 'retry-after-ms': '250' }, 250],
    [{ 'retry-after-ms': '250', 'retry-after': '5' }, 250],
    [{ 'retry-after-ms': 'nonsense', 'retry-after': '5' }, 5_000],
    [{ 'retry-after-ms': '-1', 'retry-after': '5' }, 5_000],
    [{ 'retry-after-ms': '', 'retry-after': '5' }, 5_000],
  ])('reads %j', (headers, expected) => {
    vi.useFakeTimers({ now, toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    expect(parseRetryAfter(new Headers(headers))).toBe(expected)
  })

  it('knows nothing without headers', () => {
    expect(parseRetryAfter(undefined)).toBeUndefined()
  })
})

describe('connectionError', () => {
  const coded = (code: string) => Object.assign(new Error('secret'), { code })

  it.each<[string, unknown, string]>([
    ['the error itself', coded('ECONNRESET'), 'ECONNRESET'],
    ['its cause', new TypeError('fetch failed', { cause: coded('UND_ERR_SOCKET') }), 'UND_ERR_SOCKET'],
    ['a cause far down', new Error('a', { cause: new Error('b', { cause: coded('ENOTFOUND') }) }), 'ENOTFOUND'],
    ['an AggregateError', new AggregateError([coded('ECONNREFUSED'), coded('ENETUNREACH')]), 'ECONNREFUSED'],
    ['an AggregateError with a code of its own', Object.assign(new AggregateError([coded('A')]), { code: 'B' }), 'B'],
    ['an AggregateError with an empty code', Object.assign(new AggregateError([coded('A')]), { code: '' }), 'A'],
    ['the second of an AggregateError', new AggregateError([new Error('x'), coded('EAI_AGAIN')]), 'EAI_AGAIN'],
    [
      'all of it at once',
      new TypeError('x', { cause: new AggregateError([new Error('y', { cause: coded('EHOSTUNREACH') })]) }),
      'EHOSTUNREACH',
    ],
    ['an error without any code, by its name', new TypeError('secret'), 'TypeError'],
    ['what is no error', 'secret', 'unknown'],
    ['a code that is no text', Object.assign(new RangeError('x'), { code: 5 }), 'RangeError'],
  ])('finds the code in %s', (_, thrown, reason) => {
    expect(connectionError(thrown, 'upstream_unreachable')).toMatchObject({ code: 'upstream_unreachable', reason })
  })

  it.each([
    'CERT_HAS_EXPIRED',
    'CERT_NOT_YET_VALID',
    'CERT_SIGNATURE_FAILURE',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    'HOSTNAME_MISMATCH',
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'ERR_SSL_WRONG_VERSION_NUMBER',
    'EPROTO',
    'INVALID_CA',
    'INVALID_PURPOSE',
    'PATH_LENGTH_EXCEEDED',
  ])('takes %s for a fault of certificates, which trying again does not cure', (code) => {
    const error = connectionError(new TypeError('fetch failed', { cause: coded(code) }), 'upstream_unreachable')
    expect(error).toMatchObject({ code: 'upstream_tls', reason: code, retryable: false })
  })

  it('keeps the text of the error inside', () => {
    const error = connectionError(coded('ECONNRESET'), 'upstream_truncated')
    expect(error.code).toBe('upstream_truncated')
    expect(JSON.stringify(error.toPublic())).not.toContain('secret')
  })
})
