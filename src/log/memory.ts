import { isTerminal, type LogEvent } from '../core/events.ts'
import type { Cursor, LogStore, OwnerSignals, StreamLog } from '../core/ports.ts'
import { PackedEvents, type Reader } from './packed.ts'

/** A log in this process's memory. Readers hold a position each, never a copy, so a slow one costs nothing. */
class MemoryLog implements StreamLog {
  readonly id: string
  readonly createdAt = new Date()
  /** Let go at the end: it holds the whole request, images and all, which a finished log must not. */
  #owner: OwnerSignals | undefined
  readonly #onSealed: () => void
  readonly #events = new PackedEvents()
  readonly #wakes = new Map<Reader, () => void>()
  #sealed = false

  constructor(id: string, owner: OwnerSignals, onSealed: () => void) {
    this.id = id
    this.#owner = owner
    this.#onSealed = onSealed
  }

  append(events: readonly LogEvent[]): void {
    if (this.#sealed) throw new Error('append to a sealed log')
    const last = events.at(-1)
    this.#sealed = last !== undefined && isTerminal(last)
    this.#events.push(events)
    for (const wake of this.#wakes.values()) wake()
    this.#events.pack(this.#wakes.keys(), this.#sealed)
    if (!this.#sealed) return
    this.#owner = undefined
    this.#onSealed()
  }

  cursor(wake: () => void): Cursor {
    const reader = this.#events.reader()
    this.#wakes.set(reader, wake)
    this.#owner?.onReaders(this.#wakes.size)
    return {
      next: reader.next,
      close: () => {
        if (!this.#wakes.delete(reader)) return
        this.#events.pack(this.#wakes.keys(), this.#sealed)
        this.#owner?.onReaders(this.#wakes.size)
      },
    }
  }

  async history(): Promise<readonly LogEvent[]> {
    return this.#events.all()
  }

  async stop(): Promise<void> {
    await this.#owner?.onStop()
  }
}

/**
 * Logs in memory, the finished ones for as long as they may be replayed.
 * @param retentionMs from a log's end until it is forgotten
 */
export function memoryStore(retentionMs: number): LogStore {
  const logs = new Map<string, StreamLog>()
  /** Live logs by their other names. */
  const live = new Map<string, StreamLog>()
  /** When finished logs expire, in the order of their ends, which is the same: one timer serves them all. */
  const expiries = new Map<string, number>()
  let timer: NodeJS.Timeout | undefined

  function expire(): void {
    timer = undefined
    const now = performance.now()
    for (const [id, at] of expiries) {
      if (at > now) break
      logs.delete(id)
      expiries.delete(id)
    }
    schedule()
  }

  function schedule(): void {
    const [next] = expiries.values()
    if (next === undefined || timer) return
    timer = setTimeout(expire, Math.max(1, next - performance.now()))
    timer.unref()
  }

  return {
    create(id, owner, alias) {
      const log = new MemoryLog(id, owner, () => {
        expiries.set(id, performance.now() + retentionMs)
        if (alias !== undefined && live.get(alias) === log) live.delete(alias)
        schedule()
      })
      logs.set(id, log)
      if (alias !== undefined) live.set(alias, log)
      return log
    },
    find: async (id) => logs.get(id),
    findLive: async (alias) => live.get(alias),
    close() {
      clearTimeout(timer)
      logs.clear()
      live.clear()
      expiries.clear()
    },
  }
}
