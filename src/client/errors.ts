import type { ErrorCode } from '../core/errors.ts'
import type { TerminalFrame } from './terminal.ts'

/** What the client itself has to tell, beside the codes of the server. */
export type ClientErrorCode =
  /** It could not be reached, or broke off, more often than the client puts up with. */
  | 'connection_lost'
  /** It answers, but not as Sluice does. */
  | 'not_sluice'
  /** The stream was stopped: by `abort()` here, or by somebody else. */
  | 'cancelled'
  /** `close()` was called, or a loop over the frames was left, before the end. */
  | 'closed'
  /** A resume began at the end of a stream: how that ended is not told again. */
  | 'already_finished'
  /** A resume began in the middle of a message, which is not told again. */
  | 'begun_before'

interface Details {
  readonly retryable?: boolean
  readonly partial?: boolean
  readonly status?: number
  readonly requestId?: string | undefined
  readonly retryAfterMs?: number | undefined
  readonly cause?: unknown
}

/** The one error of the client, whatever went wrong and wherever. */
export class SluiceClientError extends Error {
  override readonly name = 'SluiceClientError'
  /** One of the table in docs/errors.md, or of the client's own; later servers may know more. */
  readonly code: ErrorCode | ClientErrorCode | (string & {})
  /** The same request may go well later. */
  readonly retryable: boolean
  /** Content had come: what you hold is the beginning of an answer. */
  readonly partial: boolean
  /** The HTTP status, if there was one. */
  readonly status: number | undefined
  /** For whoever runs the server: it stands in its log. */
  readonly requestId: string | undefined
  /** What the server said about when to try again, in milliseconds. */
  readonly retryAfterMs: number | undefined

  constructor(code: SluiceClientError['code'], message: string, details: Details = {}) {
    super(message, { cause: details.cause })
    this.code = code
    this.retryable = details.retryable ?? false
    this.partial = details.partial ?? false
    this.status = details.status
    this.requestId = details.requestId
    this.retryAfterMs = details.retryAfterMs
  }
}

/** Statuses that pass by themselves, where the answer is not Sluice's: a proxy's, mostly. */
const passing: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504, 529])

/** An HTTP answer that is no stream, as an error. */
export async function refusalOf(response: Response, partial: boolean): Promise<SluiceClientError> {
  const { status, headers } = response
  const body: unknown = await response.json().catch(() => undefined)
  const told = (body as { error?: { code?: unknown; message?: unknown; retryable?: unknown } } | undefined)?.error
  const known = typeof told?.code === 'string'
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  return new SluiceClientError(
    known ? String(told.code) : 'not_sluice',
    known ? String(told.message) : `The server answered with HTTP ${status}.`,
    {
      retryable: known ? told.retryable === true : passing.has(status),
      partial,
      status,
      requestId: headers.get('x-request-id') ?? undefined,
      retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
    },
  )
}

/** What a stream that did not end in `done` ended in. */
export function errorOf(frame: Exclude<TerminalFrame, { type: 'done' }>, partial = false): SluiceClientError {
  if (frame.type === 'cancelled') return new SluiceClientError('cancelled', 'The stream was stopped.', { partial })
  const { code, message, retryable } = frame.error
  return new SluiceClientError(code, message, { retryable, partial: frame.partial })
}
