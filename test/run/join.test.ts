import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { join } from '../../src/run/join.ts'

const prose =
  'The phrase "I think, therefore I am" (originally in Latin as *Cogito, ergo sum*) was written by René Descartes in 1637.\n\n' +
  '- It comes from the **Discourse on the Method**.\n- Later, he repeated it: again and again, in the Principles.\n\n' +
  '```python\ndef cogito(thought):\n    # the the doubled word stays\n    return thought is not None\n```\n\n' +
  '| a | b |\n| --- | --- |\n| 1 | 1 |\n| 1 | 1 |\n\nHa ha ha! La la la la, JavaScript and getThe, 0, 0, 0, 0, 0. 水門は水の門です。'

describe('the rest of an answer', () => {
  it('that goes on where the beginning ended stays as it is, wherever that is', () => {
    for (let at = 0; at < prose.length; at++) {
      expect(join(prose.slice(0, at), prose.slice(at)), JSON.stringify(prose.slice(at - 20, at))).toBe(prose.slice(at))
    }
  })

  it('loses the words that it says again', () => {
    for (let at = 30; at < prose.indexOf('```'); at++) {
      const before = prose.slice(0, at)
      // Words that begin at their beginning: what says less is not told from an accident.
      const again = /\S+\s+\S+\s+\S+\s*$/.exec(before)?.[0]
      if (!again || new Set(again.match(/\p{L}{2,}/gu)).size < 2) continue
      expect(before + join(before, again + prose.slice(at)), JSON.stringify(again)).toBe(prose)
      expect(before + join(before, again.toUpperCase() + prose.slice(at))).toBe(prose)
    }
  })

  it.each([
    ['The quick', 'Continuing: brown fox', ' brown fox'],
    ['The quick', 'Continuing:  brown fox', '  brown fox'.slice(1)],
    ['The quick ', 'Continuing: brown fox', 'brown fox'],
    ['The quick', 'Continuing from where I left off: brown fox', ' brown fox'],
    ['One.\n\n', 'Here is the rest:\n\nTwo.', 'Two.'],
    ['readonly pres', 'sure: Pressure', 'sure: Pressure'],
    ['He answered: "', 'Of course, here you go:" and', 'Of course, here you go:" and'],
    ['if ([', '...open.values()', '...open.values()'],
    ['The quick ', "Sure, here's the rest of it:\nbrown fox", 'brown fox'],
    ['The quick', '… brown fox', ' brown fox'],
    ['Wait...', '... for it', '... for it'],
    ['The cat sat on the mat', ' And slept', ' and slept'],
    ['The cat sat on the mat', 'And slept', ' and slept'],
    ['The cat sat on the mat.', ' And slept', ' And slept'],
    ['He went to', ' Paris', ' Paris'],
    ['```js\nconst a = 1\n', '```js\nconst b = 2\n```', 'const b = 2\n```'],
    ['```js\nconst a = 1\n```\n', '```js\nconst b = 2\n```', '```js\nconst b = 2\n```'],
    ['Ones:\n| 1 | 1 |\n', '| 1 | 1 |\n', '| 1 | 1 |\n'],
    ['He had', ' had enough', ' had enough'],
    ['and over and over', ' and over again', ' and over again'],
    ['to be or not ', 'or not to be', 'to be'],
    ['to be or not', 'or not to be', ' to be'],
    ['', 'And so it begins', 'And so it begins'],
    ['Hello wor', 'Hello world', 'ld'],
    ['İstanbul is a city', 'is a city in Turkey', ' in Turkey'],
  ])('%j + %j', (before, rest, joined) => {
    expect(join(before, rest)).toBe(joined)
  })

  it('is never more than what came', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (before, rest) => {
        expect(join(before, rest).length).toBeLessThanOrEqual(rest.length + 1)
      }),
    )
  })
})
