import type { Outcome } from './orders.ts'
import { pinned } from './processes.ts'
import type { Target } from './targets.ts'
import { type Figure, figuresOf, type Sizes, type Test } from './tests.ts'

/** One test on one target, once. */
export interface Sample {
  readonly repeat: number
  readonly target: string
  readonly test: string
  readonly outcome: Outcome
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** The target that others are compared with. */
const yardstick = 'byte pipe'
const subject = 'sluice'

/** Where the load side is this busy, it may be what was measured. */
const busy = 0.9
/** Where other programs take this much, they have been measured too. */
const tolerated = 0.2

function spreadOf(values: readonly number[]): Spread | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  const [min, max] = [sorted[0], sorted.at(-1)]
  if (min === undefined || max === undefined) return undefined
  const middle = sorted.length / 2
  const median = ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2
  return { median, min, max }
}

export interface Line {
  readonly label: string
  readonly digits: number
  readonly byTarget: Readonly<Record<string, Spread | undefined>>
}

export function linesOf(samples: readonly Sample[], tests: readonly Test[], targets: readonly Target[], sizes: Sizes) {
  const line = (test: Test, { label, digits, value }: Figure): Line => {
    const spread = (target: Target) => {
      const own = samples.filter((sample) => sample.test === test.name && sample.target === target.name)
      return spreadOf(own.map(({ outcome }) => value(outcome, target)).filter((each) => each !== undefined))
    }
    return { label, digits, byTarget: Object.fromEntries(targets.map((target) => [target.name, spread(target)])) }
  }
  return tests.flatMap((test) => figuresOf(test, sizes).map((figure) => line(test, figure)))
}

export function table(lines: readonly Line[], targets: readonly Target[]): string {
  const names = targets.map(({ name }) => name)
  const compares = names.includes(yardstick) && names.includes(subject)
  const rows = lines.map(({ label, digits, byTarget }) => {
    const [mine, its] = [byTarget[subject], byTarget[yardstick]]
    const ratio = mine && its ? (mine.median / its.median).toFixed(2) : '–'
    return [label, ...names.map((name) => cell(byTarget[name], digits)), ...(compares ? [ratio] : [])]
  })
  return markdown(['', ...names, ...(compares ? [`${subject} / ${yardstick}`] : [])], rows)
}

function cell(spread: Spread | undefined, digits: number): string {
  if (!spread) return '–'
  const [median, min, max] = [spread.median, spread.min, spread.max].map((value) => format(value, digits))
  return min === max ? `${median}` : `${median} (${min}–${max})`
}

function format(value: number, digits: number): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'))
  return [head, rule, ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** Shares of a processor. `others` are programs that have nothing to do with the benchmark, and the kernel itself. */
interface Busyness {
  readonly target: number
  readonly simulator: number
  readonly client: number
  readonly others: number
}

const parts = ['target', 'simulator', 'client', 'others'] as const satisfies (keyof Busyness)[]

function busyness({ cpu, seconds }: Outcome): Busyness {
  const { target, simulator, client, machine } = cpu
  const others = Math.max(0, machine - target - simulator - client)
  return {
    target: target / seconds,
    simulator: simulator / seconds,
    client: client / seconds,
    others: others / seconds,
  }
}

/** Other programs took so much of the machine that they have been measured too. */
export function isDisturbed(outcome: Outcome): boolean {
  return busyness(outcome).others > tolerated
}

/** The one of several outcomes during which other programs did least. */
export function quietest(outcomes: readonly Outcome[]): Outcome {
  return outcomes.reduce((best, each) => (busyness(each).others < busyness(best).others ? each : best))
}

const percent = (share: number) => `${Math.round(share * 100)}`

/** Who used how much of a processor: only where the target is the busiest has the target been measured. */
export function loadTable(samples: readonly Sample[], tests: readonly Test[], targets: readonly Target[]): string {
  const cells = (test: Test, target: Target) => {
    const own = samples.filter((sample) => sample.test === test.name && sample.target === target.name)
    const shares = own.map(({ outcome }) => busyness(outcome))
    if (shares.length === 0) return '–'
    return parts.map((part) => percent(spreadOf(shares.map((share) => share[part]))?.median ?? 0)).join(' / ')
  }
  const rows = tests.map((test) => [test.name, ...targets.map((target) => cells(test, target))])
  return markdown([`% of a processor: ${parts.join(' / ')}`, ...targets.map(({ name }) => name)], rows)
}

/** What makes a sample doubtful. */
export function warnings(samples: readonly Sample[]): string[] {
  return samples.flatMap(({ repeat, target, test, outcome }) => {
    const { simulator, client, others } = busyness(outcome)
    const load = pinned ? simulator + client : Math.max(simulator, client)
    const where = `${test}, ${target}, repeat ${repeat + 1}`
    return [
      ...(target !== 'direct' && load > busy ? [`${where}: simulator and client took ${percent(load)} %`] : []),
      ...(others > tolerated ? [`${where}: other programs took ${percent(others)} %`] : []),
    ]
  })
}

export function failures(samples: readonly Sample[]): string[] {
  return samples.flatMap(({ repeat, target, test, outcome }) => {
    const all = Object.entries(outcome.failures).map(([reason, count]) => `${count} × ${reason}`)
    return all.length > 0 ? [`${test}, ${target}, repeat ${repeat + 1}: ${all.join(', ')}`] : []
  })
}
