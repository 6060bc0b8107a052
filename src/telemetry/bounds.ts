import { totalmem } from 'node:os'
import { getHeapStatistics } from 'node:v8'

/** Where the process ends, whatever it is configured to do. Sizes in bytes. */
export interface ProcessBounds {
  /** File descriptors it may have open, sockets included. */
  readonly openFiles: number
  /** Memory it may take before the kernel kills it, or one of its like. */
  readonly memoryBytes: number
  /** What V8's old generation may grow to before V8 aborts the process. */
  readonly oldBytes: number
}

/** @param workers how many processes such as this one share the memory of the machine or container */
export function processBounds(workers = 1): ProcessBounds {
  const total = totalmem()
  const constrained = process.constrainedMemory()
  // Without a limit it is 0, or on cgroups v1 a number far beyond any machine.
  const memoryBytes = constrained > 0 && constrained < total ? constrained : total
  return {
    openFiles: openFiles(),
    memoryBytes: Math.floor(memoryBytes / workers),
    oldBytes: oldGenerationBytes(memoryBytes),
  }
}

const MiB = 2 ** 20

/**
 * `heap_size_limit` is the bound of the old generation, at which V8 aborts, and the most that the young one may take on
 * top. With --max-old-space-size=128 it is 320 MiB: at 80 % of that the process is long dead. V8 gives the young one 3
 * MiB on machines of up to 512 MiB, 48 of 1 GiB, 96 of 2 GiB, 192 from 4 GiB on (measured, Node 24): never more than this.
 * With --max-semi-space-size above 64 it would be, and this too high.
 */
export function oldGenerationBytes(memoryBytes: number, heapLimit = getHeapStatistics().heap_size_limit): number {
  return heapLimit - Math.min(192 * MiB, (memoryBytes * 3) / 64)
}

/**
 * The soft limit, which Node has raised to the hard one before any of this runs. The report knows it on every system
 * (/proc only on Linux) and takes 2 ms, once; without `excludeNetwork` it would look up the names of open connections.
 */
function openFiles(): number {
  // Not in the types yet; in Node since 22.
  const report = process.report as typeof process.report & { excludeNetwork: boolean }
  const before = report.excludeNetwork
  report.excludeNetwork = true
  const { userLimits } = report.getReport() as { userLimits?: { open_files?: { soft?: unknown } } }
  report.excludeNetwork = before
  const soft = userLimits?.open_files?.soft
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY
}

/** What streams may take, in the words of the configuration. */
export interface StreamLimits {
  readonly max_streams: number
  readonly max_total_bytes: number
}

export interface Allowance extends StreamLimits {
  /** Client connections at a time; more are closed as they come. */
  readonly max_connections: number
}

/** What one of so many workers may take of what all together may. */
export function shareOf({ max_streams, max_total_bytes }: StreamLimits, workers: number): StreamLimits {
  return { max_streams: Math.ceil(max_streams / workers), max_total_bytes: Math.floor(max_total_bytes / workers) }
}

/** Descriptors for all but streams: libraries, pipes, log, store, sockets that are being closed. A fresh process has 30. */
const spareFiles = 200
/** How many of those clients leave alone, even when there are as many as may be. */
const keptFiles = 100

/** Finished streams are kept for minutes: they alone must not bring the process near its end. */
const logsShare = 1 / 4

/**
 * Lowers what is configured to what the process can bear. Each stream has two sockets, its client's and Claude's.
 * @param onLowered called once, with the limits that had to be lowered and why
 */
export function allowanceOf(
  { openFiles, memoryBytes }: ProcessBounds,
  wanted: StreamLimits,
  onLowered: (fields: Record<string, number>) => void,
): Allowance {
  const max_streams = Math.min(wanted.max_streams, Math.max(1, Math.floor((openFiles - spareFiles) / 2)))
  const max_total_bytes = Math.min(wanted.max_total_bytes, Math.floor(memoryBytes * logsShare))
  const lowered = {
    ...(max_streams < wanted.max_streams && { max_streams, open_files: openFiles }),
    ...(max_total_bytes < wanted.max_total_bytes && { max_total_bytes, memory_bytes: memoryBytes }),
  }
  if (Object.keys(lowered).length > 0) onLowered(lowered)
  // More clients than streams: several may read one, and those that are refused have to be told so.
  const max_connections = Math.min(1_000_000, Math.max(8, openFiles - keptFiles - max_streams))
  return { max_streams, max_total_bytes, max_connections }
}
