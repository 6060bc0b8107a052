import { SluiceError } from '../core/errors.ts'
import type { LogEvent, UpstreamEvent } from '../core/events.ts'
import type { StreamLog, UpstreamStream } from '../core/ports.ts'
import type { Ledger } from './ledger.ts'

export interface PumpTarget {
  readonly log: StreamLog
  readonly ledger: Ledger
  /** More upstream bytes than this end the stream. */
  readonly maxBytes: number
  /** `max_tokens`, when the log is to tell how far the answer is. */
  readonly progressOf: number | undefined
  /** Called for each batch that holds more than pings. */
  onEvents(): void
}

/**
 * Moves one answer into the log, a batch per upstream read, until `message_stop`: nothing else proves that it is whole.
 * @returns why the answer is not whole; `undefined` when it is
 */
export async function pump(stream: UpstreamStream, target: PumpTarget): Promise<SluiceError | undefined> {
  const { log, ledger } = target
  const held: LogEvent[] = []
  for await (const batch of stream) {
    const admitted = admit(batch, held, ledger)
    if (batch.some((event) => event.type !== 'ping')) target.onEvents()
    addProgress(admitted, target)
    const whole = admitted.at(-1)?.type === 'message_stop'
    if (whole && !ledger.begun) return new SluiceError('upstream_protocol', { reason: 'no message_start' })
    const stored = admitted.length > 0 ? log.append(admitted) : undefined
    if (stored) await stored
    if (whole) {
      stream.release()
      return undefined
    }
    if (stream.bytes > target.maxBytes) return new SluiceError('limit_exceeded', { reason: 'max_bytes' })
  }
  return new SluiceError('upstream_truncated', { reason: 'eof' })
}

/**
 * What of a batch goes into the log: no pings, nothing after `message_stop`, and what comes before any content only
 * together with it, so that an attempt that fails there leaves no trace. Until then it waits in `held`.
 */
function admit(batch: readonly UpstreamEvent[], held: LogEvent[], ledger: Ledger): LogEvent[] {
  const admitted: LogEvent[] = []
  for (const event of batch) {
    if (event.type === 'ping') continue
    if (event.type !== 'unknown') ledger.observe(event)
    if (!ledger.contentSent) {
      held.push(event)
      if (isPreamble(event)) continue
      ledger.noteContent()
      admitted.push(...held.splice(0))
    } else {
      admitted.push(event)
    }
    if (event.type === 'message_stop') break
  }
  return admitted
}

function addProgress(admitted: LogEvent[], { ledger, progressOf }: PumpTarget): void {
  if (progressOf === undefined || !ledger.contentSent) return
  const progress = ledger.progress(progressOf)
  // Before the last event, as nothing may follow `message_stop`.
  if (progress) admitted.splice(-1, 0, progress)
}

/** Opens a message or a block without showing anything yet. */
function isPreamble(event: Exclude<UpstreamEvent, { type: 'ping' }>): boolean {
  if (event.type === 'message_start') return true
  if (event.type !== 'content_block_start') return false
  const block = event.content_block
  return (block.type === 'text' && !block.text) || (block.type === 'thinking' && !block.thinking)
}
