import type { Delta } from '../core/delta.ts'
import { SluiceError } from '../core/errors.ts'
import type { LogEvent, UpstreamEvent } from '../core/events.ts'
import type { StreamLog, UpstreamSink, UpstreamStream } from '../core/ports.ts'
import type { Ledger } from './ledger.ts'
import type { Seam } from './seam.ts'

export interface PumpTarget {
  readonly log: StreamLog
  readonly ledger: Ledger
  /** More upstream bytes than this end the stream. */
  readonly maxBytes: number
  /** `max_tokens`, when the log is to tell how far the answer is. */
  readonly progressOf: number | undefined
  readonly clock: EventClock
  /** Told to readers before any of the answer's content. */
  readonly opening: LogEvent | undefined
  /** Where the answer goes on with one that is in the log. */
  readonly seam: Seam | undefined
}

export interface EventClock {
  /** A batch came that holds more than pings. */
  tookEvents(): void
  /** Something came that readers get: a new attempt would repeat it. */
  beganContent(): void
}

/**
 * Moves one answer into the log, a batch per upstream read, until `message_stop`: nothing else proves that it is whole.
 * @returns why the answer is not whole; `undefined` when it is
 */
export function pump(stream: UpstreamStream, target: PumpTarget): Promise<SluiceError | undefined> {
  return new Promise((resolve, reject) => stream.deliver(new Pump(stream, target, resolve, reject)))
}

class Pump implements UpstreamSink {
  // Flat, as each object on the way of an event costs a cache miss when a thousand streams take turns.
  readonly #stream: UpstreamStream
  readonly #log: StreamLog
  readonly #ledger: Ledger
  readonly #clock: EventClock
  readonly #maxBytes: number
  readonly #progressOf: number | undefined
  readonly #resolve: (failure: SluiceError | undefined) => void
  readonly #reject: (fault: unknown) => void
  readonly #seam: Seam | undefined
  /** What came before any content; `undefined` once content has. */
  #held: LogEvent[] | undefined

  constructor(
    stream: UpstreamStream,
    target: PumpTarget,
    resolve: (failure: SluiceError | undefined) => void,
    reject: (fault: unknown) => void,
  ) {
    this.#stream = stream
    this.#log = target.log
    this.#ledger = target.ledger
    this.#clock = target.clock
    this.#maxBytes = target.maxBytes
    this.#progressOf = target.progressOf
    this.#seam = target.seam
    this.#held = target.opening ? [target.opening] : []
    this.#resolve = resolve
    this.#reject = reject
  }

  onEvents(batch: readonly UpstreamEvent[]): void {
    try {
      this.#take(batch)
    } catch (fault) {
      this.#fail(fault)
    }
  }

  onEnd(failure: SluiceError | undefined): void {
    this.#resolve(failure ?? new SluiceError('upstream_truncated', { reason: 'eof' }))
  }

  #take(batch: readonly UpstreamEvent[]): void {
    const ledger = this.#ledger
    let admitted = this.#admit(batch)
    if (admitted.length > 0 || batch.some(({ type }) => type !== 'ping')) this.#clock.tookEvents()
    if (this.#seam) admitted = this.#seam.take(admitted)
    if (this.#progressOf !== undefined) admitted = withProgress(admitted, ledger, this.#progressOf)
    const whole = admitted.at(-1)?.type === 'message_stop'
    if (whole && !ledger.begun)
      return void this.#end(new SluiceError('upstream_protocol', { reason: 'no message_start' }))
    const storing = admitted.length > 0 ? this.#log.append(admitted) : undefined
    if (!storing) return void this.#stored(whole)
    this.#stream.pause()
    storing.then(
      () => {
        this.#stored(whole)
        this.#stream.resume()
      },
      (fault) => this.#fail(fault),
    )
  }

  /**
   * What of a batch goes into the log: no pings, nothing after `message_stop`, and what comes before any content only
   * together with it, so that an attempt that fails there leaves no trace. Until then it is held.
   */
  #admit(batch: readonly UpstreamEvent[]): readonly LogEvent[] {
    const ledger = this.#ledger
    // Nearly all batches are deltas alone, and go on as they are.
    if (!this.#held && batch.every(isDelta)) {
      for (const delta of batch) ledger.observe(delta)
      return batch
    }
    const admitted: LogEvent[] = []
    for (const event of batch) {
      if (event.type === 'ping') continue
      if (event.type !== 'unknown') ledger.observe(event)
      if (this.#held && isPreamble(event)) {
        this.#held.push(event)
        continue
      }
      if (this.#held) this.#beginContent(admitted, this.#held)
      admitted.push(event)
      if (event.type === 'message_stop') break
    }
    return admitted
  }

  #beginContent(admitted: LogEvent[], held: readonly LogEvent[]): void {
    this.#held = undefined
    this.#ledger.noteContent()
    this.#clock.beganContent()
    admitted.push(...held)
  }

  /** @param whole what was stored ends with `message_stop` */
  #stored(whole: boolean): void {
    if (whole) this.#end()
    else if (this.#stream.bytes > this.#maxBytes) {
      this.#end(new SluiceError('limit_exceeded', { reason: 'max_bytes' }))
    }
  }

  #end(failure?: SluiceError): void {
    if (failure) this.#stream.abandon()
    else this.#stream.release()
    this.#resolve(failure)
  }

  #fail(fault: unknown): void {
    this.#stream.abandon()
    this.#reject(fault)
  }
}

function withProgress(events: readonly LogEvent[], ledger: Ledger, maxTokens: number): readonly LogEvent[] {
  const progress = ledger.contentSent ? ledger.progress(maxTokens) : undefined
  // Before the last event, as nothing may follow `message_stop`.
  return progress ? events.toSpliced(-1, 0, progress) : events
}

function isDelta(event: UpstreamEvent): event is Delta {
  return event.type === 'delta'
}

/** Opens a message or a block without showing anything yet. */
function isPreamble(event: Exclude<UpstreamEvent, { type: 'ping' }>): boolean {
  if (event.type === 'message_start') return true
  if (event.type !== 'content_block_start') return false
  const block = event.content_block
  return (block.type === 'text' && !block.text) || (block.type === 'thinking' && !block.thinking)
}
