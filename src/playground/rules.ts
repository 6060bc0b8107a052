import { ticks } from './chart.ts'
import { svg } from './dom.ts'

/** Where a chart has its lines: the edges of its drawing, and how high a value stands. */
interface Place {
  readonly left: number
  readonly right: number
  y(value: number): number
}

/** A line across at each of a few round values, and the value before it. */
export function rules(most: number, { left, right, y }: Place, unit: (value: number) => string): SVGElement[] {
  return ticks(most, 3).flatMap((value) => {
    const at = y(value).toFixed(1)
    return [
      svg('line', { class: 'rule', x1: String(left), x2: String(right), y1: at, y2: at }),
      svg('text', { x: String(left - 6), y: (y(value) + 3.5).toFixed(1), 'text-anchor': 'end' }, unit(value)),
    ]
  })
}
