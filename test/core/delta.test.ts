import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Delta, type DeltaKind, deltaShapes, escapeJson } from '../../src/core/delta.ts'
import { jsonOf } from '../support/logs.ts'

describe('a delta', () => {
  it('has its payload as text, and writes the JSON that Claude writes', () => {
    const kind = fc.constantFrom(...(Object.keys(deltaShapes) as DeltaKind[]))
    const text = fc.string({ unit: 'binary' })
    fc.assert(
      fc.property(kind, fc.nat(999_999), text, (kind, index, text) => {
        const delta = new Delta(kind, index, escapeJson(text))
        const { type, field } = deltaShapes[kind]
        expect(delta.text).toBe(text)
        expect(jsonOf(delta)).toBe(
          JSON.stringify({ type: 'content_block_delta', index, delta: { type, [field]: text } }),
        )
      }),
    )
  })

  it('writes the raw JSON it was given when that says more', () => {
    expect(jsonOf(new Delta('text', 0, 'hi', '{"more":1}'))).toBe('{"more":1}')
  })
})
