import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const folder = import.meta.dirname
const page = readFileSync(join(folder, '../../docs/threat-model.md'), 'utf8')
const rows = page.split('\n').flatMap((line) => {
  const cells = line.split('|').map((cell) => cell.trim())
  return /^[CA]\d+$/.test(cells[1] ?? '') ? [{ number: cells[1] as string, test: cells[4] ?? '' }] : []
})
const files = readdirSync(folder).filter((file) => file.endsWith('.test.ts') && file !== 'threat-model.test.ts')
/** One is tested where the page that it is about is. */
const elsewhere = '../system/browser/playground.test.ts'
const tests = [...files, elsewhere]
  .map((file) => readFileSync(join(folder, file), 'utf8'))
  .flatMap((text) => [...text.matchAll(/\b(?:describe|it)(?:\.each[\s\S]*?)?\(\s*['"`]([CA]\d+) /g)])
const tested = new Set(tests.map(([, number]) => number))

it('the threat model has every line, each with its test, and no test is without a line', () => {
  const numbers = [
    ...Array.from({ length: 14 }, (_, n) => `C${n + 11}`),
    ...Array.from({ length: 24 }, (_, n) => `A${n + 1}`),
  ]
  expect(rows.map(({ number }) => number)).toEqual(numbers)
  for (const { number, test } of rows)
    expect([number, test]).toEqual([number, expect.stringMatching(new RegExp(`\\b${number}\\b`))])
  expect(numbers.filter((number) => !tested.has(number))).toEqual([])
  expect([...tested].filter((number) => !numbers.includes(number as string))).toEqual([])
})
