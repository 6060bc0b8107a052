import type { Bucket } from '../core/history.ts'
import { duration } from './chart.ts'
import { h, svg } from './dom.ts'
import { rules } from './rules.ts'

const width = 360
const height = 120
const edge = { left: 50, right: 8, top: 8, bottom: 18 }
const hourMs = 3_600_000
/** A server that has just begun is shown on this scale at least. */
const leastMs = 600_000

interface Chart {
  readonly title: string
  /** The scale holds at least so much. */
  readonly least: number
  readonly lines: readonly { readonly name: string; readonly of: (bucket: Bucket) => number | null }[]
  readonly unit: (value: number) => string
}

const plain = (value: number) =>
  value.toLocaleString('en', { maximumFractionDigits: 1, notation: value >= 10_000 ? 'compact' : 'standard' })
const megabytes = (value: number) => `${Math.round(value)} MB`

/** @param seconds of a bucket */
const chartsOf = (seconds: number): readonly Chart[] => [
  {
    title: 'Streams',
    least: 4,
    unit: plain,
    lines: [
      { name: 'live', of: ({ live }) => live },
      { name: 'readers', of: ({ readers }) => readers },
    ],
  },
  {
    title: 'Tokens per second',
    least: 20,
    unit: plain,
    lines: [{ name: 'output', of: ({ outputTokens }) => outputTokens / seconds }],
  },
  {
    title: 'Time to first token',
    least: 200,
    unit: duration,
    lines: [
      { name: 'p50', of: ({ ttftP50Ms }) => ttftP50Ms },
      { name: 'p95', of: ({ ttftP95Ms }) => ttftP95Ms },
    ],
  },
  {
    title: 'Calls to Claude',
    least: 4,
    unit: plain,
    lines: [
      { name: 'all', of: ({ calls }) => calls },
      { name: 'failed', of: ({ failedCalls }) => failedCalls },
    ],
  },
  {
    title: 'Memory',
    least: 100,
    unit: megabytes,
    lines: [{ name: 'resident', of: ({ memoryBytes }) => memoryBytes / 1_048_576 }],
  },
]

/** What the last hour was like. */
export function drawHour(buckets: readonly Bucket[]): Node[] {
  const seconds = ((buckets.at(-1)?.until ?? 0) - (buckets.at(-2)?.until ?? 0)) / 1_000 || 10
  return [...chartsOf(seconds).map((chart) => draw(chart, buckets)), tally(buckets)]
}

function draw({ title, least, lines, unit }: Chart, buckets: readonly Bucket[]): Node {
  const end = buckets.at(-1)?.until ?? 0
  const span = Math.min(hourMs, Math.max(leastMs, end - (buckets[0]?.until ?? end)))
  const values = buckets.flatMap((bucket) => lines.map(({ of }) => of(bucket) ?? 0))
  const most = Math.max(...values, least)
  const x = (until: number) => edge.left + (1 - (end - until) / span) * (width - edge.left - edge.right)
  const y = (value: number) => height - edge.bottom - (value / (most * 1.05)) * (height - edge.top - edge.bottom)
  const last = lines.map(({ name, of }) => `${name} ${shown(buckets.at(-1), of, unit)}`).join(', ')
  return h(
    'figure',
    { class: 'chart' },
    h(
      'figcaption',
      {},
      h('strong', {}, title),
      legend(lines.map(({ name, of }) => `${name} ${shown(buckets.at(-1), of, unit)}`)),
    ),
    svg(
      'svg',
      { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${title} over the last hour; now ${last}` },
      ...rules(most, { left: edge.left, right: width - edge.right, y }, unit),
      svg('text', { x: String(edge.left), y: String(height - 4) }, `${Math.round(span / 60_000)} min ago`),
      svg('text', { x: String(width - edge.right), y: String(height - 4), 'text-anchor': 'end' }, 'now'),
      ...lines.flatMap(({ of }, n) =>
        runsOf(buckets, of).map((run) =>
          svg('polyline', {
            class: `s${n}`,
            points: run.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(' '),
          }),
        ),
      ),
    ),
  )
}

function shown(
  bucket: Bucket | undefined,
  of: (bucket: Bucket) => number | null,
  unit: (value: number) => string,
): string {
  const value = bucket && of(bucket)
  return value === undefined || value === null ? '–' : unit(value)
}

function legend(texts: readonly string[]): Node {
  return h('span', { class: 'legend' }, ...texts.map((text) => h('span', {}, text)))
}

/** A line breaks where there is nothing to be drawn. */
function runsOf(buckets: readonly Bucket[], of: (bucket: Bucket) => number | null): [number, number][][] {
  const runs: [number, number][][] = [[]]
  for (const bucket of buckets) {
    const value = of(bucket)
    if (value === null) runs.push([])
    else runs.at(-1)?.push([bucket.until, value])
  }
  // A line of one point is drawn as a dot.
  return runs.filter(({ length }) => length > 0).map((run) => (run.length === 1 ? [...run, ...run] : run))
}

/** Failures of the hour by their codes, and the clocks that have fired. */
function tally(buckets: readonly Bucket[]): Node {
  const counts = new Map<string, number>()
  for (const { errors, clocks } of buckets) {
    for (const [code, count] of Object.entries(errors)) counts.set(code, (counts.get(code) ?? 0) + count)
    for (const [clock, count] of Object.entries(clocks))
      counts.set(`clock ${clock}`, (counts.get(`clock ${clock}`) ?? 0) + count)
  }
  const rows = [...counts].sort(([, one], [, other]) => other - one).slice(0, 8)
  return h(
    'figure',
    { class: 'chart' },
    h('figcaption', {}, h('strong', {}, 'Errors and clocks')),
    rows.length === 0
      ? h('p', { class: 'empty' }, 'No stream has failed.')
      : h(
          'ul',
          { class: 'tally' },
          ...rows.map(([name, count]) => h('li', {}, h('code', {}, name), h('span', {}, String(count)))),
        ),
  )
}
