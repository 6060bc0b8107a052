import { ratio } from './markdown.ts'
import type { Line } from './stats.ts'

/** Markup as text. */
export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

const width = 860
const left = 270
const right = 50
const bar = 11
const gap = 14
const top = 92
const headingHeight = 34

/** From the last target on, which is the one that all this is about. */
const colours = [
  { light: '#0b62c4', dark: '#58a6ff' },
  { light: '#d1730f', dark: '#f0a04b' },
  { light: '#8a94a3', dark: '#8b949e' },
  { light: '#7a3fbf', dark: '#c297ff' },
]

const style = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .heading { font-weight: 600 }
  .small { font-size: 11px; fill: #59636e }
  .page { fill: #ffffff }
  .grid { stroke: #d8dee4 }
  .one { stroke: #59636e; stroke-width: 1.5 }
${colours.map(({ light }, n) => `  .s${n} { fill: ${light} }`).join('\n')}
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9198a1 }
    .page { fill: #0d1117 }
    .grid { stroke: #30363d }
    .one { stroke: #9198a1 }
${colours.map(({ dark }, n) => `    .s${n} { fill: ${dark} }`).join('\n')}
  }
`

interface Scale {
  readonly ticks: readonly number[]
  x(ratio: number): number
}

/** Logarithmic: half and double are equally far from one. */
function scaleOf(values: readonly number[]): Scale {
  const logs = values.map(Math.log2)
  const low = Math.min(-1, Math.floor(Math.min(...logs) - 0.5))
  const high = Math.max(1, Math.ceil(Math.max(...logs) + 0.5))
  const plot = width - left - right
  return {
    ticks: Array.from({ length: high - low + 1 }, (_, n) => 2 ** (low + n)),
    x: (value) => left + ((Math.log2(value) - low) / (high - low)) * plot,
  }
}

const text = (x: number, y: number, content: string, attributes = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${attributes}>${escapeXml(content)}</text>`

const tickLabel = (value: number) => (value < 1 ? `1/${1 / value}` : String(value))

/**
 * Ratios as bars that leave the line of the reference to the left or to the right.
 * @param targets which of the targets, at most four, the most important one last
 */
export function chart(lines: readonly Line[], targets: readonly string[], reference: string): string {
  const shown = targets.slice(-colours.length)
  const values = lines.flatMap(({ cells }) => shown.flatMap((name) => cells[name]?.ratio?.median ?? []))
  const scale = scaleOf(values)
  const marks: string[] = []
  let y = top
  for (const better of ['less', 'more'] as const) {
    const group = lines.filter((line) => line.chart !== undefined && line.better === better)
    if (group.length === 0) continue
    marks.push(text(16, y + 16, `${better} is better`, ' class="heading"'))
    y += headingHeight
    for (const { chart: label, cells } of group) {
      marks.push(text(left - 12, y + (shown.length * bar) / 2 + 4, label ?? '', ' text-anchor="end"'))
      shown.forEach((name, n) => {
        const median = cells[name]?.ratio?.median
        if (median !== undefined) marks.push(...barOf(median, scale, y + n * bar, shown.length - 1 - n))
      })
      y += shown.length * bar + gap
    }
  }
  const height = y + 30
  const title = `Ratios to the ${reference}`
  const axes = scale.ticks.flatMap((tick) => {
    const x = scale.x(tick).toFixed(1)
    const line = `<line x1="${x}" x2="${x}" y1="${top}" y2="${y}" class="${tick === 1 ? 'one' : 'grid'}"/>`
    return [line, text(scale.x(tick), y + 16, tickLabel(tick), ' class="small" text-anchor="middle"')]
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${style}</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="8"/>`,
    text(16, 30, title, ' class="title"'),
    text(16, 50, `The line at 1 is the ${reference}; the scale is logarithmic. Medians.`, ' class="small"'),
    ...legend(shown),
    ...axes,
    ...marks,
    '</svg>',
    '',
  ].join('\n')
}

function legend(targets: readonly string[]): string[] {
  let x = 16
  return targets.flatMap((name, n) => {
    const colour = targets.length - 1 - n
    const entry = [`<rect x="${x}" y="64" width="12" height="12" class="s${colour}"/>`, text(x + 18, 74, name)]
    x += 40 + name.length * 7
    return entry
  })
}

function barOf(value: number, { x }: Scale, y: number, colour: number): string[] {
  const [one, end] = [x(1), x(value)]
  const side = value < 1 ? ([end - 4, ' text-anchor="end"'] as const) : ([end + 4, ''] as const)
  return [
    `<rect x="${Math.min(one, end).toFixed(1)}" y="${y + 1}" width="${Math.abs(end - one).toFixed(1)}" height="${bar - 2}" class="s${colour}"/>`,
    text(side[0], y + bar - 1.5, ratio(value), ` class="small"${side[1]}`),
  ]
}
