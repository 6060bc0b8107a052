import { setImmediate as nextTurn } from 'node:timers/promises'
import type { LogEvent } from '../core/events.ts'
import type { Format, SmoothUnit } from '../core/format.ts'
import { Frames } from '../core/sse.ts'
import { eventsPerCut, recutter } from './smooth.ts'

/** How long it counts before others get their turn, in milliseconds: a long text that is cut anew takes seconds. */
const turnMs = 4

/** How many frames `format` makes of these events. */
export async function countFrames(format: Format, events: readonly LogEvent[], smooth?: SmoothUnit): Promise<number> {
  const frames = new Frames('', Number.POSITIVE_INFINITY)
  const encode = format.encoder()
  const recut = smooth && recutter(smooth)
  let began = performance.now()
  for (let at = 0; at < events.length; at += eventsPerCut) {
    const some = events.slice(at, at + eventsPerCut)
    for (const event of recut ? some.flatMap(recut) : some) encode(event, frames)
    if (performance.now() - began < turnMs) continue
    await nextTurn()
    began = performance.now()
  }
  return frames.count
}
