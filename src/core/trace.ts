import { randomText } from './random.ts'

/** Where a run stands in a trace; ids in lower-case hexadecimal digits, as W3C writes them. */
export interface TraceContext {
  readonly traceId: string
  readonly spanId: string
  /** Of whoever asked; or of the process that began the run, when another goes on with it. */
  readonly parentSpanId?: string | undefined
  /** Its spans are exported. */
  readonly sampled: boolean
}

/** What `sampled` is decided by, for traces that begin here: 14 of the 32 digits. */
const sampleSpace = 16 ** 14

/**
 * A place for a new run: in the caller's trace, as far as its header is one, with the caller's decision whether to keep
 * it; else in a new trace, of which `ratio` are kept.
 * @see https://www.w3.org/TR/trace-context/#traceparent-header
 */
export function beginTrace(traceparent: string | undefined, ratio: number): TraceContext {
  const spanId = newSpanId()
  const caller = traceparent === undefined ? undefined : parseTraceparent(traceparent)
  if (caller) return { ...caller, spanId, parentSpanId: caller.spanId }
  const traceId = randomHex(16)
  return { traceId, spanId, sampled: Number.parseInt(traceId.slice(-14), 16) < ratio * sampleSpace }
}

/** The same trace, for whoever goes on with a run. */
export function continueTrace({ traceId, spanId, sampled }: TraceContext): TraceContext {
  return { traceId, spanId: newSpanId(), parentSpanId: spanId, sampled }
}

export function newSpanId(): string {
  return randomHex(8)
}

/** For the service that `spanId` calls. */
export function traceparentOf({ traceId, sampled }: TraceContext, spanId: string): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`
}

/** Later versions may say more behind the flags; `ff` is none, and neither are ids of nothing but zeros. */
function parseTraceparent(header: string): Omit<TraceContext, 'parentSpanId'> | undefined {
  const [, version, traceId, spanId, flags, more] =
    /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(header) ?? []
  if (!traceId || !spanId || !flags || version === 'ff' || (version === '00' && more !== undefined)) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
}

function randomHex(bytes: number): string {
  return Buffer.from(randomText(bytes), 'base64url').toString('hex')
}
