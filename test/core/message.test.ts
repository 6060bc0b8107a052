import { describe, expect, it } from 'vitest'
import type { Block } from '../../src/core/blocks.ts'
import { Delta } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { toolBlockTypes } from '../../src/core/events.ts'
import { type Message, snapshot } from '../../src/core/message.ts'
import { done, logOf, start } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'

const join = (blocks: Block[], field: string) => blocks.map((block) => block[field] ?? '').join('')

describe.each([...recordings])('the snapshot of %s', (_, recording) => {
  const events = logOf(recording)
  const expected = expectedOf(recording)
  const { message, terminal } = snapshot(events)
  const { content, ...facts } = message as Message
  const of = (type: string) => content.filter((block) => block.type === type)

  it('has the content that Claude sent', () => {
    expect(join(of('text'), 'text')).toBe(expected.text)
    expect(join(of('thinking'), 'thinking')).toBe(expected.thinking)
    expect(
      of('thinking')
        .map((block) => block['signature'] ?? '')
        .filter(Boolean),
    ).toEqual(expected.signatures)
    expect(of('text').flatMap((block) => block['citations'] ?? [])).toEqual(expected.citations)
    const tools = content.filter((block) => toolBlockTypes.has(block.type))
    expect(tools.map(({ id, name, input }) => ({ id, name, input }))).toEqual(expected.tools)
    const others = content.filter((block) => !['text', 'thinking'].includes(block.type) && !tools.includes(block))
    expect(others).toEqual(expected.otherBlocks)
  })

  it('has the facts that Claude reported', () => {
    expect(facts).toMatchObject({
      type: 'message',
      role: 'assistant',
      model: expected.model,
      stop_reason: expected.stopReason,
      usage: expected.usage,
    })
    expect(terminal).toBe(events.at(-1))
  })

  it('is there at every moment before', () => {
    for (let length = 0; length < events.length; length++) {
      const early = snapshot(events.slice(0, length))
      expect(early.terminal).toBeUndefined()
      const text = join(early.message?.content.filter((block) => block.type === 'text') ?? [], 'text')
      expect(expected.text.startsWith(text)).toBe(true)
    }
  })

  it('leaves the log as it was', () => {
    expect(events).toEqual(logOf(recording))
  })
})

it('has no message before Claude has begun', () => {
  expect(snapshot([])).toEqual({ message: null, terminal: undefined })
  expect(snapshot([start])).toEqual({ message: null, terminal: undefined })
  expect(snapshot([start, done])).toEqual({ message: null, terminal: done })
})

it('survives deltas and stops of blocks that never began', () => {
  const begin = { type: 'message_start', message: { id: 'm', model: 'x', usage: { input_tokens: 1 } } }
  const events = [begin, new Delta('text', 5, 'x'), { type: 'content_block_stop', index: 5 }, done] as LogEvent[]
  expect(snapshot(events).message?.content).toEqual([])
})
