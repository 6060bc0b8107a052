import { describe, expect, it } from 'vitest'
import { failures, isDisturbed, quietest, warnings } from '../../bench/busyness.ts'
import { linesOf, ratios, spreadOf } from '../../bench/stats.ts'
import type { Figure } from '../../bench/tests.ts'
import { cpu, outcome, sample, section, target, test } from './samples.ts'

describe('spreadOf', () => {
  it.each([
    [[3], { median: 3, min: 3, max: 3 }],
    [[10, 2, 9], { median: 9, min: 2, max: 10 }],
    [[1, 4, 2, 100], { median: 3, min: 1, max: 100 }],
    [[], undefined],
  ])('of %j', (values, spread) => {
    expect(spreadOf(values)).toEqual(spread)
  })
})

describe('ratios', () => {
  it('compares within a repeat, and leaves out what has no ratio', () => {
    const own = new Map([
      [0, 3],
      [1, 8],
      [2, 5],
      [3, -1],
      [4, 7],
    ])
    const reference = new Map([
      [0, 2],
      [1, 4],
      [2, 0],
      [3, 1],
    ])
    expect(ratios(own, reference)).toEqual([1.5, 2])
  })
})

const frames: Figure = { label: 'frames', digits: 0, value: ({ deltas }) => deltas }

const measured = (name: string, ...deltas: number[]) =>
  deltas.map((each, repeat) => sample({ target: name, repeat, outcome: outcome({ deltas: each }) }))

describe('linesOf', () => {
  const targets = ['direct', 'pipe', 'ours'].map(target)

  it('takes the ratio of each repeat, not that of the medians', () => {
    const compared = section({ targets, tests: [test('load', [frames])], reference: 'pipe' })
    const [line] = linesOf(compared, [...measured('direct', 9), ...measured('pipe', 1, 10), ...measured('ours', 3, 10)])
    expect(line?.cells).toEqual({
      direct: { value: { median: 9, min: 9, max: 9 }, ratio: undefined },
      pipe: { value: { median: 5.5, min: 1, max: 10 }, ratio: undefined },
      ours: { value: { median: 6.5, min: 3, max: 10 }, ratio: { median: 2, min: 1, max: 3 } },
    })
  })

  it('compares with nothing unless told to', () => {
    const [line] = linesOf(section({ targets, tests: [test('load', [frames])] }), measured('ours', 1))
    expect(line?.cells['ours']?.ratio).toBeUndefined()
  })

  it('takes off what the load itself takes, where that is known', () => {
    const added: Figure = { ...frames, beyondDirect: true }
    const compared = section({ targets, tests: [test('load', [added])], reference: 'pipe' })
    const own = [...measured('pipe', 7, 8), ...measured('ours', 9, 11)]
    const [line] = linesOf(compared, [...measured('direct', 5), ...own])
    expect(line?.cells['direct']).toBeUndefined()
    expect(line?.cells['ours']).toEqual({
      value: { median: 5, min: 4, max: 6 },
      ratio: { median: 2, min: 2, max: 2 },
    })
    expect(linesOf(compared, own)).toEqual([])
  })

  it('leaves out figures that nobody has, and samples of other sections and tests', () => {
    const none: Figure = { label: 'none', digits: 0, value: () => undefined }
    const tests = [test('load', [none, frames]), test('other', [frames])]
    const foreign = sample({ section: 'another', outcome: outcome({ deltas: 100 }) })
    const lines = linesOf(section({ targets, tests }), [...measured('pipe', 1), foreign])
    expect(lines.map(({ label, cells }) => [label, cells['pipe']?.value.max])).toEqual([['frames', 1]])
  })
})

describe('what makes a sample doubtful', () => {
  const quiet = outcome({ cpu: cpu({ target: 1, upstream: 0.3, client: 0.4, machine: 1.75 }) })
  const disturbed = outcome({ cpu: cpu({ target: 1, upstream: 0.3, machine: 1.6 }) })
  const overloaded = outcome({ cpu: cpu({ target: 0.5, upstream: 0.5, client: 0.45, machine: 1.45 }) })

  it('is another program, or a load that was itself at its end', () => {
    expect(isDisturbed(quiet)).toBe(false)
    expect(isDisturbed(disturbed)).toBe(true)
    expect(quietest([disturbed, quiet])).toBe(quiet)
    const said = (each: typeof quiet, pinned = true, name = 'pipe') =>
      warnings([sample({ outcome: each, target: name })], pinned)
    expect(said(quiet)).toEqual([])
    expect(said(disturbed)).toEqual(['section, load, pipe, repeat 1: other programs took 30 %'])
    expect(said(overloaded)).toEqual(['section, load, pipe, repeat 1: the load took 95 %'])
    // On processors of their own, neither was at its end; without a target, the load is what is measured.
    expect(said(overloaded, false)).toEqual([])
    expect(said(overloaded, true, 'direct')).toEqual([])
  })

  it('is a failure', () => {
    const broken = outcome({ failures: { 'status 500': 2, ECONNRESET: 1 } })
    expect(failures([sample({}), sample({ outcome: broken, repeat: 1 })])).toEqual([
      'section, load, pipe, repeat 2: 2 × status 500, 1 × ECONNRESET',
    ])
  })
})
