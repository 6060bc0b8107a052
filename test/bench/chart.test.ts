import { expect, it } from 'vitest'
import { chart, escapeXml } from '../../bench/chart.ts'
import type { Line } from '../../bench/stats.ts'

const spread = (median: number) => ({ median, min: median, max: median })
const cell = (ratio: number) => ({ value: spread(1), ratio: spread(ratio) })

function line(label: string, better: 'more' | 'less', cells: Line['cells']): Line {
  return { label, chart: label, digits: 0, better, cells, value: () => undefined }
}

const lines = [
  line('CPU <per> "frame" & more', 'less', { 'a & b': cell(30), ours: cell(1.5) }),
  line('frames', 'more', { 'a & b': cell(0.1), ours: { value: spread(1), ratio: undefined } }),
]

/** Names of the elements, in order; throws unless each is closed where it has to be. */
function elements(xml: string): string[] {
  const open: string[] = []
  const seen: string[] = []
  for (const [tag, closing, name = '', attributes = '', selfClosing] of xml.matchAll(/<(\/?)(\w+)([^<>]*?)(\/?)>/g)) {
    if (closing) {
      if (open.pop() !== name) throw new Error(`${tag} closes something else`)
      continue
    }
    if (!/^(?:\s+[\w:-]+="[^"<&]*")*\s*$/.test(attributes)) throw new Error(`attributes of ${tag}`)
    seen.push(name)
    if (!selfClosing) open.push(name)
  }
  if (open.length > 0) throw new Error(`${open} left open`)
  const text = xml.replace(/<\/?\w+[^<>]*>/g, '')
  if (/[<>]|&(?!(?:amp|lt|gt|quot);)/.test(text)) throw new Error('markup in text')
  return seen
}

it('escapes what would be markup', () => {
  expect(escapeXml('a < b & "c" > d')).toBe('a &lt; b &amp; &quot;c&quot; &gt; d')
})

it('is well-formed, with a bar and its number for each ratio', () => {
  const svg = chart(lines, ['a & b', 'ours'], 'pipe')
  const seen = elements(svg)
  expect(seen[0]).toBe('svg')
  const bars = svg.match(/<rect [^>]*class="s\d"/g) ?? []
  // Two in the legend, and one for each ratio.
  expect(bars).toHaveLength(2 + 3)
  for (const number of ['30.0', '1.50', '0.10']) expect(svg).toContain(`>${number}<`)
  expect(svg).toContain('CPU &lt;per&gt; &quot;frame&quot; &amp; more')
  expect(svg).toContain('prefers-color-scheme: dark')
})

it('stays within its frame, however far apart the ratios are', () => {
  const far = [line('far', 'less', { low: cell(0.001), high: cell(900) })]
  const svg = chart(far, ['low', 'high'], 'pipe')
  const width = Number(/viewBox="0 0 (\d+)/.exec(svg)?.[1])
  for (const [, x, wide] of svg.matchAll(/<rect x="([\d.-]+)"[^>]* width="([\d.]+)"/g)) {
    expect(Number(x)).toBeGreaterThanOrEqual(0)
    expect(Number(x) + Number(wide)).toBeLessThanOrEqual(width)
  }
})

it('draws nothing without numbers, and no line for what has no name in the chart', () => {
  const { chart: _, ...unnamed } = line('unnamed', 'less', { ours: cell(2) })
  expect(elements(chart([], [], 'pipe'))[0]).toBe('svg')
  expect(chart([unnamed], ['ours'], 'pipe')).not.toContain('unnamed')
})
