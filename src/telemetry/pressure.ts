import { constants, monitorEventLoopDelay, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Pressure } from '../core/ports.ts'
import type { ProcessBounds } from './bounds.ts'

/** What the process says about itself. Sizes in bytes, times in milliseconds. */
export interface ProcessReadings {
  /** Of the monotonic clock. */
  now(): number
  /** Used of V8's old generation, garbage included. */
  oldBytes(): number
  /** `resident` is what the kernel counts, `accounted` what is known to be in use: V8's heap, all buffers, the program. */
  memory(): { resident: number; accounted: number }
  /** The longest standstill of the event loop since the last call. */
  standstillMs(): number
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

/** A reading takes 15 µs, a stream begins in 300: in between, at most 30 streams are admitted unseen. */
const maxAgeMs = 10

/** How long the event loop is watched before it is judged. */
const windowMs = 500
/**
 * Windows looked at, and how many of them must have had too long a standstill. One pause, be it a second long, is one
 * window: it is over when the next request is read, and refuses nobody. Full collections take 10 to 100 ms. A process
 * that stands still again and again is refused in its second window, and has two seconds to be well again.
 */
const windows = 4
const badWindows = 2

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
  #standstills: readonly number[] = []

  /** @param maxLagMs standstills of the event loop up to here do not count */
  constructor(bounds: ProcessBounds, maxLagMs: number, readings: ProcessReadings) {
    this.#bounds = bounds
    this.#maxLagMs = maxLagMs
    this.#readings = readings
  }

  get reason(): 'heap' | 'memory' | 'event_loop' | undefined {
    const now = this.#readings.now()
    if (now - this.#readAt >= maxAgeMs) this.#read(now)
    if (this.#memory) return this.#memory
    return this.#standstills.filter((ms) => ms > this.#maxLagMs).length >= badWindows ? 'event_loop' : undefined
  }

  /** V8 has collected all garbage. */
  collected(): void {
    this.#survivors = this.#readings.oldBytes()
    this.#readAt = Number.NEGATIVE_INFINITY
  }

  /** Closes a window. To be called every `windowMs`. */
  look(): void {
    this.#standstills = [...this.#standstills.slice(1 - windows), this.#readings.standstillMs()]
    const now = this.#readings.now()
    this.#read(now)
    const short = this.#shortSince !== undefined && now - this.#shortSince >= collectAfterMs
    if (!short || now - this.#collectedAt < collectEveryMs) return
    this.#collectedAt = now
    this.#readings.collect()
  }

  #read(now: number): void {
    this.#readAt = now
    this.#memory = this.#shortage()
    this.#shortSince = this.#memory && (this.#shortSince ?? now)
  }

  #shortage(): 'heap' | 'memory' | undefined {
    const { oldBytes, memoryBytes } = this.#bounds
    if (this.#survivors > oldBytes * survivorsShare || this.#readings.oldBytes() > oldBytes * usedShare) return 'heap'
    const { resident, accounted } = this.#readings.memory()
    return resident > memoryBytes * residentShare && accounted > memoryBytes * accountedShare ? 'memory' : undefined
  }
}

/** Pressure of this process, watched until it is closed. */
export interface WatchedPressure extends Pressure {
  close(): void
}

/** @param onChange called, up to half a second late, when streams begin to be refused and when no longer */
export function watchPressure(
  bounds: ProcessBounds,
  maxLagMs: number,
  onChange: (reason: string | undefined) => void = () => {},
): WatchedPressure {
  const delay = monitorEventLoopDelay({ resolution: resolutionMs })
  delay.enable()
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage()
  const program = rss - heapUsed - arrayBuffers
  const gauge = new PressureGauge(bounds, maxLagMs, {
    now: () => performance.now(),
    oldBytes,
    memory() {
      const { rss, heapUsed, arrayBuffers } = process.memoryUsage()
      return { resident: rss, accounted: program + heapUsed + arrayBuffers }
    },
    standstillMs() {
      const ms = delay.max / 1e6 - resolutionMs
      delay.reset()
      return Math.max(0, ms)
    },
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
  }, windowMs)
  timer.unref()
  return {
    get reason() {
      return gauge.reason
    },
    close() {
      clearInterval(timer)
      delay.disable()
      collections.disconnect()
    },
  }
}

/** The histogram measures the time between timers this far apart. */
const resolutionMs = 20

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
