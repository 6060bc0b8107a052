import fc from 'fast-check'
import { expect, it } from 'vitest'
import { newStreamId, parsePosition, streamIdPattern } from '../../src/core/position.ts'

it('makes ids of 128 random bits that never repeat', () => {
  const ids = Array.from({ length: 1_000 }, newStreamId)
  for (const id of ids) expect(id).toMatch(streamIdPattern)
  expect(new Set(ids).size).toBe(ids.length)
})

it('reads every position that it could have written', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 999_999_999_999_999 }), (n) => {
      const stream = newStreamId()
      expect(parsePosition(`${stream}.${n}`)).toEqual({ stream, n })
    }),
  )
})

const id = `s_${'aB3-_'.repeat(4)}xy`

it.each([
  '',
  id,
  `${id}.`,
  `.${id}`,
  `${id}.-1`,
  `${id}.+1`,
  `${id}.01`,
  `${id}.1.0`,
  `${id}.1e3`,
  `${id}.0x1`,
  `${id}. 1`,
  ` ${id}.1`,
  `${id}.1 `,
  `${id}.1\n`,
  `${id}.1\0`,
  `${id}.٣`,
  `${id}.1000000000000000`,
  `${id}x.1`,
  `${id.slice(0, -1)}.1`,
  `${id.slice(0, -1)}/.1`,
  `S_${id.slice(2)}.1`,
  `${id}.1,${id}.2`,
])('takes %j for no position', (text) => {
  expect(parsePosition(text)).toBeUndefined()
})
