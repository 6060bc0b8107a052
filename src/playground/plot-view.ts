import { duration, type Mark, type Series, ticks } from './chart.ts'
import { h, painter, svg } from './dom.ts'
import { rules } from './rules.ts'

const width = 420
const height = 150
const edge = { left: 38, right: 10, top: 12, bottom: 22 }
const inner = { width: width - edge.left - edge.right, height: height - edge.top - edge.bottom }

/** Tokens over time, with what happened on the way. */
export class PlotView {
  readonly element = h('figure', { class: 'plot-box' })
  readonly #drawing = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img' })
  readonly #legend = h('figcaption', { class: 'note' })
  readonly draw = painter(() => this.#draw())
  #series: Series | undefined

  constructor() {
    this.element.append(this.#drawing, this.#legend)
    this.#draw()
  }

  show(series: Series): void {
    this.#series = series
    this.draw()
  }

  #draw(): void {
    const series = this.#series
    const lastAt = Math.max(series?.times.at(-1) ?? 0, ...(series?.marks.map(({ at }) => at) ?? []), 1_000)
    const most = Math.max(series?.tokens ?? 0, 10)
    const x = (at: number) => edge.left + (at / lastAt) * inner.width
    const y = (total: number) => edge.top + inner.height - (total / (most * 1.08)) * inner.height
    const points = series?.points(300) ?? []
    const line = points.map(([at, total]) => `${x(at).toFixed(1)},${y(total).toFixed(1)}`)
    const floor = y(0).toFixed(1)
    const [first] = points
    this.#drawing.setAttribute('aria-label', describe(series))
    this.#drawing.replaceChildren(
      ...rules(most, { left: edge.left, right: width - edge.right, y }, String),
      ...ticks(lastAt, 4).map((at) =>
        svg(
          'text',
          {
            x: x(at).toFixed(1),
            y: String(height - 6),
            'text-anchor': at === 0 ? 'start' : at > lastAt * 0.94 ? 'end' : 'middle',
          },
          duration(at),
        ),
      ),
      ...(series?.gaps.map(({ from, to }) =>
        svg(
          'rect',
          {
            class: 'gap',
            x: x(from).toFixed(1),
            y: String(edge.top),
            width: (x(to) - x(from)).toFixed(1),
            height: String(inner.height),
          },
          svg('title', {}, `Nothing for ${duration(to - from)}`),
        ),
      ) ?? []),
      ...(first
        ? [
            svg('polygon', {
              class: 'area',
              points: [
                `${x(first[0]).toFixed(1)},${floor}`,
                ...line,
                `${x(points.at(-1)?.[0] ?? 0).toFixed(1)},${floor}`,
              ].join(' '),
            }),
          ]
        : []),
      ...(line.length > 0 ? [svg('polyline', { class: 'line', points: line.join(' ') })] : []),
      ...(series?.marks.map((mark) => markOf(mark, x(mark.at))) ?? []),
    )
    this.#legend.textContent = series === undefined ? 'Tokens over time, estimated from the text.' : describe(series)
  }
}

function markOf({ kind, label }: Mark, x: number): SVGElement {
  const at = x.toFixed(1)
  return svg(
    'g',
    { class: `mark ${kind}` },
    svg('title', {}, label),
    svg('line', { x1: at, x2: at, y1: String(edge.top), y2: String(edge.top + inner.height) }),
    svg('circle', { cx: at, cy: String(edge.top), r: '3.5' }),
  )
}

/** What the drawing shows, for those who do not see it. */
function describe(series: Series | undefined): string {
  if (series?.firstMs === undefined) return 'Nothing has come yet.'
  const counted = (['cut', 'back', 'recovery'] as const).map(
    (kind) => series.marks.filter((mark) => mark.kind === kind).length,
  )
  const [cuts = 0, returns = 0, recoveries = 0] = counted
  const losses = Math.max(cuts, returns)
  const parts = [
    `First token after ${duration(series.firstMs)}`,
    series.gaps.length > 0 && `${series.gaps.length} ${series.gaps.length === 1 ? 'gap' : 'gaps'} of more than 1 s`,
    losses > 0 && `connection lost ${losses === 1 ? 'once' : `${losses} times`}`,
    recoveries > 0 && `${recoveries} ${recoveries === 1 ? 'recovery' : 'recoveries'}`,
  ]
  return `${parts.filter(Boolean).join(', ')}.`
}
