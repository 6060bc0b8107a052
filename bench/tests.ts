import type { Load, Order, Outcome, Watched } from './orders.ts'
import type { Target } from './targets.ts'

/** One number of an outcome, as a line of a table. */
export interface Figure {
  readonly label: string
  readonly digits: number
  readonly better?: 'more' | 'less'
  /** What the load takes of it without any target is taken off. */
  readonly beyondDirect?: true
  /** Its name in the chart; without it, it is not there. */
  readonly chart?: string
  /** `undefined` where a target has no such number. */
  value(outcome: Outcome, target: Target): number | undefined
}

/** One load on one target. */
export interface Test {
  readonly name: string
  /** Who plays Claude. */
  readonly upstream: 'simulator' | 'metronome'
  /** What that does, as it stands in the model name. */
  readonly scenario: string
  /** Deltas of a stream that ends by itself. */
  readonly deltas: number
  readonly stamped?: true
  /** More than a target can carry. */
  readonly overload?: true
  /** Says nothing of the load alone. */
  readonly targetsOnly?: true
  /** Cannot be carried out a second time in the same process, or takes too long for it. */
  readonly single?: true
  /** @param capacity frames per second that the same target has delivered at its limit, where that is known */
  load(capacity: number | undefined): Load
  readonly figures: readonly Figure[]
}

/** Long enough for any window; the client hangs up. */
export const endless = 1_000_000

export const perSecond: Figure['value'] = ({ deltas, seconds }) => deltas / seconds
export const cpuPerMillion: Figure['value'] = ({ cpu, deltas }, { start }) =>
  start && deltas > 0 ? (cpu.target / deltas) * 1e6 : undefined
const p50: Figure['value'] = ({ latency }) => latency?.p50
const p99: Figure['value'] = ({ latency }) => latency?.p99

export const mebibytes = (bytes: number) => bytes / 1024 ** 2

export function memory(streams: number, windowMs: number): Test {
  const open = streams.toLocaleString('en')
  return {
    name: 'memory',
    upstream: 'simulator',
    scenario: `text=${endless}&bytes=40&delay_ms=10000`,
    deltas: endless,
    targetsOnly: true,
    single: true,
    load: () => ({ kind: 'hold', streams, rampMs: streams, warmUpMs: 500, windowMs }),
    figures: [
      {
        label: `memory per open stream, of ${open}, KiB`,
        digits: 1,
        better: 'less',
        chart: 'memory per open stream',
        value: ({ bytes }) => (bytes.end - bytes.before) / 1024 / streams,
      },
      { label: 'memory at rest, MiB', digits: 0, better: 'less', value: ({ bytes }) => mebibytes(bytes.before) },
      {
        label: `CPU of ${open} open streams, a delta each 10 s, %`,
        digits: 1,
        better: 'less',
        value: ({ cpu, seconds }) => (cpu.target / seconds) * 100,
      },
    ],
  }
}

export function firstFrame(requests: number): Test {
  return {
    name: 'first frame',
    upstream: 'simulator',
    scenario: 'text=1&bytes=40',
    deltas: 1,
    load: () => ({ kind: 'sequence', warmUp: 200, requests }),
    figures: [
      { label: 'first frame, p50, ms', digits: 2, better: 'less', chart: 'time to first frame, p50', value: p50 },
      { label: 'first frame, p99, ms', digits: 2, better: 'less', chart: 'time to first frame, p99', value: p99 },
    ],
  }
}

function latency(
  label: string,
  value: Figure['value'],
  more: { readonly chart: string } | { readonly beyondDirect: true },
): Figure {
  return { label, digits: 2, better: 'less', value, ...more }
}

export interface Pace {
  readonly name: string
  readonly streams: number
  /** Deltas of each. */
  readonly perSecond: number
  readonly windowMs: number
  readonly overload?: true
}

export function paced({ name, streams, perSecond: rate, windowMs, overload }: Pace): Test {
  return {
    name,
    upstream: 'metronome',
    scenario: `text=${endless}&bytes=40&delay_ms=${1000 / rate}&stamp=1`,
    deltas: endless,
    stamped: true,
    ...(overload && { overload }),
    load: () => ({ kind: 'hold', streams, rampMs: streams, warmUpMs: windowMs / 3, windowMs }),
    figures: [
      { label: `${name}: frames per second`, digits: 0, better: 'more', value: perSecond },
      {
        label: `${name}: CPU seconds per million frames`,
        digits: 1,
        better: 'less',
        chart: `CPU per frame, ${name}`,
        value: cpuPerMillion,
      },
      {
        label: `${name}: CPU seconds of Redis per million frames`,
        digits: 1,
        better: 'less',
        value: ({ cpu, deltas }) => (cpu.store > 0 ? (cpu.store / deltas) * 1e6 : undefined),
      },
      latency(`${name}: write to read, p50, ms`, p50, { chart: `write to read, p50, ${name}` }),
      latency(`${name}: write to read, p99, ms`, p99, { chart: `write to read, p99, ${name}` }),
      // Small differences of small numbers, and so too unsteady for the chart.
      latency(`${name}: added latency, p50, ms`, p50, { beyondDirect: true }),
      latency(`${name}: added latency, p99, ms`, p99, { beyondDirect: true }),
    ],
  }
}

/** More than one processor can carry: what is delivered all the same. Without stamps, as each costs the upstream some. */
export function capacity(streams: number, windowMs: number): Test {
  return {
    name: 'capacity',
    upstream: 'metronome',
    scenario: `text=${endless}&bytes=40&delay_ms=50`,
    deltas: endless,
    overload: true,
    single: true,
    load: () => ({ kind: 'hold', streams, rampMs: streams / 2, warmUpMs: 1_000, windowMs }),
    figures: [
      {
        label: `capacity: frames per second, of ${(streams * 20).toLocaleString('en')}`,
        digits: 0,
        better: 'more',
        chart: 'frames per second, paced, at most',
        value: perSecond,
      },
    ],
  }
}

export function shortStreams(windowMs: number): Test {
  return {
    name: 'short streams',
    upstream: 'simulator',
    scenario: 'text=10&bytes=40',
    deltas: 10,
    load: () => ({ kind: 'loop', streams: 16, rampMs: 0, warmUpMs: windowMs / 2, windowMs }),
    figures: [
      {
        label: 'streams of 10 deltas per second',
        digits: 0,
        better: 'more',
        chart: 'short streams per second',
        value: ({ ended, seconds }) => ended / seconds,
      },
    ],
  }
}

export function fullSpeed(windowMs: number): Test {
  return {
    name: 'full speed',
    upstream: 'simulator',
    scenario: 'text=500&bytes=40',
    deltas: 500,
    load: () => ({ kind: 'loop', streams: 16, rampMs: 0, warmUpMs: windowMs / 2, windowMs }),
    figures: [
      {
        label: 'full speed: thousand frames per second',
        digits: 0,
        better: 'more',
        chart: 'frames per second at full speed',
        value: ({ deltas, seconds }) => deltas / seconds / 1000,
      },
      {
        label: 'full speed: CPU seconds per million frames',
        digits: 2,
        better: 'less',
        chart: 'CPU per frame at full speed',
        value: cpuPerMillion,
      },
    ],
  }
}

export function orderFor(test: Test, target: Target, port: number, watched: Watched, capacity?: number): Order {
  const load = test.load(capacity)
  const body = {
    model: `claude-sim?${test.scenario}`,
    max_tokens: endless,
    messages: [{ role: 'user', content: 'What is a sluice?' }],
    ...target.body,
  }
  return {
    load,
    overload: test.overload ?? false,
    watched,
    exchange: {
      port,
      path: target.path,
      headers: target.headers,
      body: JSON.stringify(body),
      deltas: test.deltas,
      stamped: test.stamped ?? false,
      // Streams that are hung up on have no end.
      ...(load.kind !== 'hold' && { terminator: target.terminator }),
    },
  }
}
