import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { SluiceError } from './core/errors.ts'
import type { Attacher } from './http/attach.ts'
import type { Tls } from './http/tls.ts'
import type { Streams } from './run/streams.ts'

export interface ShutdownParts {
  readonly streams: Streams
  readonly attacher: Attacher
  readonly tls: Pick<Tls, 'goAway'> | undefined
  /** How long the live streams may go on, in milliseconds. */
  readonly drainMs: number
  readonly logger: Logger
  /** Lets go of everything else, when no response is under way. */
  close(): Promise<void>
}

/** How long clients get to take the last frames before their connections are cut, in milliseconds. */
const flushMs = 1_000
const pollMs = 10

/**
 * Takes no more runs, lets the live ones go on for up to `drainMs`, then ends them and closes.
 * @returns what begins that; called again, it waits no longer
 */
export function shutdownOf({ streams, attacher, tls, drainMs, logger, close }: ShutdownParts): () => Promise<void> {
  const hurry = new AbortController()
  let closing: Promise<void> | undefined

  async function shutDown(): Promise<void> {
    logger.info({ live: streams.live, drain_ms: drainMs }, 'draining')
    const until = performance.now() + drainMs
    streams.refuse()
    tls?.goAway()
    attacher.handOver()
    await streams.drain(drainMs, hurry.signal)
    await letGo(until)
    await flushed()
    await close()
    logger.info('closed')
  }

  /** What other processes write goes on without this one. Its readers here may wait for its end, but not for ever. */
  async function letGo(until: number): Promise<void> {
    let waiting = await attacher.waiting()
    while (waiting.length + attacher.collecting > 0 && performance.now() < until && !hurry.signal.aborted) {
      await delay(pollMs)
      waiting = await attacher.waiting()
    }
    attacher.handOver()
    attacher.failCollecting(new SluiceError('shutting_down'))
    for (const connection of waiting) connection.fail(new SluiceError('shutting_down'))
  }

  /** Resolves when all responses have been sent, or after `flushMs`. */
  async function flushed(): Promise<void> {
    const until = performance.now() + flushMs
    while (attacher.connections > 0 && performance.now() < until) await delay(pollMs)
  }

  return () => {
    if (closing) hurry.abort()
    closing ??= shutDown()
    return closing
  }
}
