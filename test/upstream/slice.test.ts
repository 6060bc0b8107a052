import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Delta, type DeltaKind, deltaShapes, escapeJson } from '../../src/core/delta.ts'
import { DeltaSlicer } from '../../src/upstream/slice.ts'

const kind = fc.constantFrom(...(Object.keys(deltaShapes) as DeltaKind[]))
const index = fc.nat(99)
const blanks = fc.nat(12).map((count) => ' '.repeat(count))
const anyUnit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code))
const payload = fc
  .array(
    fc.oneof(
      fc.constantFrom('"', '\\', '\\\\"', '\\u', '}}', '"}}', '\ud83d', '\ude00', '🌊', '\u2028', '\n', '\0', '\x7f'),
      fc.string({ unit: 'grapheme' }),
      fc.string({ unit: anyUnit, maxLength: 5 }),
    ),
    { maxLength: 8 },
  )
  .map((pieces) => pieces.join(''))

interface Parts {
  kind: DeltaKind
  index: number | string
  escaped: string
  pads?: readonly [string, string, string]
}

/** The line as Anthropic writes it, with blanks before either brace and behind the last. */
function lineOf({ kind, index, escaped, pads: [a, b, c] = ['', '', ''] }: Parts): string {
  const { type, field } = deltaShapes[kind]
  const delta = `{"type":"${type}","${field}":"${escaped}"${a}}`
  return `{"type":"content_block_delta","index":${index},"delta":${delta}${b}}${c}`
}

const pads = fc.tuple(blanks, blanks, blanks)
/** What is taken of a line when it comes as the data of a whole event. */
const slice = (line: string) => new DeltaSlicer().slice(eventOf(line), 0)

const eventOf = (line: string) => `event: content_block_delta\ndata: ${line}\n\n`

/** What JSON itself says of a line, in the terms of a Delta; `undefined` when it is no JSON. */
function viaJson(line: string): { kind: unknown; index: unknown; text: unknown } | undefined {
  try {
    const { index, delta } = JSON.parse(line)
    const [kind, shape] = Object.entries(deltaShapes).find(([, { type }]) => type === delta.type) ?? []
    return { kind, index, text: shape && delta[shape.field] }
  } catch {
    return undefined
  }
}

const facts = ({ kind, index, text }: Delta) => ({ kind, index, text })

describe('a slicer of deltas', () => {
  it('reads every kind, index, payload and padding as JSON.parse does', () => {
    fc.assert(
      fc.property(kind, index, payload, pads, (kind, index, text, pads) => {
        const line = lineOf({ kind, index, escaped: escapeJson(text), pads })
        const delta = slice(line) as Delta
        expect(facts(delta)).toEqual({ kind, index, text })
        expect(delta.escaped).toBe(escapeJson(text))
      }),
      { numRuns: 500 },
    )
  })

  it('reads one event after the other, whatever kinds and blocks they are of', () => {
    const delta = fc.tuple(kind, index, payload, pads)
    fc.assert(
      fc.property(fc.array(delta, { maxLength: 10 }), fc.string(), fc.string(), (deltas, before, after) => {
        const lines = deltas.map(([kind, index, text, pads]) =>
          lineOf({ kind, index, escaped: escapeJson(text), pads }),
        )
        const text = before + lines.map(eventOf).join('') + after
        const slicer = new DeltaSlicer()
        let at = before.length
        for (const [kind, index, payload] of deltas) {
          const delta = slicer.slice(text, at)
          expect(delta && facts(delta)).toEqual({ kind, index, text: payload })
          at = slicer.end
        }
        expect(at).toBe(text.length - after.length)
      }),
    )
  })

  it('takes no event before all of it is there', () => {
    const event = eventOf(lineOf({ kind: 'text', index: 0, escaped: 'a\\"}}' }))
    const slicer = new DeltaSlicer()
    expect(slicer.slice(event, 0)).toBeDefined()
    for (let to = 0; to < event.length; to++) expect(slicer.slice(event.slice(0, to), 0)).toBeUndefined()
    for (let from = 1; from <= event.length; from++) expect(slicer.slice(event, from)).toBeUndefined()
  })

  it('fails in linear time', () => {
    const long = `${'a'.repeat(100)}\\n`.repeat(10_000)
    const event = eventOf(lineOf({ kind: 'text', index: 0, escaped: long }))
    const slicer = new DeltaSlicer()
    expect(slicer.slice(event, 0)?.escaped).toBe(long)
    // A million characters: what went over them again and again would never come to an end.
    expect(slicer.slice(event.slice(0, -1), 0)).toBeUndefined()
    expect(slicer.slice(event.replace('"}}', '"]}'), 0)).toBeUndefined()
  })

  const wellFormed = lineOf({ kind: 'text', index: 0, escaped: 'hi' })
  it.each([
    ['an extra field', wellFormed.replace(',"delta"', ',"extra":1,"delta"')],
    ['an extra field behind', wellFormed.replace(/}$/, ',"extra":1}')],
    ['an extra field in the delta', wellFormed.replace('"}}', '","extra":1}}')],
    ['another string in the delta', wellFormed.replace('"}}', '","extra":"x"}}')],
    ['another order', '{"index":0,"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}'],
    [
      'another order in the delta',
      wellFormed.replace('"type":"text_delta","text":"hi"', '"text":"hi","type":"text_delta"'),
    ],
    ['blanks elsewhere', wellFormed.replace(':', ': ')],
    ['a tab before the brace', wellFormed.replace('"}}', '"\t}}')],
    ['a wrong field for the type', wellFormed.replace('"text":', '"thinking":')],
    ['an unknown delta', wellFormed.replace('text_delta', 'voxel_delta')],
    ['a payload that is no string', wellFormed.replace('"hi"', '5')],
    ['a raw line break', wellFormed.replace('hi', 'h\ni')],
    ['a raw NUL', wellFormed.replace('hi', 'h\0i')],
    ['a bad escape', wellFormed.replace('hi', '\\x')],
    ['a short unicode escape', wellFormed.replace('hi', '\\u12')],
    ['an escape of the closing quote', wellFormed.replace('hi', 'hi\\')],
    ['a quote within', wellFormed.replace('hi', 'h"i')],
    ['no end', wellFormed.slice(0, -1)],
    ['no closing quote', wellFormed.replace('hi"', 'hi')],
    ['one brace too many', `${wellFormed}}`],
    ['no index', wellFormed.replace(':0,', ':,')],
    ['a negative index', wellFormed.replace(':0,', ':-1,')],
    ['a fractional index', wellFormed.replace(':0,', ':0.5,')],
    ['an index with leading zeros', wellFormed.replace(':0,', ':007,')],
    ['an endless index', wellFormed.replace(':0,', `:${'9'.repeat(20)},`)],
    ['a high index', wellFormed.replace(':0,', ':100,')],
    ['two lines', wellFormed.replace(',"delta"', ',\ndata: "delta"')],
    ['nothing', ''],
  ])('leaves %s to the parser', (_, line) => {
    expect(slice(line)).toBeUndefined()
  })

  const character = fc.oneof(
    fc.constantFrom(...'"\\{}[]:, 0123456789-+.eEtu/', '\n', '\0', '\t'),
    fc.string({ unit: anyUnit, minLength: 1, maxLength: 1 }),
  )
  const mutation = fc.tuple(fc.constantFrom('replace', 'insert', 'delete', 'double'), fc.nat(), character)

  it('never accepts what JSON refuses, nor reads it otherwise, however a line is damaged', () => {
    fc.assert(
      fc.property(kind, index, payload, pads, fc.array(mutation, { minLength: 1, maxLength: 3 }), (...given) => {
        const [kind, index, text, pads, mutations] = given
        let line = lineOf({ kind, index, escaped: escapeJson(text), pads })
        for (const [how, where, character] of mutations) {
          const at = where % (line.length + 1)
          const inserted =
            how === 'insert' || how === 'replace' ? character : how === 'double' ? line.slice(at, at + 3) : ''
          line = line.slice(0, at) + inserted + line.slice(how === 'replace' || how === 'delete' ? at + 1 : at)
        }
        const delta = slice(line)
        if (delta) expect(facts(delta)).toEqual(viaJson(line))
      }),
      { numRuns: 5_000 },
    )
  })
})
