import type { SluiceError } from '../core/errors.ts'
import type { ErrorEvent } from '../core/events.ts'
import { noUsage } from '../core/usage.ts'

/** What a connection says of an answer that it knows no end of. */
export function endUnknown(error: SluiceError): ErrorEvent {
  const usage = { ...noUsage, measured: false } as const
  const timing = { ttft_ms: null, duration_ms: 0, tokens_per_second: null }
  return { type: 'error', error: error.toPublic(), partial: true, usage, timing }
}
