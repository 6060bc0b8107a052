import type { Exchange, Order, Outcome, Watched } from './orders.ts'
import type { Target } from './targets.ts'

export interface Sizes {
  /** Factor on the length of closed loops and sequences. */
  readonly length: number
  /** Streams held open to see what one takes. */
  readonly idleStreams: number
}

/** One number of an outcome, as a line of the table. */
export interface Figure {
  readonly label: string
  readonly digits: number
  /** `undefined` where a target has no such number. */
  value(outcome: Outcome, target: Target): number | undefined
}

/** One load on one target. */
export interface Test {
  readonly name: string
  /** What the simulated Claude does, as it stands in the model name; several are taken in turns by the streams. */
  readonly scenarios: readonly string[]
  /** Deltas of a stream that ends by itself. */
  readonly deltas: number
  readonly stamped?: boolean
  /** Says nothing of the simulator alone. */
  readonly targetsOnly?: boolean
  /** Cannot be carried out a second time in the same process. */
  readonly onFreshProcess?: boolean
  order(sizes: Sizes): OrderShape
  readonly figures: readonly Figure[]
}

type OrderShape = Order extends infer One ? (One extends Order ? Omit<One, 'exchange' | 'watched'> : never) : never

/** Long enough for any window; the client hangs up. */
const endless = 1_000_000

/**
 * 40 to 60 ms, 20 deltas a second. Were all delays the same, the timers of streams that once fired together, because
 * the simulator was held up, would fire together for ever: bursts, which no target could deliver without a queue.
 */
const unevenDelays = Array.from({ length: 21 }, (_, n) => 40 + n)

function cpuPerMillion({ cpu, deltas }: Outcome, target: Target): number | undefined {
  return target.start ? (cpu.target / deltas) * 1e6 : undefined
}

/** Carried out in this order: memory needs a fresh process, full speed leaves most behind. */
export const tests: readonly Test[] = [
  {
    name: 'memory',
    scenarios: [`text=${endless}&bytes=40&delay_ms=10000`],
    deltas: endless,
    targetsOnly: true,
    onFreshProcess: true,
    order: ({ idleStreams }) => ({
      kind: 'hold',
      streams: idleStreams,
      rampMs: idleStreams,
      warmUpMs: 1_000,
      windowMs: 1_000,
    }),
    figures: [],
  },
  {
    name: 'first frame',
    scenarios: ['text=1&bytes=40'],
    deltas: 1,
    order: ({ length }) => ({ kind: 'sequence', warmUp: 200, requests: 400 * length }),
    figures: [
      { label: 'time to first frame, p50, ms', digits: 2, value: ({ latency }) => latency?.p50 },
      { label: 'time to first frame, p99, ms', digits: 2, value: ({ latency }) => latency?.p99 },
    ],
  },
  {
    name: 'paced',
    scenarios: unevenDelays.map((ms) => `text=${endless}&bytes=40&delay_ms=${ms}&stamp=1`),
    deltas: endless,
    stamped: true,
    order: () => ({ kind: 'hold', streams: 1_000, rampMs: 1_500, warmUpMs: 1_000, windowMs: 5_000 }),
    figures: [
      { label: 'paced: frames delivered per second', digits: 0, value: ({ deltas, seconds }) => deltas / seconds },
      {
        label: 'paced: CPU seconds per million frames',
        digits: 1,
        value: cpuPerMillion,
      },
      { label: 'paced: write to read of a frame, p50, ms', digits: 2, value: ({ latency }) => latency?.p50 },
      { label: 'paced: write to read of a frame, p99, ms', digits: 2, value: ({ latency }) => latency?.p99 },
    ],
  },
  {
    name: 'short streams',
    scenarios: ['text=10&bytes=40'],
    deltas: 10,
    order: ({ length }) => ({ kind: 'loop', streams: 16, warmUpMs: 1_000 * length, windowMs: 2_000 * length }),
    figures: [{ label: 'streams of 10 deltas per second', digits: 0, value: ({ ended, seconds }) => ended / seconds }],
  },
  {
    name: 'full speed',
    scenarios: ['text=500&bytes=40'],
    deltas: 500,
    order: ({ length }) => ({ kind: 'loop', streams: 16, warmUpMs: 1_000 * length, windowMs: 3_000 * length }),
    figures: [
      {
        label: 'full speed, thousand frames per second',
        digits: 0,
        value: ({ deltas, seconds }) => deltas / seconds / 1000,
      },
      { label: 'full speed: CPU seconds per million frames', digits: 2, value: cpuPerMillion },
    ],
  },
]

/** The memory line depends on how many streams there were. */
export function figuresOf(test: Test, { idleStreams }: Sizes): readonly Figure[] {
  if (test.name !== 'memory') return test.figures
  const perStream = ({ bytes }: Outcome) => (bytes.after - bytes.before) / 1024 / idleStreams
  return [
    { label: `memory per open stream (of ${idleStreams}), KiB`, digits: 1, value: perStream },
    { label: 'memory at rest, MiB', digits: 0, value: ({ bytes }) => bytes.before / 1024 ** 2 },
  ]
}

export function orderFor(test: Test, target: Target, port: number, watched: Watched, sizes: Sizes): Order {
  const exchange: Exchange = {
    port,
    path: target.path,
    headers: target.headers,
    bodies: test.scenarios.map((scenario) =>
      JSON.stringify({
        model: `claude-sim?${scenario}`,
        max_tokens: endless,
        messages: [{ role: 'user', content: 'What is a sluice?' }],
        ...target.body,
      }),
    ),
    terminator: target.terminator,
    deltas: test.deltas,
    ...(test.stamped && { stamped: true }),
  }
  return { ...test.order(sizes), exchange, watched }
}
