import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { signatureOf } from '../../src/tools/signature.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/tool-kinds.md'), 'utf8')
const secret = 'a secret of the two, with an é'
const body = '{"id":"toolu_1","input":{"city":"Zürich"}}'
const now = Math.floor(Date.now() / 1_000)

const signed = (timestamp: string, text = body, key = secret) => ({
  'sluice-timestamp': timestamp,
  'sluice-signature': signatureOf(key, timestamp, text),
})

const cases: readonly (readonly [what: string, headers: Record<string, string>, isGood: boolean])[] = [
  ['good', signed(String(now)), true],
  ['a little old', signed(String(now - 290)), true],
  ['too old', signed(String(now - 310)), false],
  ['from the future', signed(String(now + 310)), false],
  ['with no time', signed('soon'), false],
  ['of another body', signed(String(now), `${body} `), false],
  ['of another secret', signed(String(now), body, 'another secret of theirs'), false],
  ['cut short', { ...signed(String(now)), 'sluice-signature': 'v1=' }, false],
  ['not signed', { 'sluice-timestamp': String(now) }, false],
  ['without any header', {}, false],
]

/** The block of code in the page, and one that runs all cases through it. */
function program(language: string, rest: string): string {
  const block = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(page)?.[1]
  if (!block) throw new Error(`docs/tool-kinds.md has no code in ${language}`)
  return `${block}\n${rest}`
}

describe('a signature', () => {
  const input = JSON.stringify(cases.map(([, headers]) => ({ secret, headers, body })))

  it.each([
    [
      process.execPath,
      ['--input-type=module', '-e'],
      program(
        'js',
        'console.log(JSON.stringify(JSON.parse(process.argv[1]).map((c) => isFromSluice(c.secret, c.headers, c.body))))',
      ),
    ],
    [
      'python3',
      ['-c'],
      program(
        'python',
        'import json, sys\nprint(json.dumps([is_from_sluice(c["secret"], c["headers"], c["body"]) for c in json.loads(sys.argv[1])]))',
      ),
    ],
  ])('is checked by the code in the docs (%s)', async (command, args, code) => {
    const { stdout } = await promisify(execFile)(command, [...args, code, input])
    const results: boolean[] = JSON.parse(stdout)
    expect(cases.map(([what], n) => [what, results[n]])).toEqual(cases.map(([what, , isGood]) => [what, isGood]))
  })
})
