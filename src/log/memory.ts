import { isTerminal, type LogEvent } from '../core/events.ts'
import type { Cursor, LogStore, OwnerSignals, StreamLog } from '../core/ports.ts'

/** A log in this process's memory. Readers hold a position each, never a copy, so a slow one costs nothing. */
class MemoryLog implements StreamLog {
  readonly id: string
  readonly createdAt = new Date()
  readonly #owner: OwnerSignals
  readonly #onSealed: () => void
  readonly #events: LogEvent[] = []
  readonly #wakes = new Map<Cursor, () => void>()
  #sealed = false

  constructor(id: string, owner: OwnerSignals, onSealed: () => void) {
    this.id = id
    this.#owner = owner
    this.#onSealed = onSealed
  }

  append(events: readonly LogEvent[]): void {
    for (const event of events) {
      if (this.#sealed) throw new Error('append to a sealed log')
      this.#events.push(event)
      if (isTerminal(event)) this.#sealed = true
    }
    for (const wake of this.#wakes.values()) wake()
    if (this.#sealed) this.#onSealed()
  }

  cursor(wake: () => void): Cursor {
    const events = this.#events
    let position = 0
    const cursor: Cursor = {
      next(limit) {
        const batch = events.slice(position, position + limit)
        position += batch.length
        return batch
      },
      close: () => {
        if (this.#wakes.delete(cursor)) this.#owner.onReaders(this.#wakes.size)
      },
    }
    this.#wakes.set(cursor, wake)
    this.#owner.onReaders(this.#wakes.size)
    return cursor
  }

  async history(): Promise<readonly LogEvent[]> {
    return this.#events.slice()
  }

  async stop(): Promise<void> {
    if (!this.#sealed) await this.#owner.onStop()
  }
}

/**
 * Logs in memory, the finished ones for as long as they may be replayed.
 * @param retentionMs from a log's end until it is forgotten
 */
export function memoryStore(retentionMs: number): LogStore {
  const logs = new Map<string, StreamLog>()
  /** Finished logs in the order of their ends, which is the order they expire in: one timer serves them all. */
  const finished: { id: string; expiresAt: number }[] = []
  let timer: NodeJS.Timeout | undefined

  function expire(): void {
    timer = undefined
    const now = performance.now()
    while (finished[0] && finished[0].expiresAt <= now) {
      logs.delete(finished[0].id)
      finished.shift()
    }
    schedule()
  }

  function schedule(): void {
    const next = finished[0]
    if (!next || timer) return
    timer = setTimeout(expire, Math.max(1, next.expiresAt - performance.now()))
    timer.unref()
  }

  return {
    create(id, owner) {
      const log = new MemoryLog(id, owner, () => {
        finished.push({ id, expiresAt: performance.now() + retentionMs })
        schedule()
      })
      logs.set(id, log)
      return log
    },
    find: async (id) => logs.get(id),
    close() {
      clearTimeout(timer)
      logs.clear()
      finished.length = 0
    },
  }
}
