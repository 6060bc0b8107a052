import type { Outcome } from './orders.ts'
import type { Section } from './plan.ts'
import { direct } from './targets.ts'
import type { Figure } from './tests.ts'

/** One test on one target, once. */
export interface Sample {
  readonly section: string
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

export function spreadOf(values: readonly number[]): Spread | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  const [min, max] = [sorted[0], sorted.at(-1)]
  if (min === undefined || max === undefined) return undefined
  const middle = sorted.length / 2
  const median = ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2
  return { median, min, max }
}

/** What a figure was, by the number of the repeat. */
export type Values = ReadonlyMap<number, number>

/**
 * To the reference in the same repeat, which was measured a moment before or after: the machine's speed drifts between
 * repeats. What is not above zero, such as a latency that was less than that of the load, has no ratio.
 */
export function ratios(values: Values, reference: Values): number[] {
  return [...values].flatMap(([repeat, value]) => {
    const other = reference.get(repeat)
    return other !== undefined && other > 0 && value > 0 ? [value / other] : []
  })
}

export interface Cell {
  readonly value: Spread
  readonly ratio: Spread | undefined
}

/** A figure for all targets. */
export interface Line extends Figure {
  readonly cells: Readonly<Record<string, Cell | undefined>>
}

/** Figures that no target has are left out. */
export function linesOf(section: Section, samples: readonly Sample[]): Line[] {
  const own = samples.filter((sample) => sample.section === section.name)
  const lines = section.tests.flatMap((test) =>
    test.figures.map((figure): Line => {
      const ofTest = own.filter((sample) => sample.test === test.name)
      return { ...figure, cells: cellsOf(figure, section, ofTest) }
    }),
  )
  return lines.filter(({ cells }) => Object.values(cells).some((cell) => cell !== undefined))
}

function cellsOf(figure: Figure, { targets, reference }: Section, samples: readonly Sample[]): Line['cells'] {
  const values = new Map(
    targets.map((target) => {
      const own = samples.filter((sample) => sample.target === target.name)
      const known = own.flatMap(({ repeat, outcome }) => {
        const value = figure.value(outcome, target)
        return value === undefined ? [] : [[repeat, value] as const]
      })
      return [target.name, new Map(known)] as const
    }),
  )
  const subtracted = figure.beyondDirect ? beyond(values) : values
  const compared = reference === undefined ? undefined : subtracted.get(reference)
  const cells = [...subtracted].map(([name, own]) => {
    const value = spreadOf([...own.values()])
    const comparable = compared && name !== reference && name !== direct.name
    return [name, value && { value, ratio: comparable ? spreadOf(ratios(own, compared)) : undefined }] as const
  })
  return Object.fromEntries(cells)
}

/** Without what the load itself takes; nothing where that is not known. */
function beyond(values: ReadonlyMap<string, Values>): Map<string, Values> {
  const load = spreadOf([...(values.get(direct.name)?.values() ?? [])])?.median
  return new Map(
    [...values].map(([name, own]) => {
      if (load === undefined || name === direct.name) return [name, new Map()]
      return [name, new Map([...own].map(([repeat, value]) => [repeat, value - load]))]
    }),
  )
}
