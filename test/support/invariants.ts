import { expect } from 'vitest'
import type { WireFrame } from './client.ts'

const terminalTypes = new Set(['done', 'error', 'cancelled'])

/** What holds of every complete `json` stream: contiguous ids, one terminal frame, `[DONE]` once and last. */
export function expectWholeJsonStream(frames: readonly WireFrame[], after = 0): Record<string, unknown> {
  const last = frames.at(-1)
  expect(last).toEqual({ data: '[DONE]' })
  const numbered = frames.slice(0, -1)
  const ids = numbered.map((frame) => frame.id ?? '')
  const stream = ids[0]?.split('.')[0] ?? ''
  expect(ids).toEqual(numbered.map((_, index) => `${stream}.${after + index + 1}`))
  const parsed = numbered.map((frame) => JSON.parse(frame.data ?? ''))
  const terminals = parsed.filter((frame) => terminalTypes.has(frame.type))
  expect(terminals).toHaveLength(1)
  expect(parsed.at(-1)).toBe(terminals[0])
  return terminals[0]
}
