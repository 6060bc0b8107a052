import { SluiceError } from '../core/errors.ts'
import type { LogEvent, UpstreamEvent } from '../core/events.ts'
import type { StreamLog, UpstreamStream } from '../core/ports.ts'
import type { Ledger } from './ledger.ts'

export interface PumpTarget {
  readonly log: StreamLog
  readonly ledger: Ledger
  /** More upstream bytes than this end the stream. */
  readonly maxBytes: number
  /** Called once per batch that holds more than pings. */
  onEvents(): void
}

/**
 * Moves one answer into the log, a batch per upstream read, until `message_stop`: nothing else proves that it is whole.
 * What comes before any content is held back, so that an attempt that fails there leaves no trace.
 * @returns why the answer is not whole; `undefined` when it is
 */
export async function pump(stream: UpstreamStream, target: PumpTarget): Promise<SluiceError | undefined> {
  const { log, ledger } = target
  let held: LogEvent[] = []
  for await (const batch of stream) {
    const admitted: LogEvent[] = []
    let heard = false
    let whole = false
    for (const event of batch) {
      if (event.type === 'ping') continue
      heard = true
      if (event.type !== 'unknown') ledger.observe(event)
      if (!ledger.contentSent && isPreamble(event)) {
        held.push(event)
        continue
      }
      if (held.length > 0) {
        admitted.push(...held)
        held = []
      }
      ledger.noteContent()
      admitted.push(event)
      whole = event.type === 'message_stop'
      if (whole) break
    }
    if (heard) target.onEvents()
    if (admitted.length > 0) {
      const stored = log.append(admitted)
      if (stored) await stored
    }
    if (whole) {
      stream.release()
      return undefined
    }
    if (stream.bytes > target.maxBytes) return new SluiceError('limit_exceeded', { reason: 'max_bytes' })
  }
  return new SluiceError('upstream_truncated', { reason: 'eof' })
}

/** Opens a message or a block without showing anything yet. */
function isPreamble(event: Exclude<UpstreamEvent, { type: 'ping' }>): boolean {
  if (event.type === 'message_start') return true
  if (event.type !== 'content_block_start') return false
  const block = event.content_block
  return (block.type === 'text' && !block.text) || (block.type === 'thinking' && !block.thinking)
}
