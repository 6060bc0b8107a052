import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Pressure } from '../core/ports.ts'
import type { ProcessBounds } from './bounds.ts'
import { isCrowded, type LoopReading, type LoopUse, loopUse, readLoop } from './loop.ts'

/** What the process says about itself. Sizes in bytes, times in milliseconds. */
export interface ProcessReadings {
  /** Of the monotonic clock. */
  now(): number
  /** Used of V8's old generation, garbage included. */
  oldBytes(): number
  /** `resident` is what the kernel counts, `accounted` what is known to be in use: V8's heap, all buffers, the program. */
  memory(): { resident: number; accounted: number }
  loop(): LoopReading
  /** Streams under way. */
  live(): number
  /** Collects all garbage, now. */
  collect(): void
}

/**
 * Of the old generation's bound, what survived the last full collection. V8 aborts not only at the bound, but from 80 % on
 * when it does little but collect ("ineffective mark-compacts"), which at 128 MiB it did with 25 streams of 1.5 MB prompts.
 * Up to there must fit what the streams under way still grow by: 10 MiB for 1,000 of them.
 */
const survivorsShare = 0.65
/**
 * Of the same bound, garbage included, for what is admitted between collections. V8 lets the old generation grow to at
 * most halfway between what survived and the bound: above this, at least half was alive, and a collection is due.
 */
const usedShare = 0.75

/**
 * Of the memory that the process may have. Streams under way took 7 % more after the first refusal (512 MiB, at its full
 * CPU), and the kernel counts what its sockets hold on top.
 */
const residentShare = 0.8
/**
 * Resident memory hardly shrinks: when 300 MB of logs had been freed, the allocator kept 250 MB of it for the next, and
 * the process would be refused for ever. With less than this in use there is room in what is resident already. When it
 * became short, 63 % were in use (512 MiB, 300 streams) or 66 % (256 MiB, 1,200 streams); idle again 49 and 51 %.
 */
const accountedShare = 0.6

/** Reading the heap takes 2 µs, a stream begins in 300: in between, at most 30 streams are admitted unseen. */
const maxAgeMs = 10
/**
 * Resident memory comes from a file of the kernel's, the dearest part of a reading, and was 2.5 % of the CPU of a storm of
 * requests when it was read with the heap. In between, at most 300 streams are admitted unseen, with 30 MB.
 */
const memoryMaxAgeMs = 100

/** How often the event loop is looked at, and over how many looks it is judged: over a second. */
const lookEveryMs = 250
const looks = 4
/**
 * The limit is 60 ms unless set: at 5, neighbours on the same processor alone made it refuse, as what they take lengthens
 * turns, too; at 25 it refused a sixth of what could be carried as promptly as by a byte pipe.
 *
 * Fewer streams than this may make turns so many times as long. What takes long then is what they do, not how many they
 * are: 128 at full speed make turns of 18 to 25 ms, as reads are full, and lose nothing when others come.
 */
const crowd = 256
const fewStreamsFactor = 8

/** Garbage is not pressure, but a process in which nothing happens does not collect it: then it is made to. */
const collectAfterMs = 5_000
/** A collection stops the process, for 30 to 100 ms with 30 MB alive: not more often than this. */
const collectEveryMs = 15_000

/** Tells whether the process is near a bound. Memory is looked at when somebody asks, the event loop all the time. */
export class PressureGauge implements Pressure {
  readonly #bounds: ProcessBounds
  readonly #maxLagMs: number
  readonly #readings: ProcessReadings
  /** Used of the old generation right after the last full collection. */
  #survivors = 0
  #memory: 'heap' | 'memory' | undefined
  #readAt = Number.NEGATIVE_INFINITY
  /** Since when memory has been short at every reading. */
  #shortSince: number | undefined
  #collectedAt = Number.NEGATIVE_INFINITY
  #memoryReadAt = Number.NEGATIVE_INFINITY
  #memoryShort = false
  #loop: readonly LoopReading[] = []
  #crowded = false

  /** @param maxLagMs how long turns of the event loop may be on average */
  constructor(bounds: ProcessBounds, maxLagMs: number, readings: ProcessReadings) {
    this.#bounds = bounds
    this.#maxLagMs = maxLagMs
    this.#readings = readings
  }

  get reason(): 'heap' | 'memory' | 'event_loop' | undefined {
    const now = this.#readings.now()
    if (now - this.#readAt >= maxAgeMs) this.#read(now)
    if (this.#memory) return this.#memory
    return this.#crowded ? 'event_loop' : undefined
  }

  /** Of the last second. */
  get loop(): LoopUse {
    return loopUse(this.#loop)
  }

  /** V8 has collected all garbage. */
  collected(): void {
    this.#survivors = this.#readings.oldBytes()
    this.#readAt = Number.NEGATIVE_INFINITY
  }

  /** Judges the event loop. To be called every `lookEveryMs`. */
  look(): void {
    const { loop, live } = this.#readings
    this.#loop = [...this.#loop.slice(-looks), loop()]
    const maxMs = live() < crowd ? this.#maxLagMs * fewStreamsFactor : this.#maxLagMs
    this.#crowded = isCrowded(this.#loop, maxMs, this.#crowded)
    const now = this.#readings.now()
    this.#read(now)
    const short = this.#shortSince !== undefined && now - this.#shortSince >= collectAfterMs
    if (!short || now - this.#collectedAt < collectEveryMs) return
    this.#collectedAt = now
    this.#readings.collect()
  }

  #read(now: number): void {
    this.#readAt = now
    this.#memory = this.#shortage(now)
    this.#shortSince = this.#memory && (this.#shortSince ?? now)
  }

  #shortage(now: number): 'heap' | 'memory' | undefined {
    const { oldBytes, memoryBytes } = this.#bounds
    if (this.#survivors > oldBytes * survivorsShare || this.#readings.oldBytes() > oldBytes * usedShare) return 'heap'
    if (now - this.#memoryReadAt >= memoryMaxAgeMs) {
      this.#memoryReadAt = now
      const { resident, accounted } = this.#readings.memory()
      this.#memoryShort = resident > memoryBytes * residentShare && accounted > memoryBytes * accountedShare
    }
    return this.#memoryShort ? 'memory' : undefined
  }
}

/** Pressure of this process, watched until it is closed. */
export interface WatchedPressure extends Pressure {
  readonly loop: LoopUse
  close(): void
}

/**
 * @param live how many streams are under way
 * @param onChange called, up to a quarter of a second late, when streams begin to be refused and when no longer
 */
export function watchPressure(
  bounds: ProcessBounds,
  maxLagMs: number,
  live: () => number,
  onChange: (reason: string | undefined) => void = () => {},
): WatchedPressure {
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage()
  const program = rss - heapUsed - arrayBuffers
  const gauge = new PressureGauge(bounds, maxLagMs, {
    now: () => performance.now(),
    oldBytes,
    memory() {
      const { rss, heapUsed, arrayBuffers } = process.memoryUsage()
      return { resident: rss, accounted: program + heapUsed + arrayBuffers }
    },
    loop: readLoop,
    live,
    collect,
  })
  const collections = new PerformanceObserver((list) => {
    if (list.getEntries().some(isFull)) gauge.collected()
  })
  collections.observe({ entryTypes: ['gc'] })
  let told: string | undefined
  const timer = setInterval(() => {
    gauge.look()
    const { reason } = gauge
    if (reason !== told) onChange(reason)
    told = reason
  }, lookEveryMs)
  timer.unref()
  return {
    get reason() {
      return gauge.reason
    },
    get loop() {
      return gauge.loop
    },
    close() {
      clearInterval(timer)
      collections.disconnect()
    },
  }
}

/** Node tells of every collection; most are of the young generation alone. */
function isFull(entry: PerformanceEntry & { readonly detail?: { kind?: number } }): boolean {
  return entry.detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR
}

const youngSpaces: ReadonlySet<string> = new Set(['new_space', 'new_large_object_space'])

function oldBytes(): number {
  let bytes = 0
  for (const { space_name, space_used_size } of getHeapSpaceStatistics()) {
    if (!youngSpaces.has(space_name)) bytes += space_used_size
  }
  return bytes
}

/** Node gives `gc` only to those who asked on the command line, or to contexts made after V8 was told so. */
function collect(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  gc()
}
