import type { LogEvent } from '../core/events.ts'
import type { Format, SmoothUnit } from '../core/format.ts'
import { Frames } from '../core/sse.ts'
import { recutter } from './smooth.ts'

/** How many frames `format` makes of these events. */
export function countFrames(format: Format, events: readonly LogEvent[], smooth?: SmoothUnit): number {
  const frames = new Frames('', Number.POSITIVE_INFINITY)
  const encode = format.encoder()
  const recut = smooth && recutter(smooth)
  for (const event of recut ? events.flatMap(recut) : events) encode(event, frames)
  return frames.count
}
