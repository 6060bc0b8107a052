import { expect, it } from 'vitest'
import { randomText } from '../../src/core/random.ts'

it('gives every text once, of the length that was asked for', () => {
  const texts = Array.from({ length: 10_000 }, (_, n) => randomText(12 + (n % 5)))
  expect(new Set(texts).size).toBe(texts.length)
  expect(new Set(texts.map((text) => text.slice(0, 12))).size).toBe(texts.length)
  for (const [n, text] of texts.entries()) {
    expect(text).toMatch(/^[\w-]+$/)
    expect(Buffer.from(text, 'base64url')).toHaveLength(12 + (n % 5))
  }
})
