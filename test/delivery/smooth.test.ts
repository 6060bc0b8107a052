import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { type SmoothUnit, smoothUnits } from '../../src/core/format.ts'
import { recutter, Smoother } from '../../src/delivery/smooth.ts'
import { done, start } from '../support/logs.ts'

const delta = (text: string) => new Delta('text', 0, escapeJson(text))

function recut(unit: SmoothUnit, events: readonly LogEvent[]): LogEvent[] {
  return events.flatMap(recutter(unit))
}

function pieces(unit: SmoothUnit, ...texts: string[]): string[] {
  return recut(unit, [...texts.map(delta), done])
    .filter((event) => event.type === 'delta')
    .map((event) => event.text)
}

const joined = (events: readonly LogEvent[]) =>
  events.map((event) => (event.type === 'delta' ? event.text : `<${event.type}>`)).join('')

describe.each(smoothUnits)('%s', (unit) => {
  it('changes no text and no order, whatever the pieces', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom(' ', '\n', '| a | b |\n', '. ', '水門', 'ตากลม', '👩‍👩‍👧', 'word ', '\r\n'),
    )
    const event = fc.oneof(
      text.map((each) => delta(each)),
      text.map((each) => new Delta('thinking', 1, escapeJson(each))),
      fc.constant(new Delta('input_json', 2, '{}')),
      fc.constant(start),
    )
    fc.assert(
      fc.property(fc.array(event), (events) => {
        expect(joined(recut(unit, [...events, done]))).toBe(joined([...events, done]))
      }),
    )
  })

  it('cuts the same at every replay', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (texts) => {
        const events = [...texts.map((text) => delta(text)), done]
        expect(recut(unit, events)).toEqual(recut(unit, events))
      }),
    )
  })

  it('holds no more than a bounded text back', () => {
    const fold = recutter(unit)
    let sent = 0
    let shown = 0
    for (let n = 0; n < 200; n++) {
      sent += 50
      for (const event of fold(delta('x'.repeat(50)))) shown += event.type === 'delta' ? event.text.length : 0
      expect(sent - shown).toBeLessThanOrEqual(2_000)
    }
  })
})

it('gives words whole, with the blanks and marks behind them', () => {
  expect(pieces('word', 'Hel', 'lo, wor', 'ld! How', ' are you?')).toEqual([
    'Hello, ',
    'world! ',
    'How ',
    'are ',
    'you?',
  ])
})

it('gives sentences and lines whole', () => {
  expect(pieces('sentence', 'One. Tw', 'o is longer. Thr', 'ee')).toEqual(['One. ', 'Two is longer. ', 'Three'])
  expect(pieces('line', 'a b', ' c\nd', '\n\ne')).toEqual(['a b c\n', 'd\n', '\n', 'e'])
})

it('gives the row of a table whole', () => {
  expect(pieces('word', '| a ', '| b |\n| - | - ', '|\n| 1 | 2 |\n', 'x y')).toEqual([
    '| a | b |\n',
    '| - | - |\n',
    '| 1 | 2 |\n',
    'x ',
    'y',
  ])
})

it.each([
  ['Chinese', '水门是一种用来控制水流的闸门它可以升起也可以放下'],
  ['Thai', 'ประตูน้ำเป็นสิ่งก่อสร้างที่ใช้ควบคุมการไหลของน้ำ'],
])('finds the words of %s as if it had come in one piece', (_, text) => {
  const whole = [...new Intl.Segmenter(undefined, { granularity: 'word' }).segment(text)].map(({ segment }) => segment)
  expect(pieces('word', ...text)).toEqual(whole)
})

it.each(['👩‍👩‍👧‍👦', '🇨🇭🇨🇭', 'e\u0301', 'ก็'])('never cuts %s', (cluster) => {
  const units = [...`a ${cluster} b`]
  expect(pieces('word', ...units).some((piece) => piece.includes(cluster))).toBe(true)
})

it('does not touch the input of tools', () => {
  const json = new Delta('input_json', 0, '{\\"a b\\":')
  expect(recut('word', [delta('half'), json, done])).toEqual([delta('half'), json, done])
})

describe('pacing', () => {
  const words = Array.from({ length: 40 }, (_, n) => delta(`w${n} `))

  it('lets the first word out at once', () => {
    expect(joined(new Smoother('word').pass([delta('Hello '), delta('world ')], 1_000))).toContain('Hello')
  })

  it('spreads a burst, and nothing waits longer than 400 ms', () => {
    const smoother = new Smoother('word')
    smoother.pass([delta('first '), delta('x')], 0)
    const shown: number[] = []
    let out = smoother.pass([...words, done], 1_000).length
    for (let now = 1_025; now <= 1_425; now += 25) {
      out += smoother.pass([], now).length
      shown.push(out)
    }
    expect(shown[2]).toBeLessThan(40)
    expect(shown[4]).toBeGreaterThan(shown[2] as number)
    expect(joined(smoother.pass([], 1_425))).toBe('')
    expect(out).toBeGreaterThanOrEqual(40)
  })

  it('keeps the order and loses nothing', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.array(fc.constantFrom(...words)), fc.integer({ min: 0, max: 500 }))),
        (bursts) => {
          const smoother = new Smoother('word')
          let now = 0
          const out: LogEvent[] = []
          for (const [events, pause] of bursts) {
            out.push(...smoother.pass(events, now))
            now += pause
          }
          out.push(...smoother.pass([done], now), ...smoother.pass([], now + 10_000))
          expect(joined(out)).toBe(joined([...bursts.flatMap(([events]) => events), done]))
        },
      ),
    )
  })

  it('paces no more than anybody reads in a while: of a long answer it lets all go but the end', () => {
    const smoother = new Smoother('word')
    const long = Array.from({ length: 20_000 }, (_, n) => delta(`w${n} `))
    const out = smoother.pass(long, 1_000)
    expect(out.length).toBeGreaterThan(15_000)
    expect(smoother.pass([], 1_001)).toEqual([])
    out.push(...smoother.pass([done], 1_500), ...smoother.pass([], 2_000))
    expect(joined(out)).toBe(joined([...long, done]))
  })
})
