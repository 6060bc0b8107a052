import { Directory } from '../core/directory.ts'
import { cameToNothing, type LogEvent, type TerminalEvent } from '../core/events.ts'
import type { Claim, Cursor, LogOptions, LogReader, LogStore, OwnerSignals, StreamLog } from '../core/ports.ts'
import type { ToolDecision } from '../core/tools.ts'
import { ArchivedLog } from './archived.ts'
import { Expiry } from './expiry.ts'
import { LocalLog } from './local.ts'

/** A live log: its events, and the run that writes them. */
export class MemoryLog implements StreamLog {
  readonly id: string
  readonly principal: string
  readonly alias: string | undefined
  readonly key: string | undefined
  readonly createdAt: Date
  readonly shared = false
  readonly loss = undefined
  /** What the store has counted it for, in bytes. */
  counted = 0
  readonly local: LocalLog
  #owner: OwnerSignals | undefined

  constructor(id: string, options: LogOptions, createdAt: Date, onGrown: (log: MemoryLog) => void) {
    const { owner, principal = '', alias, key } = options
    this.id = id
    this.principal = principal
    this.createdAt = createdAt
    this.alias = alias
    this.key = key
    this.#owner = owner
    this.local = new LocalLog({ onReaders: (count) => owner.onReaders(count), onGrown: () => onGrown(this) })
  }

  append(events: readonly LogEvent[]): void {
    this.local.append(events)
    if (this.local.terminal) this.#owner = undefined
  }

  cursor(reader: LogReader): Cursor {
    return this.local.cursor(reader)
  }

  async history(): Promise<readonly LogEvent[]> {
    return this.local.history()
  }

  async terminal(): Promise<TerminalEvent | undefined> {
    return this.local.terminal
  }

  async caughtUp(): Promise<boolean> {
    return true
  }

  expectReaders(): void {}

  async stop(): Promise<void> {
    await this.#owner?.onStop()
  }

  async decide(call: string, decision: ToolDecision): Promise<boolean> {
    return (await this.#owner?.onDecision(call, decision)) ?? false
  }
}

export interface MemoryOptions {
  /** From a log's end until it is forgotten, in milliseconds. */
  readonly retentionMs: number
  /** How long an idempotency key, and the log that it began, is known, in milliseconds. */
  readonly keyTtlMs: number
  /** What all logs may take up; beyond it the oldest finished ones are forgotten early. */
  readonly maxBytes: number
}

/** An idempotency key, its claim and their places in the maps. */
const bytesPerKey = 400

export interface MemoryStore extends LogStore {
  create(id: string, options: LogOptions, createdAt?: Date): MemoryLog
  /** Lets go of a live log that nobody here writes any more; its readers keep it. */
  forget(id: string): void
  /** A finished log of that name is here. */
  holdsWhole(id: string): boolean
  /** Takes note of room that others take up, or give back: `bytes` more than before. */
  reserve(bytes: number): void
}

/** Logs in memory, the finished ones for as long as they may be replayed. */
export function memoryStore({ retentionMs, keyTtlMs, maxBytes }: MemoryOptions): MemoryStore {
  const logs = new Map<string, MemoryLog | ArchivedLog>()
  /** Live logs by their other names. */
  const live = new Directory<MemoryLog>()
  const claims = new Map<string, Claim>()
  const claimExpiry = new Expiry<string>(keyTtlMs, freeKey)
  const finished = new Expiry<ArchivedLog>(retentionMs, forget)
  const finishedWithKey = new Expiry<ArchivedLog>(keyTtlMs, forget)
  let bytes = 0

  function forget(log: ArchivedLog): void {
    // The name may be another's by now; the room is its own.
    if (logs.get(log.id) === log) logs.delete(log.id)
    bytes -= log.bytes
    for (const expiry of [finished, finishedWithKey]) expiry.delete(log)
  }

  function dropAlias(log: MemoryLog): void {
    if (log.alias !== undefined && live.get(log.alias) === log) live.delete(log.alias)
  }

  function freeKey(key: string): void {
    if (!claims.delete(key)) return
    claimExpiry.delete(key)
    bytes -= bytesPerKey
  }

  function onGrown(log: MemoryLog): void {
    if (logs.get(log.id) !== log) return
    bytes += log.local.bytes - log.counted
    log.counted = log.local.bytes
    if (log.local.terminal) archive(log, log.local.terminal)
    makeRoom()
  }

  function makeRoom(): void {
    while (bytes > maxBytes) {
      const oldest = finished.oldest ?? finishedWithKey.oldest
      if (!oldest) break
      forget(oldest)
    }
  }

  /** Readers that are at it keep the log they have. */
  function archive(log: MemoryLog, terminal: TerminalEvent): void {
    const archived = log.local.archived(log)
    bytes += archived.bytes - log.counted
    logs.set(log.id, archived)
    dropAlias(log)
    const kept = log.key !== undefined && !cameToNothing(terminal, log.local.length - 1)
    if (log.key !== undefined && !kept && claims.get(log.key)?.id === log.id) freeKey(log.key)
    const expiry = kept ? finishedWithKey : finished
    expiry.add(archived)
  }

  return {
    get full() {
      return bytes > maxBytes
    },
    async claim(key, { id, fingerprint }) {
      const earlier = claims.get(key)
      if (earlier) return earlier
      claims.set(key, { id, fingerprint })
      claimExpiry.add(key)
      bytes += bytesPerKey
      return undefined
    },
    claimed: async (key) => claims.get(key),
    create(id, options, createdAt = new Date()) {
      const log = new MemoryLog(id, options, createdAt, onGrown)
      logs.set(id, log)
      if (options.alias !== undefined) live.set(options.alias, log)
      return log
    },
    forget(id) {
      const log = logs.get(id)
      if (!(log instanceof MemoryLog)) return
      logs.delete(id)
      dropAlias(log)
      bytes -= log.counted
    },
    holdsWhole: (id) => logs.get(id) instanceof ArchivedLog,
    reserve(more) {
      bytes += more
      makeRoom()
    },
    find: async (id) => logs.get(id),
    findLive: async (alias) => live.get(alias),
    async close() {
      for (const expiry of [claimExpiry, finished, finishedWithKey]) expiry.close()
      for (const each of [logs, claims]) each.clear()
      live.clear()
    },
  }
}
