import { expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { requestAfter, stepsOf } from '../../src/run/steps.ts'
import { logOf, start, toolLog } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

const request = { model: 'm', max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] }

it('tells the steps of a log apart: how each was left, its calls and what came of them', () => {
  const steps = stepsOf(toolLog())
  expect(steps.map(({ end }) => end)).toEqual(['calls', 'calls', 'pause', 'end'])
  expect(steps.map(({ calls }) => calls.map(({ id }) => id))).toEqual([['toolu_1', 'toolu_2'], ['toolu_3'], [], []])
  expect([...(steps[0]?.results.keys() ?? [])]).toEqual(['toolu_1', 'toolu_2'])
  expect(steps[0]?.decisions.get('toolu_2')).toMatchObject({ decision: 'approved', input: { n: 2 } })
  expect(stepsOf(toolLog().slice(0, -4)).at(-1)?.end).toBeUndefined()
})

it('makes the messages that go with the next request, thinking with its signature and blocks in their order', () => {
  const { messages } = requestAfter(request, stepsOf(toolLog()).slice(0, 3))
  expect(messages.slice(1)).toEqual([
    {
      role: 'assistant',
      content: [
        { type: 'thinking', thinking: 'hm', signature: 'c2ln' },
        { type: 'text', text: 'First and' },
        { type: 'tool_use', id: 'toolu_1', name: 'look', input: { n: 1 } },
        { type: 'tool_use', id: 'toolu_2', name: 'act', input: { n: 1 } },
      ],
    },
    {
      role: 'user',
      content: [
        { type: 'tool_result', tool_use_id: 'toolu_1', content: 'two\nlines' },
        { type: 'tool_result', tool_use_id: 'toolu_2', content: [{ type: 'text', text: 'a block' }], is_error: true },
      ],
    },
    {
      role: 'assistant',
      content: [
        { type: 'tool_use', id: 'toolu_3', name: 'act', input: { n: 1 } },
        { type: 'text', text: 'Second and' },
        { type: 'text', text: 'odd' },
      ],
    },
    {
      role: 'user',
      content: [{ type: 'tool_result', tool_use_id: 'toolu_3', content: 'The user denied this call.', is_error: true }],
    },
    { role: 'assistant', content: [{ type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {} }] },
  ])
  expect(requestAfter(request, [])).toBe(request)
})

const events = (...more: object[]): LogEvent[] =>
  [
    { ...start, tools: ['ours'] },
    { type: 'message_start', message: { id: 'm', model: 'm', usage: {} } },
    ...more,
    { type: 'message_stop' },
  ] as LogEvent[]
const call = (index: number, name: string, json = '{}') => [
  { type: 'content_block_start', index, content_block: { type: 'tool_use', id: `toolu_${index}`, name, input: {} } },
  new Delta('input_json', index, escapeJson(json)),
  { type: 'content_block_stop', index },
]
const stopped = (stop_reason: string, more: object = {}) => ({ type: 'message_delta', delta: { stop_reason, ...more } })
const result = (id: string) => ({ type: 'tool_result', id, name: 'ours', content: 'x', is_error: false })

it.each([
  ['end', [...call(0, 'ours'), stopped('refusal')]],
  ['end', [...call(0, 'ours'), stopped('max_tokens')]],
  ['end', [...call(0, 'theirs'), stopped('tool_use')]],
  ['calls', [...call(0, 'ours'), stopped('tool_use')]],
  ['shared', [...call(0, 'ours'), ...call(1, 'theirs'), stopped('tool_use')]],
  ['end', [...call(0, 'ours'), ...call(1, 'theirs'), stopped('tool_use'), result('toolu_0')]],
  ['pause', [...call(0, 'ours'), stopped('pause_turn')]],
  ['shared', [...call(0, 'ours'), ...call(1, 'theirs'), stopped('pause_turn')]],
  ['end', [...call(0, 'theirs'), stopped('pause_turn')]],
])('is left with %s (%#)', (end, more) => {
  expect(stepsOf(events(...more)).at(-1)?.end).toBe(end)
})

it('runs no input that is no object, and gives back what came instead', () => {
  const [step] = stepsOf(events(...call(0, 'ours', '{"a": '), ...call(1, 'ours', '[1]'), stopped('tool_use')))
  expect(step?.calls.map(({ input }) => input)).toEqual([undefined, undefined])
  expect(step?.content.map(({ input }) => input)).toEqual([{ INVALID_JSON: '{"a": ' }, { INVALID_JSON: [1] }])
})

it('leaves out text that says nothing, which Claude would refuse, and goes on in the container', () => {
  const blank = [
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: ' \n' } },
    { type: 'content_block_stop', index: 0 },
  ]
  const ended = stopped('tool_use', { container: { id: 'container_1', expires_at: 'x' } })
  const steps = stepsOf(events(...blank, ...call(1, 'ours'), ended))
  expect(steps[0]?.content.map(({ type }) => type)).toEqual(['tool_use'])
  expect(requestAfter(request, steps)['container']).toBe('container_1')
  expect(requestAfter({ ...request, container: 'mine' }, steps)['container']).toBe('mine')
  const skills = [{ type: 'anthropic', skill_id: 'pdf' }]
  expect(requestAfter({ ...request, container: { skills } }, steps)['container']).toEqual({ skills, id: 'container_1' })
  expect(requestAfter({ ...request, container: { id: 'mine' } }, steps)['container']).toEqual({ id: 'mine' })
})

it('ends every recording of an answer without tools of the server’s with its first message', () => {
  for (const recording of recordings.values()) {
    for (const { end } of stepsOf(logOf(recording))) expect(['end', undefined]).toContain(end)
  }
})

it('gives back every block as it came, in its place, but what Claude says and does not take', () => {
  const block = (index: number, content_block: object, ...deltas: object[]) => [
    { type: 'content_block_start', index, content_block },
    ...deltas.map((delta) => ({ type: 'content_block_delta', index, delta })),
    { type: 'content_block_stop', index },
  ]
  const redacted = { type: 'redacted_thinking', data: 'RW5jcnlwdGVk' }
  const search = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: '水門 🌊' } }
  const found = { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [{ encrypted_content: 'x==' }] }
  const cited = { type: 'char_location', cited_text: 'a', document_index: 0, start_char_index: 0, end_char_index: 1 }
  const text = { type: 'text', text: 'As it says.', citations: [{ ...cited, file_id: null }] }
  const web = { type: 'web_search_result_location', cited_text: 'b', encrypted_index: 'y==', url: 'https://a.example' }
  const thought = [{ type: 'signature_delta', signature: 'EqQBCgIYAhIM+/=' }]
  const [step] = stepsOf(
    events(
      ...block(0, { type: 'thinking', thinking: '', signature: '' }, ...thought),
      ...block(1, redacted),
      ...block(2, search),
      ...block(3, found),
      ...block(4, text),
      ...block(5, { type: 'text', text: 'And the web.', citations: [web] }),
      ...block(6, { type: 'tool_use', id: 'toolu_6', name: 'ours', input: {} }),
      stopped('tool_use'),
    ),
  )
  expect(step?.content).toEqual([
    { type: 'thinking', thinking: '', signature: 'EqQBCgIYAhIM+/=' },
    redacted,
    search,
    found,
    { type: 'text', text: 'As it says.', citations: [cited] },
    { type: 'text', text: 'And the web.', citations: [web] },
    { type: 'tool_use', id: 'toolu_6', name: 'ours', input: {} },
  ])
  expect(step?.calls).toEqual([{ id: 'toolu_6', name: 'ours', input: {} }])
})

it('leaves what the client wrote as it is, marks of its cache and all', () => {
  const cache_control = { type: 'ephemeral' }
  const messages = [{ role: 'user', content: [{ type: 'text', text: 'hi', cache_control }] }]
  const asked = { ...request, messages, system: [{ type: 'text', text: 's', cache_control }], cache_control }
  const { messages: sent, ...rest } = requestAfter(asked, stepsOf(toolLog()).slice(0, 3))
  expect(sent[0]).toBe(messages[0])
  expect(rest).toEqual({ ...asked, messages: undefined })
  expect(JSON.stringify(sent.slice(1))).not.toContain('cache_control')
})
