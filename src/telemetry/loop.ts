/** What the event loop has done since it began: the time that it worked and that it waited, and its turns. */
export interface LoopReading {
  readonly busyMs: number
  readonly idleMs: number
  readonly turns: number
}

/** What the event loop has been like from one reading to another. */
export interface LoopUse {
  /** An average turn that is not waiting, in milliseconds. */
  readonly turnMs: number
  /** The share of the time that it has worked, 0 to 1. */
  readonly utilization: number
}

/**
 * The loop counts by itself: nothing runs for this but the reading. A histogram of its delay takes timers, and drops the
 * first delay after each reset: all there is where a turn is longer than the time between two looks.
 */
export function readLoop(): LoopReading {
  const { active, idle } = performance.eventLoopUtilization()
  return { busyMs: active, idleMs: idle, turns: performance.nodeTiming.uvMetricsInfo.loopCount }
}

/** @param samples from the earliest to the latest */
export function loopUse(samples: readonly LoopReading[]): LoopUse {
  const [first, last] = [samples.at(0), samples.at(-1)]
  if (!first || !last) return { turnMs: 0, utilization: 0 }
  const busyMs = last.busyMs - first.busyMs
  const allMs = busyMs + last.idleMs - first.idleMs
  return {
    turnMs: busyMs / Math.max(1, last.turns - first.turns),
    utilization: allMs > 0 ? busyMs / allMs : 0,
  }
}

/**
 * Whether turns of the event loop are so long that new streams should be refused; `samples` go from a second ago to now.
 * A turn is what is ready waits for: all else that is ready. Utilization would not tell, as requests one after the
 * other keep any process at 100 % with nothing waiting long. With 1,700 paced streams (88 % of a processor) a turn takes
 * 0.1 ms, and 1 to 4 while some 600 a second begin; beyond the capacity more and more streams wait at once, and it
 * takes 5, 10, 25, 100, 500 ms, within three seconds.
 *
 * The average of a second, without a tenth of it idle: a pause, be it a second long, is one turn of many, and so are the
 * few long ones that a thousand requests at once take. Once refused, streams are taken again when turns are half as long.
 */
export function isCrowded(samples: readonly LoopReading[], maxMs: number, already: boolean): boolean {
  const { turnMs, utilization } = loopUse(samples)
  return turnMs > (already ? maxMs / 2 : maxMs) && utilization > 0.9
}
