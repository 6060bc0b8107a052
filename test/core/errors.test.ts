import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  describeFault,
  type ErrorCode,
  errorTable,
  SluiceError,
  sanitize,
  toSluiceError,
} from '../../src/core/errors.ts'

const codes = Object.keys(errorTable) as ErrorCode[]

describe('errorTable', () => {
  it.each(codes)('gives %s an HTTP error status and a sentence', (code) => {
    const { status, message } = errorTable[code]
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/)
    expect(status).toSatisfy((value: number) => Number.isInteger(value) && value >= 400 && value <= 599)
    expect(message).toMatch(/^[A-Z][^\n]*\.$/)
    expect(sanitize(message)).toBe(message)
  })

  it('tells clients to send nothing again that is their own fault', () => {
    const retryable = codes.filter((code) => errorTable[code].retryable)
    const callersFault = retryable.filter((code) => errorTable[code].status < 500)
    expect(callersFault).toEqual([
      'request_timeout',
      'rate_limited',
      'too_many_concurrent_streams',
      'budget_reserved',
      'upstream_rate_limited',
    ])
  })

  it('never shows a browser that our own credentials were refused', () => {
    expect(errorTable.upstream_auth).toMatchObject({ status: 502, retryable: false })
  })
})

describe('SluiceError', () => {
  it('says what the table says, unless it knows better', () => {
    expect(new SluiceError('internal').toPublic()).toEqual({ code: 'internal', ...pick('internal') })
    const error = new SluiceError('upstream_rate_limited', { message: 'Slow down.', retryAfterMs: 5, reason: '429' })
    expect(error.toPublic()).toEqual({ code: 'upstream_rate_limited', message: 'Slow down.', retryable: true })
    expect([error.status, error.retryAfterMs, error.reason, error.shouldRetry]).toEqual([429, 5, '429', undefined])
    expect(new SluiceError('upstream_error', { shouldRetry: false }).shouldRetry).toBe(false)
  })

  it('shows of the cause nothing to the public', () => {
    const shown = JSON.stringify(
      new SluiceError('internal', { cause: new Error('secret'), reason: 'secret' }).toPublic(),
    )
    expect(shown).not.toContain('secret')
  })

  it('takes in whatever is thrown as internal, and its own kind as it is', () => {
    const own = new SluiceError('upstream_error')
    expect(toSluiceError(own)).toBe(own)
    for (const thrown of [new Error('secret'), 'secret', undefined, null, Symbol('x')]) {
      expect(toSluiceError(thrown)).toMatchObject({
        code: 'internal',
        message: errorTable.internal.message,
        cause: thrown,
      })
    }
  })

  function pick(code: ErrorCode) {
    const { message, retryable } = errorTable[code]
    return { message, retryable }
  }
})

describe('sanitize', () => {
  it.each([
    ['plain text, with “quotes” and 水門 🌊', 'plain text, with “quotes” and 水門 🌊'],
    ['two\r\nlines\tand\0more', 'two lines and more'],
    ['\x1b[31mred\x9b0m', '[31mred 0m'],
    ['left\u202eright\u200bzero\ufeff', 'left right zero'],
    ['line\u2028and\u2029paragraph', 'line and paragraph'],
    ['  blanks around  ', 'blanks around'],
    ['', ''],
  ])('makes one line of %j', (text, expected) => {
    expect(sanitize(text)).toBe(expected)
  })

  it.each([
    'sk-ant-api03-AbC_123-xyzSECRET',
    'sk-ant-admin01-SECRETSECRET',
    'sk-proj-SECRETSECRET',
    'pk_live_SECRETSECRET',
    'key-SECRETSECRET',
    'Bearer SECRETSECRET',
    'bearer SECRETSECRET',
    'Bearer SECRET123.SECRET456.SECRET789',
    'Bearer SECRET+SECRET/SECRET==',
  ])('hides the key in %j', (key) => {
    for (const text of [
      key,
      `x-api-key: ${key}`,
      `invalid (${key}) given`,
      `"${key}"`,
      `a\n${key}\nb`,
      `key=${key}&b=1`,
    ]) {
      expect(sanitize(text)).not.toMatch(/SECRET/)
      expect(sanitize(text)).toContain('[redacted]')
    }
  })

  it('leaves one well-formed line of at most 300 characters without controls, whatever comes in', () => {
    const unit = fc.oneof(
      fc.constantFrom('\n', '\x7f', '\u2028', '\u202e', '🌊'),
      fc.string({ unit: 'binary', minLength: 1 }),
    )
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 20 }), fc.integer({ min: 1, max: 20 }), (pieces, times) => {
        const line = sanitize(pieces.join('').repeat(times))
        expect(line.length).toBeLessThanOrEqual(300)
        expect(line).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u)
        expect(line.isWellFormed()).toBe(true)
      }),
    )
  })

  it('shows that it has cut', () => {
    expect(sanitize('x'.repeat(300))).toBe('x'.repeat(300))
    expect(sanitize('x'.repeat(301))).toBe(`${'x'.repeat(299)}…`)
  })
})

describe('describeFault', () => {
  it('tells where, but not what was said', () => {
    const fault = Object.assign(new TypeError('secret\n    at secret prompt'), { code: 'ERR_X' })
    const described = describeFault(fault)
    expect(described).toMatchObject({ name: 'TypeError', code: 'ERR_X' })
    expect(described.at[0]).toContain('errors.test.ts')
    expect(described.at.length).toBeLessThanOrEqual(8)
    expect(JSON.stringify(described)).not.toContain('secret')
  })

  it.each([
    ['secret', 'string'],
    [undefined, 'undefined'],
    [null, 'object'],
  ])('describes %j by its type', (thrown, name) => {
    expect(describeFault(thrown)).toEqual({ name, at: [] })
  })
})
