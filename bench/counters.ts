import { createHook } from 'node:async_hooks'
import { PerformanceObserver } from 'node:perf_hooks'

/** What a process has used so far. */
export interface Counters {
  /** Bytes on V8's heap, and bytes of buffers outside of it. */
  readonly heap: number
  readonly external: number
  /** Garbage collections. Where there was none between two readings, the memory is all that was allocated. */
  readonly collections: number
  /** What is open now and keeps the loop busy, by kind. */
  readonly open: Readonly<Record<string, number>>
  /** Promises, ticks, timers, writes under way and the like that were made since `watch`, by kind. */
  readonly made: Readonly<Record<string, number>>
}

/** What the parent may ask for; each is answered with counters. */
export type Question = 'read' | 'collect' | 'collect young' | 'watch' | 'unwatch'

/**
 * Preloaded into a server (`--import`) that is a child with an IPC channel: answers the parent's questions. Readings go
 * over IPC, which Node reads with `recvmsg`: so they are not in the kernel's count of reads and writes.
 */
const made: Record<string, number> = {}
let collections = 0

// It makes every promise slower and larger, so it is on only while it is asked for.
const hook = createHook({
  init(_id, type) {
    made[type] = (made[type] ?? 0) + 1
  },
})
new PerformanceObserver((list) => {
  collections += list.getEntries().length
}).observe({ entryTypes: ['gc'] })

function read(): Counters {
  const { heapUsed, external } = process.memoryUsage()
  const open = Object.groupBy(process.getActiveResourcesInfo(), (kind) => kind)
  return {
    heap: heapUsed,
    external,
    collections,
    open: Object.fromEntries(Object.entries(open).map(([kind, each]) => [kind, each?.length ?? 0])),
    made: { ...made },
  }
}

process.on('message', (question: Question) => {
  if (question === 'collect') globalThis.gc?.()
  // Twice, as it takes two for an object to grow old.
  if (question === 'collect young') for (let n = 0; n < 2; n++) globalThis.gc?.({ type: 'minor' })
  if (question === 'watch') hook.enable()
  if (question === 'unwatch') hook.disable()
  // Observers hear of a collection in a later turn of the loop.
  setTimeout(() => process.send?.(read()), 5)
})
// It must not outlive whoever asks.
process.on('disconnect', () => process.exit())
process.channel?.unref()
