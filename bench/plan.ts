import { held, limit, turnover } from './extremes.ts'
import {
  bytePipe,
  direct,
  diy,
  durable,
  forgetful,
  formats,
  inMemory,
  nginx,
  sluice,
  type Target,
  warmed,
} from './targets.ts'
import { capacity, firstFrame, fullSpeed, memory, paced, shortStreams, type Test } from './tests.ts'

/** Targets that are compared in the same tests, and a table. */
export interface Section {
  readonly name: string
  readonly title: string
  /** What one has to know to read the table. */
  readonly note?: string
  readonly targets: readonly Target[]
  readonly tests: readonly Test[]
  readonly repeats: number
  /** The target that others are compared with; without it, nothing is. */
  readonly reference?: string
  /** Each test doubles the one before in its series, and the table shows what a doubling takes. */
  readonly series?: readonly Series[]
}

export interface Series {
  readonly title: string
  readonly tests: readonly string[]
}

const candidates = [direct, bytePipe, nginx, diy, sluice]
const thousand = { name: 'paced', streams: 1_000, perSecond: 20 }

/** What fits into two minutes. */
export const quick: readonly Section[] = [
  {
    name: 'targets',
    title: 'Beside a byte pipe',
    targets: candidates,
    // In this order: full speed leaves most behind.
    tests: [firstFrame(250), paced({ ...thousand, windowMs: 2_000 }), shortStreams(1_000), fullSpeed(1_000)],
    repeats: 2,
    reference: bytePipe.name,
  },
  {
    name: 'bounds',
    title: 'Bounds',
    targets: candidates,
    tests: [memory(1_000, 1_500), capacity(3_000, 2_000)],
    repeats: 1,
    reference: bytePipe.name,
  },
]

/** The largest may be more than a target can carry. */
const growing = (streams: number, perSecond: number) => {
  const pace = { name: `${streams} × ${perSecond}/s`, streams, perSecond, windowMs: 3_000 }
  return paced({ ...pace, ...(streams * perSecond > 20_000 && { overload: true }) })
}
const byStreams = [250, 500, 1_000, 2_000].map((streams) => growing(streams, 20))
const byRate = [5, 10, 20, 40].map((rate) => growing(500, rate))
const bothWays = [...byStreams, ...byRate.filter(({ name }) => !byStreams.some((each) => each.name === name))]

export const full: readonly Section[] = [
  {
    name: 'targets',
    title: 'Beside a byte pipe',
    targets: candidates,
    tests: [firstFrame(500), paced({ ...thousand, windowMs: 5_000 }), shortStreams(2_000), fullSpeed(3_000)],
    repeats: 3,
    reference: bytePipe.name,
  },
  {
    name: 'bounds',
    title: 'Bounds',
    targets: candidates,
    tests: [memory(5_000, 8_000), capacity(3_000, 4_000)],
    repeats: 2,
    reference: bytePipe.name,
  },
  {
    name: 'warmed',
    title: 'After other load',
    note: 'Paced, in a fresh process and in one that has gone through full speed and short streams before.',
    targets: [bytePipe, warmed(bytePipe), sluice, warmed(sluice)],
    tests: [paced({ ...thousand, windowMs: 4_000 }), shortStreams(2_000), fullSpeed(2_000)],
    repeats: 2,
    reference: bytePipe.name,
  },
  {
    name: 'formats',
    title: 'Formats',
    targets: formats,
    tests: [paced({ ...thousand, windowMs: 3_000 }), fullSpeed(2_000)],
    repeats: 2,
    reference: 'json',
  },
  {
    name: 'redis',
    title: 'With Redis',
    note: 'Redis shares the processor of upstream and client.',
    targets: [inMemory, durable],
    tests: [
      paced({ name: 'paced', streams: 400, perSecond: 20, windowMs: 4_000 }),
      shortStreams(2_000),
      fullSpeed(2_000),
    ],
    repeats: 2,
    reference: inMemory.name,
  },
  {
    name: 'growth',
    title: 'Growth',
    note: 'CPU, % of a processor, and what it is multiplied with when streams or frames are doubled.',
    targets: [bytePipe, sluice],
    tests: bothWays,
    repeats: 2,
    series: [
      { title: 'streams doubled', tests: byStreams.map(({ name }) => name) },
      { title: 'frames doubled', tests: byRate.map(({ name }) => name) },
    ],
  },
  {
    name: 'limit',
    title: 'Half as much again as one processor can carry',
    targets: [bytePipe, sluice],
    tests: [limit],
    repeats: 1,
  },
  {
    name: 'held',
    title: '5,000 streams for five minutes',
    note: 'What a live stream has said is kept for a resume: its memory grows by 44 bytes a frame, and spare room.',
    targets: [sluice],
    tests: [held],
    repeats: 1,
  },
  {
    name: 'turnover',
    title: '5,000 streams at a time, answers of 20 s',
    note: 'Finished answers are kept for 10 s here, so that memory which is lost shows.',
    targets: [forgetful],
    tests: [turnover],
    repeats: 1,
  },
]
