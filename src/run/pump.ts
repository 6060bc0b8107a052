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
export function pump(stream: UpstreamStream, target: PumpTarget): Promise<SluiceError | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<SluiceError | undefined>()
  const { log, ledger } = target
  const held: LogEvent[] = []

  function end(failure?: SluiceError): void {
    if (failure) stream.abandon()
    else stream.release()
    resolve(failure)
  }

  function fail(fault: unknown): void {
    stream.abandon()
    reject(fault)
  }

  /** @param whole what was stored ends with `message_stop` */
  function stored(whole: boolean): void {
    if (whole) end()
    else if (stream.bytes > target.maxBytes) end(new SluiceError('limit_exceeded', { reason: 'max_bytes' }))
  }

  function take(batch: readonly UpstreamEvent[]): void {
    const admitted = admit(batch, held, ledger)
    if (admitted.length > 0 || batch.some((event) => event.type !== 'ping')) target.onEvents()
    addProgress(admitted, target)
    const whole = admitted.at(-1)?.type === 'message_stop'
    if (whole && !ledger.begun) return void end(new SluiceError('upstream_protocol', { reason: 'no message_start' }))
    const storing = admitted.length > 0 ? log.append(admitted) : undefined
    if (!storing) return void stored(whole)
    stream.pause()
    storing.then(() => {
      stored(whole)
      stream.resume()
    }, fail)
  }

  stream.deliver({
    onEvents(batch) {
      try {
        take(batch)
      } catch (fault) {
        fail(fault)
      }
    },
    onEnd: (failure) => resolve(failure ?? new SluiceError('upstream_truncated', { reason: 'eof' })),
  })
  return promise
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
