import { describe, expect, it } from 'vitest'
import type { MessageRequest } from '../../src/core/request.ts'
import { amountOf, estimateInput } from '../../src/limits/estimate.ts'

const asking = (content: unknown, more: object = {}): MessageRequest => ({
  model: 'claude-test',
  max_tokens: 100,
  messages: [{ role: 'user', content }],
  ...more,
})
const block = (type: string, source: object) => [{ type, source }]
const base64 = (bytes: number) => ({ type: 'base64', media_type: 'x/y', data: 'A'.repeat(Math.ceil((bytes * 4) / 3)) })

describe('the estimate of input', () => {
  const none = estimateInput(asking(''))

  it.each<[string, MessageRequest, number, number]>([
    ['nothing but its frame', asking(''), 0, 20],
    ['text by its bytes', asking('a'.repeat(3_000)), 1_000, 1_020],
    ['other scripts by theirs', asking('語'.repeat(1_000)), 1_000, 1_020],
    ['the system prompt', asking('', { system: 'a'.repeat(300) }), 100, 120],
    ['tools', asking('', { tools: [{ name: 'a'.repeat(300), input_schema: { type: 'object' } }] }), 100, 140],
    ['a large image for no more than Claude makes of it', asking(block('image', base64(8e6))), 5_000, 5_020],
    ['a small image by its size', asking(block('image', base64(100_000))), 1_000, 1_020],
    ['an image elsewhere', asking(block('image', { type: 'url', url: 'https://x' })), 1_600, 1_620],
    ['a document by its size', asking(block('document', base64(1e6))), 40_000, 40_020],
    ['a document elsewhere', asking(block('document', { type: 'file', file_id: 'f' })), 20_000, 20_020],
    ['a document of text', asking(block('document', { type: 'text', data: 'a'.repeat(3_000) })), 1_000, 1_020],
    [
      'an image in a tool result',
      asking([{ type: 'tool_result', content: block('image', base64(8e6)) }]),
      5_000,
      5_040,
    ],
    [
      'what is said beside a document',
      asking([{ ...block('document', { type: 'file', file_id: 'f' })[0], context: 'a'.repeat(30_000) }]),
      30_000,
      30_040,
    ],
    [
      'what looks like a picture and was given to a tool',
      asking([{ type: 'tool_use', input: { type: 'image', source: base64(9e6) } }]),
      4e6,
      4.01e6,
    ],
    ['what looks like one in a schema', asking('', { tools: [{ type: 'image', source: base64(9e6) }] }), 4e6, 4.01e6],
    ['what is no block at all', asking([null, 7, { type: 'image', source: null }]), 0, 40],
  ])('counts %s', (_, request, least, most) => {
    expect(estimateInput(request)).toBeGreaterThanOrEqual(least)
    expect(estimateInput(request)).toBeLessThanOrEqual(most + none)
  })

  it.each([
    'constructor',
    '__proto__',
    'toString',
    'hasOwnProperty',
  ])('is a number, whatever a block is called: %s', (type) => {
    for (const source of [{ type: 'url' }, { type: 'base64', data: 'AAAA' }, { type: 'file' }]) {
      expect(estimateInput(asking(block(type, source)))).toBeGreaterThan(0)
      expect(Number.isSafeInteger(estimateInput(asking(block(type, source))))).toBe(true)
    }
  })

  it('has a price where the model has one', () => {
    const price = { input: 3, output: 15, cache_read: 0, cache_write_5m: 0, cache_write_1h: 0 }
    expect(amountOf(1_000, 100, price)).toEqual({ tokens: 1_100, microdollars: 4_500 })
    expect(amountOf(1_000, 100, undefined)).toEqual({ tokens: 1_100, microdollars: 0 })
  })
})
