import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { text } from '../../src/formats/text.ts'
import { done, failed, fold, logOf, parse, start, streamId } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'

const read = (events: readonly unknown[]) => parse(fold(text, events as LogEvent[]))
const delta = (value: string) => new Delta('text', 0, escapeJson(value))
const end = { data: '[DONE]', event: undefined, id: undefined }

it.each([...recordings])('is the text of %s and nothing else', (_, recording) => {
  const { text: expected, whole } = expectedOf(recording)
  const messages = read(logOf(recording))
  expect(messages.at(-1)).toEqual(end)
  const terminal = whole ? [] : [messages.at(-2)]
  for (const message of terminal) {
    expect(message?.event).toBe('stream_error')
    expect(JSON.parse(message?.data ?? '')).toEqual(failed)
  }
  const pieces = messages.slice(0, -1 - terminal.length)
  expect(pieces.every(({ event }) => event === undefined)).toBe(true)
  expect(pieces.map(({ data }) => data).join('')).toBe(expected)
})

it('writes any text so that a client has it back, with every line break as LF', () => {
  const piece = fc.array(
    fc.oneof(fc.constantFrom('\r', '\n', '\r\n', '[DONE]', '\0', '🌊', ' '), fc.string({ unit: 'binary' })),
  )
  const pieces = fc.array(piece.map((parts) => parts.join('')))
  fc.assert(
    fc.property(pieces, (pieces) => {
      const messages = read([start, ...pieces.map(delta), done])
      expect(messages.at(-1)).toEqual(end)
      const said = messages.slice(0, -1).map(({ data }) => data)
      expect(said).not.toContain('[DONE]')
      expect(said.join('')).toBe(pieces.join('').replace(/\r\n?/g, '\n'))
    }),
  )
})

it('gives an id before the first word, and another with success', () => {
  expect(fold(text, [start, done])).toBe(`id: ${streamId}.1\n\nid: ${streamId}.2\n\ndata: [DONE]\n\n`)
})

it.each([
  failed,
  { type: 'cancelled', by: 'stop', usage: { input_tokens: 1, output_tokens: 2 } } as const,
])('tells $type under a name that EventSource does not take for its own', (terminal) => {
  const [told, last] = read([start, terminal])
  expect(told).toMatchObject({ event: 'stream_error', id: `${streamId}.2` })
  expect(JSON.parse(told?.data ?? '')).toEqual(terminal)
  expect(last).toEqual(end)
})

describe('of all else it', () => {
  it.each<[string, unknown[]]>([
    ['empty deltas', [delta('')]],
    ['thinking', [new Delta('thinking', 0, 'x')]],
    ['tool input', [new Delta('input_json', 0, '{}')]],
    ['blocks without text', [{ type: 'content_block_start', index: 0, content_block: { type: 'text' } }]],
    [
      'blocks with null for text',
      [{ type: 'content_block_start', index: 0, content_block: { type: 'text', text: null } }],
    ],
    [
      'tools',
      [{ type: 'content_block_start', index: 0, content_block: { type: 'tool_use', id: 'a', name: 'b', input: {} } }],
    ],
    ['unknown events', [{ type: 'unknown', event: { type: 'x', text: 'y' } }]],
    ['citations', [{ type: 'content_block_delta', index: 0, delta: { type: 'citations_delta', citation: {} } }]],
  ])('says nothing: %s', (_, events) => {
    expect(fold(text, events as LogEvent[])).toBe('')
  })
})

it('says the text that a block begins with', () => {
  const begin = { type: 'content_block_start', index: 0, content_block: { type: 'text', text: 'Once' } }
  expect(read([begin, delta(' upon')]).map(({ data }) => data)).toEqual(['Once', ' upon'])
})
