import { describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { json } from '../../src/formats/json.ts'
import { done, failed, fold, logOf, parse, streamId } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'

type Frame = Record<string, unknown>

function framesOf(events: readonly unknown[]): Frame[] {
  const messages = parse(fold(json, events as LogEvent[]))
  expect(messages.every(({ event }) => event === undefined)).toBe(true)
  return messages.filter(({ data }) => data !== '[DONE]').map(({ data }) => JSON.parse(data))
}

const startOf = (index: number, content_block: object) => ({ type: 'content_block_start', index, content_block })
const stopOf = (index: number) => ({ type: 'content_block_stop', index })
const otherDelta = (index: number, delta: object) => ({ type: 'content_block_delta', index, delta })
const delta = (kind: 'text' | 'thinking' | 'input_json', index: number, text: string) =>
  new Delta(kind, index, escapeJson(text))

describe.each([...recordings])('%s', (_, recording) => {
  const expected = expectedOf(recording)
  const frames = framesOf(logOf(recording))
  const of = (type: string) => frames.filter((frame) => frame['type'] === type)
  const join = (type: string) =>
    of(type)
      .map((frame) => frame['text'])
      .join('')

  it('loses nothing of what Claude sent', () => {
    expect(join('text')).toBe(expected.text)
    expect(join('thinking')).toBe(expected.thinking)
    expect(of('tool_call').map(({ id, name, input }) => ({ id, name, input }))).toEqual(expected.tools)
    expect(of('citation').map((frame) => frame['citation'])).toEqual(expected.citations)
    const blocks = of('block').map((frame) => frame['content_block'] as Frame)
    expect(blocks.filter((block) => block['type'] !== 'thinking')).toEqual(expected.otherBlocks)
    const signed = expected.signatures.map((signature) => ({ type: 'thinking', thinking: '', signature }))
    expect(blocks.filter((block) => block['type'] === 'thinking')).toEqual(signed)
  })

  it('begins with the stream, then the message, and ends with the terminal frame', () => {
    expect(frames[0]).toEqual({ type: 'start', stream: streamId, model: 'claude-test', format_version: 1 })
    expect(frames[1]).toMatchObject({ type: 'message', model: expected.model })
    expect(of('message')).toHaveLength(1)
    expect(frames.at(-1)).toEqual(expected.whole ? done : failed)
  })

  it('tells the input of each tool in pieces, then whole', () => {
    for (const { id } of expected.tools) {
      const [begun] = of('tool_start').filter((frame) => frame['id'] === id)
      const pieces = of('tool_delta')
        .filter((frame) => frame['id'] === id)
        .map((frame) => frame['json'])
        .join('')
      const [call] = of('tool_call').filter((frame) => frame['id'] === id)
      expect(begun).toMatchObject({ name: call?.['name'], block: call?.['block'], server: !id.startsWith('toolu_') })
      expect(pieces === '' ? {} : JSON.parse(pieces)).toEqual(call?.['input'])
    }
  })
})

it('keeps the name of the MCP server behind a tool', () => {
  const frames = framesOf(logOf(recordings.get('vercel-ai__mcp') as Buffer))
  const starts = frames.filter((frame) => frame['type'] === 'tool_start')
  expect(starts).toEqual([expect.objectContaining({ name: 'echo', server: true, server_name: 'echo' })])
})

describe('a tool call', () => {
  const tool = (...pieces: string[]) =>
    framesOf([
      startOf(0, { type: 'tool_use', id: 'toolu_1', name: 'weather', input: {} }),
      ...pieces.map((piece) => delta('input_json', 0, piece)),
      stopOf(0),
    ])

  it('has the input {} when Claude sent no arguments, and no pieces', () => {
    const expected = [
      { type: 'tool_start', block: 0, id: 'toolu_1', name: 'weather', server: false },
      { type: 'tool_call', block: 0, id: 'toolu_1', name: 'weather', input: {} },
    ]
    expect(tool()).toEqual(expected)
    expect(tool('', '')).toEqual(expected)
  })

  it('has the raw text of input that does not parse', () => {
    expect(tool('{"a":', '"b').slice(1)).toEqual([
      { type: 'tool_delta', block: 0, id: 'toolu_1', json: '{"a":' },
      { type: 'tool_delta', block: 0, id: 'toolu_1', json: '"b' },
      { type: 'tool_call', block: 0, id: 'toolu_1', name: 'weather', input: null, invalid: '{"a":"b' },
    ])
  })
})

it('shows text and thinking that a block begins with, and no empty deltas', () => {
  const events = [
    startOf(0, { type: 'text', text: 'a' }),
    delta('text', 0, ''),
    delta('text', 0, 'b'),
    stopOf(0),
    startOf(1, { type: 'thinking', thinking: 'c', signature: '' }),
    delta('thinking', 1, ''),
    stopOf(1),
    startOf(2, { type: 'text' }),
    stopOf(2),
  ]
  expect(framesOf(events)).toEqual([
    { type: 'text', block: 0, text: 'a' },
    { type: 'text', block: 0, text: 'b' },
    { type: 'thinking', block: 1, text: 'c' },
  ])
})

it('keeps blocks of one index apart when a second message follows', () => {
  const call = (id: string) => [
    startOf(0, { type: 'tool_use', id, name: 'x', input: {} }),
    delta('input_json', 0, '{"a":1}'),
    stopOf(0),
  ]
  const calls = framesOf([...call('toolu_1'), ...call('toolu_2')]).filter((frame) => frame['type'] === 'tool_call')
  expect(calls.map(({ id, input }) => ({ id, input }))).toEqual([
    { id: 'toolu_1', input: { a: 1 } },
    { id: 'toolu_2', input: { a: 1 } },
  ])
})

it('gives blocks of unknown types whole, with all that unknown deltas added', () => {
  const events = [
    startOf(3, { type: 'hologram', voxels: 8 }),
    otherDelta(3, { type: 'voxel_delta', voxels: 64, colour: 'bl' }),
    otherDelta(3, { type: 'voxel_delta', colour: 'ue' }),
    stopOf(3),
  ]
  const content_block = { type: 'hologram', voxels: 64, colour: 'blue' }
  expect(framesOf(events)).toEqual([{ type: 'block', block: 3, content_block }])
})

it.each([
  { type: 'text', text: '' },
  { type: 'thinking', thinking: '', signature: '' },
  { type: 'tool_use', id: 'toolu_1', name: 'weather', input: {} },
])('loses no delta of an unknown type, were it in a block of type $type', (block) => {
  const frames = framesOf([startOf(0, block), otherDelta(0, { type: 'voxel_delta', voxels: 64 }), stopOf(0)])
  expect(JSON.stringify(frames)).toContain('"voxels":64')
})

it('passes unknown events through whole', () => {
  const event = { type: 'done', forecast: { sky: 'clear' } }
  expect(framesOf([{ type: 'unknown', event }])).toEqual([{ type: 'event', event }])
})

it('says nothing of a message’s end until the terminal frame', () => {
  expect(framesOf([{ type: 'message_delta', delta: { stop_reason: 'end_turn' } }, { type: 'message_stop' }])).toEqual(
    [],
  )
})
