import { describe, expect, it } from 'vitest'
import { type Frame, frameSchema } from '../../src/core/frames.ts'
import { formats } from '../../src/formats/registry.ts'
import { failed, fold, logOf, parse, toolLog } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

describe('every frame is as the schema says', () => {
  it.each([...recordings.keys()])('of %s', (name) => {
    const messages = parse(fold(formats.json, logOf(recordings.get(name) as Buffer)))
    for (const { data } of messages.slice(0, -1)) expect(frameSchema.parse(JSON.parse(data))).toEqual(JSON.parse(data))
  })

  it('and of an answer in steps', () => {
    const messages = parse(fold(formats.json, toolLog()))
    const types = messages.slice(0, -1).map(({ data }) => {
      expect(frameSchema.parse(JSON.parse(data))).toEqual(JSON.parse(data))
      return JSON.parse(data).type
    })
    expect(types).toEqual(expect.arrayContaining(['tool_approval', 'tool_progress', 'tool_decision', 'tool_result']))
  })

  it('and of a failure', () => {
    const [frame] = parse(fold(formats.json, [failed]))
    expect(frameSchema.parse(JSON.parse(frame?.data ?? ''))).toMatchObject({ type: 'error' } satisfies Partial<Frame>)
  })
})

it('refuses what is not a frame', () => {
  expect(frameSchema.safeParse({ type: 'text', block: 0, text: 'a', more: 1 }).success).toBe(false)
  expect(frameSchema.safeParse({ type: 'nonsense' }).success).toBe(false)
})
