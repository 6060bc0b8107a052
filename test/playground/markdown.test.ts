import { describe, expect, it } from 'vitest'
import { type Inline, parseInline, textOf } from '../../src/playground/inline.ts'
import { type Block, parseMarkdown, settledLength } from '../../src/playground/markdown.ts'

const only = (text: string): Block => {
  const blocks = parseMarkdown(text)
  expect(blocks).toHaveLength(1)
  return blocks[0] as Block
}
const plain = (text: string): Inline => ({ kind: 'text', text })

describe('blocks', () => {
  it('are headings, paragraphs and rules', () => {
    expect(parseMarkdown('# One\n\ntwo\nthree\n\n---\n###### Six ##')).toEqual([
      { kind: 'heading', level: 1, inlines: [plain('One')] },
      { kind: 'paragraph', inlines: [plain('two\nthree')] },
      { kind: 'rule' },
      { kind: 'heading', level: 6, inlines: [plain('Six')] },
    ])
  })

  it('are code between fences, to the end where none closes it, with whatever stands in it', () => {
    expect(only('```ts\nconst a = `b`\n\n# no heading\n```')).toEqual({
      kind: 'code',
      language: 'ts',
      text: 'const a = `b`\n\n# no heading',
    })
    expect(only('~~~~\n```\n~~~')).toEqual({ kind: 'code', language: '', text: '```\n~~~' })
  })

  it('are lists within lists, with several blocks in an item', () => {
    const item = (text: string): Block => ({ kind: 'paragraph', inlines: [plain(text)] })
    expect(only('3. a\n   - b\n   - c\n\n   d\n4. e')).toEqual({
      kind: 'list',
      start: 3,
      items: [
        [item('a'), { kind: 'list', start: undefined, items: [[item('b')], [item('c')]] }, item('d')],
        [item('e')],
      ],
    })
    expect(only('- a\n\n- b')).toMatchObject({ kind: 'list', items: [[item('a')], [item('b')]] })
  })

  it('are quotes and tables', () => {
    expect(only('> a\n> > b')).toMatchObject({ kind: 'quote', blocks: [{ kind: 'paragraph' }, { kind: 'quote' }] })
    expect(only('| a | b |\n|---|:-:|\n| 1 | **2** |')).toEqual({
      kind: 'table',
      rows: [
        [[plain('a')], [plain('b')]],
        [[plain('1')], [{ kind: 'strong', children: [plain('2')] }]],
      ],
    })
    expect(only('a | b')).toMatchObject({ kind: 'paragraph' })
  })

  it('end somewhere, however deep they are meant to be', () => {
    expect(() => parseMarkdown('> '.repeat(50_000))).not.toThrow()
    expect(() => parseMarkdown('- '.repeat(50_000))).not.toThrow()
  })
})

describe('text', () => {
  it('has emphasis, code, strikes, breaks and escapes', () => {
    expect(parseInline('**a *b* c** ~~d~~ `e*f*` \\*g\\*  \nh')).toEqual([
      { kind: 'strong', children: [plain('a '), { kind: 'em', children: [plain('b')] }, plain(' c')] },
      plain(' '),
      { kind: 'del', children: [plain('d')] },
      plain(' '),
      { kind: 'code', text: 'e*f*' },
      plain(' *g*'),
      { kind: 'break' },
      plain('h'),
    ])
  })

  it.each([
    'a * b * c',
    '2 ** 3',
    'snake_case_name',
    '**open',
    '[a](b',
    '`open',
    '[]',
    '![',
    'a ~~ b',
    '\\',
  ])('is text where it only looks like that: %s', (text) => {
    expect(textOf(parseInline(text))).toBe(text)
    expect(parseInline(text).every(({ kind }) => kind === 'text')).toBe(true)
  })

  it('has links to pages over https, and no others', () => {
    expect(parseInline('[a](https://b.example/c_(d))')).toEqual([
      { kind: 'link', url: new URL('https://b.example/c_(d)'), children: [plain('a')] },
    ])
    for (const url of [
      'javascript:alert(1)',
      'JaVaScRiPt:alert(1)',
      'java\tscript:alert(1)',
      'data:text/html,x',
      'http://plain.example',
      '//other.example',
      'vbscript:x',
      'blob:https://a.example/b',
      'https://a.example@b.example/',
      '/stream?prompt=spend',
    ]) {
      expect(JSON.stringify(parseInline(`[a](${url})`)), url).not.toContain('"link"')
    }
  })

  it('has no images, but says what they were meant to be', () => {
    expect(parseInline('![secret](https://a.example/?q=1)')).toEqual([{ kind: 'image', text: 'secret' }])
  })

  it('has nothing that turns the direction of what follows', () => {
    expect(only('a\u202eb\u2066c')).toEqual({ kind: 'paragraph', inlines: [plain('abc')] })
  })
})

describe('time', () => {
  const hostile: [string, (n: number) => string][] = [
    ['stars', (n) => '*'.repeat(n)],
    ['opened emphasis', (n) => '*a '.repeat(n / 3)],
    ['brackets', (n) => '['.repeat(n)],
    ['ends of links', (n) => ']('.repeat(n / 2)],
    ['links that do not end', (n) => '[a](('.repeat(n / 5)],
    ['backticks of all lengths', (n) => Array.from({ length: Math.sqrt(n) }, (_, m) => '`'.repeat(m)).join(' ')],
    ['blanks', (n) => `a${' '.repeat(n)}b`],
    ['lines of blanks', (n) => ' \n'.repeat(n / 2)],
    ['a line of rules', (n) => `${'- '.repeat(n / 2)}x`],
    ['rules of tables', (n) => `|a|\n|${'-|'.repeat(n / 2)}x`],
    ['columns', (n) => `${'|'.repeat(n)}\n|-|`],
    ['items', (n) => '- a\n'.repeat(n / 4)],
    ['quotes', (n) => '>'.repeat(n)],
    ['short lines', (n) => 'a\n'.repeat(n / 2)],
    ['fences', (n) => '```\n'.repeat(n / 4)],
    ['entities', (n) => '&lt;'.repeat(n / 4)],
  ]

  // Twice of what is read anew, at most, for what is added to an answer: with its square it would take seconds.
  it.each(hostile)('is short for 60 KB of %s', (_, make) => {
    const text = make(60 * 1_024)
    const least = Math.min(...[1, 2, 3].map(() => timeOf(() => parseMarkdown(text))))
    expect(least).toBeLessThan(200)
    expect(Math.min(...[1, 2, 3].map(() => timeOf(() => settledLength(text))))).toBeLessThan(200)
  })
})

function timeOf(work: () => void): number {
  const from = performance.now()
  work()
  return performance.now() - from
}

describe('what has settled', () => {
  it('is all up to the last block, and reading it in pieces makes no difference', () => {
    const text = '# a\n\nb\nc\n\n- d\n\n  e\n\n- f\n\n```\ng\n\nh\n```\n\n| a |\n|---|\n| b |\n\ni\n'
    let rest = ''
    const pieces: Block[] = []
    for (const character of text) {
      rest += character
      const settled = settledLength(rest)
      pieces.push(...parseMarkdown(rest.slice(0, settled)))
      rest = rest.slice(settled)
    }
    expect([...pieces, ...parseMarkdown(rest)]).toEqual(parseMarkdown(text))
    expect(rest).toBe('i\n')
  })

  it('is nothing while code is open, whatever stands in it', () => {
    expect(settledLength('a\n\n```\n\nb\n\nc\n')).toBe('a\n\n'.length)
  })
})
