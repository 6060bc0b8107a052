import type { Load } from './orders.ts'
import { cpuPerMillion, endless, type Figure, mebibytes, perSecond, type Test } from './tests.ts'

const streams = 5_000
const minutes = 60_000

const figures: readonly Figure[] = [
  { label: 'streams begun', digits: 0, value: ({ begun }) => begun },
  { label: 'frames delivered', digits: 0, value: ({ deltas }) => deltas },
  { label: 'frames per second', digits: 0, value: perSecond },
  { label: 'CPU seconds per million frames', digits: 1, value: cpuPerMillion },
  { label: 'write to read, p50, ms', digits: 2, value: ({ latency }) => latency?.p50 },
  { label: 'write to read, p99, ms', digits: 2, value: ({ latency }) => latency?.p99 },
  { label: 'memory before the first stream, MiB', digits: 0, value: ({ bytes }) => mebibytes(bytes.before) },
  { label: 'memory at the start of the window, MiB', digits: 0, value: ({ bytes }) => mebibytes(bytes.start) },
  { label: 'memory at its end, MiB', digits: 0, value: ({ bytes }) => mebibytes(bytes.end) },
  {
    label: 'growth in the window, bytes per frame',
    digits: 1,
    value: ({ bytes, deltas }) => (bytes.end - bytes.start) / deltas,
  },
]

/** Four deltas a second each: 20,000 frames a second. */
function enduring(name: string, deltas: number, load: Load): Test {
  return {
    name,
    upstream: 'metronome',
    scenario: `text=${deltas}&bytes=40&delay_ms=250&stamp=1`,
    deltas,
    stamped: true,
    single: true,
    load: () => load,
    figures,
  }
}

/** The same streams for five minutes: their logs, which hold what a resume may ask for, grow all the time. */
export const held: Test = enduring('held', endless, {
  kind: 'hold',
  streams,
  rampMs: 20_000,
  warmUpMs: 5_000,
  windowMs: 5 * minutes,
})

/** Answers of 20 s, each followed by the next: once the first are forgotten, nothing may grow. */
export const turnover: Test = enduring('turnover', 80, {
  kind: 'loop',
  streams,
  rampMs: 20_000,
  warmUpMs: 45_000,
  windowMs: 2 * minutes,
})

/** Where a target's capacity is not known, what it is taken for. */
const usualCapacity = 30_000

/** Half as much again as the target can carry. */
export const limit: Test = {
  name: 'limit',
  upstream: 'metronome',
  scenario: `text=${endless}&bytes=40&delay_ms=50&stamp=1`,
  deltas: endless,
  stamped: true,
  overload: true,
  single: true,
  load: (capacity = usualCapacity) => {
    const streams = Math.round((capacity * 1.5) / 20)
    return { kind: 'hold', streams, rampMs: streams * 4, warmUpMs: 2_000, windowMs: 10_000 }
  },
  figures: [
    { label: 'streams that asked', digits: 0, value: ({ begun }) => begun },
    { label: 'refused with 503', digits: 0, value: ({ refused }) => refused },
    { label: 'still without a frame', digits: 0, value: ({ mute }) => mute },
    { label: 'frames asked for per second', digits: 0, value: ({ begun }) => begun * 20 },
    { label: 'frames delivered per second', digits: 0, value: perSecond },
    { label: 'write to read of the others, p50, ms', digits: 1, value: ({ latency }) => latency?.p50 },
    { label: 'write to read of the others, p99, ms', digits: 1, value: ({ latency }) => latency?.p99 },
  ],
}
