import { isTerminal, type LogEvent, type TerminalEvent } from '../core/events.ts'
import type { Cursor, LogStore, OwnerSignals, StreamLog } from '../core/ports.ts'
import { ArchivedLog } from './archived.ts'
import { PackedEvents, type Reader } from './packed.ts'

/** A log in this process's memory. Readers hold a position each, never a copy, so a slow one costs nothing. */
class MemoryLog implements StreamLog {
  readonly id: string
  readonly alias: string | undefined
  readonly createdAt = new Date()
  /** What the store has counted it for, in bytes. */
  counted = 0
  /** Let go at the end: it holds the whole request, images and all, which a finished log must not. */
  #owner: OwnerSignals | undefined
  readonly #onGrown: (log: MemoryLog) => void
  readonly #events = new PackedEvents()
  readonly #wakes = new Map<Reader, () => void>()
  #terminal: TerminalEvent | undefined

  constructor(id: string, alias: string | undefined, owner: OwnerSignals, onGrown: (log: MemoryLog) => void) {
    this.id = id
    this.alias = alias
    this.#owner = owner
    this.#onGrown = onGrown
  }

  get bytes(): number {
    return this.#events.bytes
  }

  get sealed(): boolean {
    return this.#terminal !== undefined
  }

  append(events: readonly LogEvent[]): void {
    if (this.sealed) throw new Error('append to a sealed log')
    const last = events.at(-1)
    if (last && isTerminal(last)) this.#terminal = last
    this.#events.push(events)
    for (const wake of this.#wakes.values()) wake()
    this.#events.pack(this.#wakes.keys(), this.sealed)
    if (this.sealed) this.#owner = undefined
    this.#onGrown(this)
  }

  cursor(wake: () => void): Cursor {
    const reader = this.#events.reader()
    this.#wakes.set(reader, wake)
    this.#owner?.onReaders(this.#wakes.size)
    return {
      next: reader.next,
      close: () => {
        if (!this.#wakes.delete(reader)) return
        this.#events.pack(this.#wakes.keys(), this.sealed)
        this.#owner?.onReaders(this.#wakes.size)
      },
    }
  }

  archived(): ArchivedLog {
    return new ArchivedLog(this.id, this.createdAt, this.#events.toLines())
  }

  async history(): Promise<readonly LogEvent[]> {
    return this.#events.all()
  }

  async terminal(): Promise<TerminalEvent | undefined> {
    return this.#terminal
  }

  async stop(): Promise<void> {
    await this.#owner?.onStop()
  }
}

export interface MemoryOptions {
  /** From a log's end until it is forgotten, in milliseconds. */
  readonly retentionMs: number
  /** What all logs may take up; beyond it the oldest finished ones are forgotten early. */
  readonly maxBytes: number
}

/** Logs in memory, the finished ones for as long as they may be replayed. */
export function memoryStore({ retentionMs, maxBytes }: MemoryOptions): LogStore {
  const logs = new Map<string, MemoryLog | ArchivedLog>()
  /** Live logs by their other names. */
  const live = new Map<string, MemoryLog>()
  /** When finished logs expire, in the order of their ends, which is the same: one timer serves them all. */
  const expiries = new Map<ArchivedLog, number>()
  let bytes = 0
  let timer: NodeJS.Timeout | undefined

  function forget(log: ArchivedLog): void {
    logs.delete(log.id)
    expiries.delete(log)
    bytes -= log.bytes
  }

  function onGrown(log: MemoryLog): void {
    bytes += log.bytes - log.counted
    log.counted = log.bytes
    if (log.sealed) archive(log)
    for (const [oldest] of expiries) {
      if (bytes <= maxBytes) break
      forget(oldest)
    }
  }

  /** Readers that are at it keep the log they have. */
  function archive(log: MemoryLog): void {
    const archived = log.archived()
    bytes += archived.bytes - log.counted
    logs.set(log.id, archived)
    expiries.set(archived, performance.now() + retentionMs)
    if (log.alias !== undefined && live.get(log.alias) === log) live.delete(log.alias)
    schedule()
  }

  function expire(): void {
    timer = undefined
    const now = performance.now()
    for (const [log, at] of expiries) {
      if (at > now) break
      forget(log)
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
    get full() {
      return bytes > maxBytes
    },
    create(id, owner, alias) {
      const log = new MemoryLog(id, alias, owner, onGrown)
      logs.set(id, log)
      if (alias !== undefined) live.set(alias, log)
      return log
    },
    find: async (id) => logs.get(id),
    findLive: async (alias) => live.get(alias),
    close() {
      clearTimeout(timer)
      for (const each of [logs, live, expiries]) each.clear()
    },
  }
}
