import { busyness, parts } from './busyness.ts'
import type { Section } from './plan.ts'
import { type Cell, linesOf, type Sample, type Spread, spreadOf } from './stats.ts'
import type { Test } from './tests.ts'

/** The first column is text, the others are numbers. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'))
  return [head, rule, ...rows].map((row) => `| ${row.map(inCell).join(' | ')} |`).join('\n')
}

/** A bar or a line break would end the cell or the row. */
function inCell(text: string): string {
  return text.replaceAll('|', '\\|').replace(/\s*\n\s*/g, ' ')
}

export function number(value: number, digits: number): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** Three significant digits, at most two of them behind the point. */
export function ratio(value: number): string {
  return number(value, value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2)
}

function spread({ median, min, max }: Spread, format: (value: number) => string): { middle: string; range: string } {
  const [low, high] = [format(min), format(max)]
  return { middle: format(median), range: low === high ? '' : ` (${low}–${high})` }
}

export function cell(content: Cell | undefined, digits: number): string {
  if (!content) return '–'
  const value = spread(content.value, (each) => number(each, digits))
  if (!content.ratio) return `${value.middle}${value.range}`
  const { middle, range } = spread(content.ratio, ratio)
  return `**${middle}**${range} · ${value.middle}`
}

/** Targets and tests of a section that were measured. */
export function measuredOf({ name, targets, tests }: Section, samples: readonly Sample[]) {
  const own = samples.filter(({ section }) => section === name)
  return {
    targets: targets.filter((target) => own.some((sample) => sample.target === target.name)),
    tests: tests.filter((test) => own.some((sample) => sample.test === test.name)),
  }
}

const isOf = (section: string, target: string, test: string | undefined) => (sample: Sample) =>
  sample.section === section && sample.target === target && sample.test === test

/** A line for each figure, a column for each target. */
export function comparison(section: Section, samples: readonly Sample[]): string {
  const { targets } = measuredOf(section, samples)
  const rows = linesOf(section, samples).map(({ label, digits, cells }) => [
    label,
    ...targets.map(({ name }) => cell(cells[name], digits)),
  ])
  return table(['', ...targets.map(({ name }) => name)], rows)
}

/** CPU of each target under loads that double, and what each is multiplied with. */
export function growth(section: Section, samples: readonly Sample[]): string {
  const { targets, tests } = measuredOf(section, samples)
  const share = (target: string, test: Test | undefined) => {
    const own = samples.filter(isOf(section.name, target, test?.name))
    const perFrame = spreadOf(own.map(({ outcome }) => outcome.cpu.target / outcome.deltas))?.median
    const perSecond = spreadOf(own.map(({ outcome }) => outcome.deltas / outcome.seconds))?.median
    return perFrame === undefined || perSecond === undefined ? undefined : { perFrame, perSecond }
  }
  const rows = (section.series ?? []).flatMap(({ title, tests: names }) => {
    const ofSeries = names.map((name) => tests.find((test) => test.name === name))
    return ofSeries.flatMap((test, n) => {
      if (!test) return []
      const cells = targets.flatMap(({ name }) => {
        const [now, before] = [share(name, test), share(name, ofSeries[n - 1])]
        if (!now) return ['–', '–', '–']
        // By frame, so that a load which was not quite carried does not pass for a cheap one.
        const factor = before && n > 0 ? `**${ratio((2 * now.perFrame) / before.perFrame)}**` : '–'
        return [number(now.perSecond, 0), number(now.perFrame * now.perSecond * 100, 0), factor]
      })
      return [[n === 0 ? `${title}: ${test.name}` : test.name, ...cells]]
    })
  })
  const heads = targets.flatMap(({ name }) => [`${name}: frames/s`, 'CPU, %', '×'])
  return table(['streams × frames', ...heads], rows)
}

/** Who used how much of a processor: only where the target is the busiest has the target been measured. */
export function loadTable(section: Section, samples: readonly Sample[]): string {
  const { targets, tests } = measuredOf(section, samples)
  const stored = samples.some((each) => each.section === section.name && each.outcome.cpu.store > 0)
  const shown = parts.filter((part) => part !== 'store' || stored)
  const cells = (test: Test, target: string) => {
    const shares = samples.filter(isOf(section.name, target, test.name)).map(({ outcome }) => busyness(outcome))
    if (shares.length === 0) return '–'
    return shown.map((part) => number((spreadOf(shares.map((each) => each[part]))?.median ?? 0) * 100, 0)).join(' / ')
  }
  const rows = tests.map((test) => [test.name, ...targets.map(({ name }) => cells(test, name))])
  return table([`% of a processor: ${shown.join(' / ')}`, ...targets.map(({ name }) => name)], rows)
}
