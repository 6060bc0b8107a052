import { expect, it } from 'vitest'
import type { LogEvent } from '../../src/core/events.ts'
import type { StreamLog } from '../../src/core/ports.ts'
import { type Step, stepsOf } from '../../src/run/steps.ts'
import { ToolCalls } from '../../src/run/tool-calls.ts'
import { fakeTool, toolboxOf } from '../support/fake-tools.ts'
import { toolLog } from '../support/logs.ts'

const limits = {
  ...{ max_steps: 4, total_ms: 1_000, max_result_bytes: 4_096, max_total_result_bytes: 4_096 },
  ...{ max_tokens: 1_000, max_parallel: 4, approval_ms: 1_000 },
}

it.each([
  'denied',
  'expired',
  'answered',
] as const)('does not make a call that was %s, though the process that died has left no result of it', async (decision) => {
  const act = fakeTool('act', undefined, { approval: 'required' })
  const told: LogEvent[] = []
  const log = { id: 's', principal: '', append: (events: LogEvent[]) => void told.push(...events) }
  const { toolbox } = toolboxOf(act, fakeTool('look'))
  const calls = new ToolCalls({ log: log as unknown as StreamLog, toolbox, limits, taken: {}, onFault: () => {} })
  const cut = toolLog().findIndex((event) => event.type === 'tool_decision')
  const left: LogEvent[] = [...toolLog().slice(0, cut), { type: 'tool_decision', id: 'toolu_2', name: 'act', decision }]
  const step = stepsOf(left).at(-1) as Step
  expect(step.calls.map(({ id }) => step.results.has(id))).toEqual([true, false])
  await calls.answer(step, new AbortController().signal)
  expect(act.calls).toEqual([])
  expect(told).toMatchObject([{ type: 'tool_result', id: 'toolu_2', is_error: true }])
})
