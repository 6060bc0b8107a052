import { describe, expect, it } from 'vitest'
import { applyDelta, applyOtherDelta, openBlock, toolInput } from '../../src/core/blocks.ts'
import { Delta, type DeltaKind, escapeJson } from '../../src/core/delta.ts'

const open = (content_block: object) => openBlock({ type: 'content_block_start', index: 0, content_block } as never)
const other = (block: ReturnType<typeof open>, delta: object) => applyOtherDelta(block, delta as never)
const add = (block: ReturnType<typeof open>, kind: DeltaKind, text: string) =>
  applyDelta(block, new Delta(kind, 0, escapeJson(text)))

describe('a block', () => {
  it('adds up text and thinking behind what its start said, or did not say', () => {
    const text = open({ type: 'text', text: 'a' })
    add(text, 'text', 'b\n')
    expect(text.block).toEqual({ type: 'text', text: 'ab\n' })
    const thinking = open({ type: 'thinking' })
    add(thinking, 'thinking', '🌊')
    expect(thinking.block).toEqual({ type: 'thinking', thinking: '🌊' })
  })

  it.each([undefined, null, []])('collects citations where its start had %j', (citations) => {
    const { block } = open({ type: 'text', text: '', citations })
    other({ block, inputJson: '' }, { type: 'citations_delta', citation: { n: 1 } })
    other({ block, inputJson: '' }, { type: 'citations_delta', citation: { n: 2 } })
    expect(block['citations']).toEqual([{ n: 1 }, { n: 2 }])
  })

  it('takes the signature whole', () => {
    const thinking = open({ type: 'thinking', thinking: '', signature: 'old' })
    other(thinking, { type: 'signature_delta', signature: 'new' })
    expect(thinking.block['signature']).toBe('new')
  })

  it('merges deltas of unknown types: strings join, anything else replaces', () => {
    const hologram = open({ type: 'hologram', voxels: 8, name: null })
    other(hologram, { type: 'voxel_delta', voxels: 64, colour: 'bl', name: 'x' })
    other(hologram, { type: 'voxel_delta', colour: 'ue', depth: [1] })
    expect(hologram.block).toEqual({ type: 'hologram', voxels: 64, colour: 'blue', name: 'x', depth: [1] })
  })

  it('keeps a field that is named like a part of every object', () => {
    const hologram = open({ type: 'hologram' })
    other(hologram, JSON.parse('{"type":"voxel_delta","__proto__":{"polluted":1},"constructor":"x"}'))
    expect(JSON.parse(JSON.stringify(hologram.block))).toEqual(
      JSON.parse('{"type":"hologram","__proto__":{"polluted":1},"constructor":"x"}'),
    )
    expect(hologram.block['polluted']).toBeUndefined()
  })

  it('is a copy: the event it began with stays as it was', () => {
    const content_block = Object.freeze({ type: 'text', text: '' })
    add(open(content_block), 'text', 'x')
    expect(content_block.text).toBe('')
  })
})

describe('toolInput', () => {
  const tool = (pieces: string[], input?: unknown) => {
    const block = open({ type: 'tool_use', ...(input !== undefined && { input }) })
    for (const piece of pieces) add(block, 'input_json', piece)
    return toolInput(block)
  }

  it('parses what came in pieces, cut anywhere', () => {
    const input = { location: 'Zürich "centre"', days: [1, 2], nested: { emoji: '🌊' } }
    const json = JSON.stringify(input)
    for (let cut = 0; cut <= json.length; cut++) {
      expect(tool([json.slice(0, cut), json.slice(cut)])).toEqual({ input })
    }
  })

  it.each([
    [[], {}, {}],
    [[], undefined, {}],
    [[''], {}, {}],
    [['', ''], { preset: 1 }, { preset: 1 }],
  ])('takes %j after a start with %j for %j', (pieces, atStart, input) => {
    expect(tool(pieces, atStart)).toEqual({ input })
  })

  it.each(['{"a":', '{"a":1}}', 'undefined', ' '])('hands out %j as text that is not to be run', (json) => {
    expect(tool([json], {})).toEqual({ input: null, invalid: json })
  })
})

it('takes an input that is nested beyond all reason for one that does not parse: nobody could write it down again', () => {
  const read = (depth: number) => {
    const block = open({ type: 'tool_use', id: 't', name: 't', input: {} })
    add(block, 'input_json', `{"a":${'['.repeat(depth)}${']'.repeat(depth)},"b":"${'['.repeat(2_000)}"}`)
    return toolInput(block)
  }
  expect(read(400)).toMatchObject({ input: { b: '['.repeat(2_000) } })
  expect(read(50_000)).toMatchObject({ input: null, invalid: expect.stringMatching(/^\{"a":\[\[/) })
})
