import { failures, warnings } from './busyness.ts'
import { chart } from './chart.ts'
import { comparison, growth, loadTable } from './markdown.ts'
import { full, quick, type Section } from './plan.ts'
import { linesOf, type Sample } from './stats.ts'
import { bytePipe, direct } from './targets.ts'

/** All that was measured, as `--json` writes it and `--from` reads it. */
export interface Results {
  /** `2026-11-21` */
  readonly date: string
  readonly plan: 'quick' | 'full'
  readonly machine: {
    readonly node: string
    readonly processors: number
    readonly model: string
    readonly pinned: boolean
  }
  /** Programs that were not there, so that their targets are missing. */
  readonly missing: readonly string[]
  /** What ended a section before its time. */
  readonly errors: readonly string[]
  readonly samples: readonly Sample[]
}

export const plans = { quick, full } as const satisfies Record<Results['plan'], readonly Section[]>

function sectionsOf({ plan, samples }: Results): Section[] {
  return plans[plan].filter(({ name }) => samples.some(({ section }) => section === name))
}

/** Tables of all that was measured, and what is doubtful about it. */
export function markdownOf(results: Results): string {
  const { machine, missing, samples } = results
  const sections = sectionsOf(results)
  const faults = faultsOf(results)
  const doubtful = warnings(samples, machine.pinned)
  return [
    headOf(results),
    ...missing.map((program) => `Without ${program}, which is not on this machine.`),
    ...sections.flatMap((section) => partsOf(section, samples)),
    ...bulleted('Doubtful', doubtful),
    ...(faults.length > 0 ? bulleted('FAILED', faults) : ['No failures.']),
  ].join('\n\n')
}

/** All that must not happen. */
export function faultsOf({ errors, samples }: Results): string[] {
  return [...errors, ...failures(samples)]
}

function headOf({ date, machine, plan }: Results): string {
  const { node, processors, model, pinned } = machine
  const place = pinned
    ? 'the target alone on one processor, the load on another'
    : 'nothing pinned: no taskset, or one processor; take the numbers with care'
  return `${date}, \`${plan === 'full' ? 'npm run bench:full' : 'npm run bench'}\`, Node ${node}, ${processors} × ${model}; ${place}.`
}

function partsOf(section: Section, samples: readonly Sample[]): string[] {
  const { title, note, reference, series, repeats: planned, name } = section
  const repeats = Math.max(...samples.filter((each) => each.section === name).map(({ repeat }) => repeat + 1), 0)
  const compared = `**Bold**: the ratio to *${reference}* in the same repeat; behind it, the number itself.`
  const spread = `Medians of ${repeats || planned}, the least and the most in parentheses.`
  const said = [note, reference !== undefined && compared, repeats > 1 && spread].filter((each) => each)
  return [
    `### ${title}`,
    ...(said.length > 0 ? [said.join(' ')] : []),
    series ? growth(section, samples) : comparison(section, samples),
    loadTable(section, samples),
  ]
}

function bulleted(title: string, items: readonly string[]): string[] {
  return items.length > 0 ? [`${title}:`, items.map((item) => `- ${item}`).join('\n')] : []
}

/** Ratios of all sections that compare with the byte pipe in fresh processes. */
export function svgOf(results: Results): string {
  const sections = sectionsOf(results).filter(({ name }) => name === 'targets' || name === 'bounds')
  const lines = sections.flatMap((section) => linesOf(section, results.samples))
  const names = new Set(sections.flatMap(({ targets }) => targets.map(({ name }) => name)))
  const shown = [...names].filter((name) => name !== bytePipe.name && name !== direct.name)
  return chart(lines, shown, bytePipe.name)
}

const begin = '<!-- results -->'
const end = '<!-- end of results -->'

/** Puts the results between the marks of a document; a file without marks holds nothing else. */
export function inserted(markdown: string, document: string | undefined): string {
  const [from, to] = [document?.indexOf(begin) ?? -1, document?.indexOf(end) ?? -1]
  if (document === undefined || from < 0 || to < from) return `${markdown}\n`
  return `${document.slice(0, from + begin.length)}\n\n${markdown}\n\n${document.slice(to)}`
}
