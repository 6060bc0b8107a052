import { type ErrorCode, errorTable } from './error-table.ts'

export { type ErrorCode, errorTable } from './error-table.ts'

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

const keyShape = /\b(?:(?:sk|slk|slt|pk|key)[-_ ][\w-]{6,}|bearer\s+[^\s"',;()]{6,})/gi

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
