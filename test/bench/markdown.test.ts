import { describe, expect, it } from 'vitest'
import { cell, comparison, growth, loadTable, ratio, table } from '../../bench/markdown.ts'
import { inserted, markdownOf, type Results } from '../../bench/report.ts'
import type { Figure } from '../../bench/tests.ts'
import { cpu, outcome, sample, section, target, test } from './samples.ts'

describe('cells', () => {
  it.each([
    [0.333, '0.33'],
    [1, '1.00'],
    [9.949, '9.95'],
    [9.96, '10.0'],
    [123.4, '123'],
  ])('the ratio %d', (value, shown) => {
    expect(ratio(value)).toBe(shown)
  })

  it('have a range only where there is one', () => {
    const flat = { median: 1234.5, min: 1234.51, max: 1234.49 }
    expect(cell({ value: flat, ratio: undefined }, 1)).toBe('1,234.5')
    expect(cell({ value: { median: 2, min: 1, max: 3 }, ratio: undefined }, 0)).toBe('2 (1–3)')
    expect(cell({ value: flat, ratio: { median: 2, min: 1.5, max: 3 } }, 0)).toBe('**2.00** (1.50–3.00) · 1,235')
    expect(cell(undefined, 0)).toBe('–')
  })

  it('end neither their column nor their row', () => {
    expect(table(['a', 'b'], [['x | y', 'one\ntwo']])).toBe('| a | b |\n| --- | --: |\n| x \\| y | one two |')
  })
})

const targets = ['direct', 'pipe', 'ours'].map(target)
const frames: Figure = { label: 'frames', digits: 0, value: ({ deltas }) => deltas }

describe('comparison', () => {
  it('has a line for each figure and a column for each target that was measured', () => {
    const compared = section({ targets, tests: [test('load', [frames])], reference: 'pipe' })
    const samples = [
      sample({ target: 'pipe', outcome: outcome({ deltas: 200 }) }),
      sample({ target: 'ours', outcome: outcome({ deltas: 100 }) }),
    ]
    expect(comparison(compared, samples)).toBe(
      ['|  | pipe | ours |', '| --- | --: | --: |', '| frames | 200 | **0.50** · 100 |'].join('\n'),
    )
  })
})

describe('growth', () => {
  it('tells what a doubling takes, by frame', () => {
    const load = (name: string, deltas: number, seconds: number) =>
      sample({ target: 'ours', test: name, outcome: outcome({ deltas, cpu: cpu({ target: seconds }) }) })
    const doubling = section({
      targets,
      tests: ['100', '200', '400'].map((name) => test(name)),
      series: [
        { title: 'streams', tests: ['100', '200'] },
        { title: 'frames', tests: ['200', '400'] },
      ],
    })
    // The last was only half carried: by the second it would look as cheap as the one before.
    const samples = [load('100', 1_000, 0.1), load('200', 2_000, 0.21), load('400', 2_000, 0.21)]
    expect(growth(doubling, samples).split('\n').slice(2)).toEqual([
      '| streams: 100 | 1,000 | 10 | – |',
      '| 200 | 2,000 | 21 | **2.10** |',
      '| frames: 200 | 2,000 | 21 | – |',
      '| 400 | 2,000 | 21 | **2.00** |',
    ])
  })
})

describe('loadTable', () => {
  it('shows the store where there is one', () => {
    const measured = section({ targets, tests: [test('load')] })
    const busy = (store: number) => [
      sample({ outcome: outcome({ cpu: cpu({ target: 0.5, store, upstream: 0.2, client: 0.1, machine: 0.9 }) }) }),
    ]
    expect(loadTable(measured, busy(0))).toContain('| load | 50 / 20 / 10 / 10 |')
    expect(loadTable(measured, busy(0.1))).toContain('| load | 50 / 10 / 20 / 10 / 0 |')
  })
})

describe('the report', () => {
  const results: Results = {
    date: '2026-11-21',
    plan: 'quick',
    machine: { node: 'v24.0.0', processors: 2, model: 'Some CPU', pinned: true },
    missing: ['nginx'],
    errors: [],
    samples: [
      sample({ section: 'targets', target: 'byte pipe', test: 'short streams', outcome: outcome({ ended: 400 }) }),
      sample({ section: 'targets', target: 'sluice', test: 'short streams', outcome: outcome({ ended: 200 }) }),
    ],
  }

  it('says what was measured, what is missing, and that nothing failed', () => {
    const text = markdownOf(results)
    expect(text).toMatch(/^2026-11-21, `npm run bench`, Node v24\.0\.0, 2 × Some CPU;/)
    expect(text).toContain('Without nginx')
    expect(text).toContain('| streams of 10 deltas per second | 400 | **0.50** · 200 |')
    expect(text).not.toContain('### Bounds')
    expect(text).toMatch(/No failures\.$/)
  })

  it('says what failed', () => {
    const failed = sample({ section: 'targets', outcome: outcome({ failures: { ECONNRESET: 3 } }) })
    const text = markdownOf({ ...results, errors: ['redis: did not start'], samples: [...results.samples, failed] })
    expect(text).toContain('FAILED:\n\n- redis: did not start\n- targets, load, pipe, repeat 1: 3 × ECONNRESET')
  })

  it('goes between the marks of a document, again and again', () => {
    const document = 'before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n'
    const filled = inserted('new', document)
    expect(filled).toBe('before\n<!-- results -->\n\nnew\n\n<!-- end of results -->\nafter\n')
    expect(inserted('new', filled)).toBe(filled)
    expect(inserted('new', 'no marks')).toBe('new\n')
    expect(inserted('new', undefined)).toBe('new\n')
  })
})
