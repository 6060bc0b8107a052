import { HttpAgent } from '@ag-ui/client'
import { EventSchema } from '@ag-ui/core/schemas'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { Delta, type DeltaKind, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { agUi } from '../../src/formats/ag-ui.ts'
import { agUiReader } from '../../src/formats/ag-ui-request.ts'
import { done, failed, fold, logOf, parse, start, streamId } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

// biome-ignore lint/suspicious/noExplicitAny: the oracle reads raw JSON, unlike the code it judges
type Json = any

const eventsOf = (events: readonly unknown[]): Json[] =>
  parse(fold(agUi, events as LogEvent[])).map(({ data }) => JSON.parse(data))
const typesOf = (events: readonly Json[]) => events.map(({ type }) => type)

const usage = { input_tokens: 1, output_tokens: 1 }
const messageStart = { type: 'message_start', message: { id: 'msg_1', model: 'm', content: [], usage } }
const startOf = (index: number, content_block: object) => ({ type: 'content_block_start', index, content_block })
const stopOf = (index: number) => ({ type: 'content_block_stop', index })
const otherDelta = (index: number, delta: object) => ({ type: 'content_block_delta', index, delta })
const delta = (kind: DeltaKind, index: number, text: string) => new Delta(kind, index, escapeJson(text))
const whole = (index: number, block: object) => [startOf(index, block), stopOf(index)]
const toolUse = (id: string, more: object = {}) => ({ type: 'tool_use', id, name: 'weather', input: {}, ...more })
const claude = (...events: unknown[]) => eventsOf([start, messageStart, ...events.flat(), done]).slice(1, -1)

describe.each([...recordings])('%s', (_, recording) => {
  const events = eventsOf(logOf(recording))

  it('is made of valid events that have no null where a field is optional', () => {
    for (const event of events) {
      expect(EventSchema.parse(event)).toEqual(event)
      for (const [field, value] of Object.entries(event)) expect([field, value]).not.toEqual([field, null])
    }
  })

  it('has no empty delta, and no line break but LF', () => {
    expect(events.filter((event) => event.delta === '')).toEqual([])
    expect(fold(agUi, logOf(recording))).not.toContain('\r')
  })
})

describe('ids', () => {
  it('of thread and run are the request’s, or else the stream’s', () => {
    const echo = { thread_id: 't', run_id: 'r' }
    const [first, last] = eventsOf([{ ...start, echo }, done])
    for (const event of [first, last]) expect(event).toMatchObject({ threadId: 't', runId: 'r' })
    for (const event of eventsOf([start, done])) expect(event).toMatchObject({ threadId: streamId, runId: streamId })
  })

  it('of messages are Claude’s own and the block, so that a replay has the same', () => {
    const [begin] = claude(whole(3, { type: 'text', text: '' }))
    expect(begin).toEqual({ type: 'TEXT_MESSAGE_START', messageId: 'msg_1.3', role: 'assistant' })
  })
})

describe('text and thinking', () => {
  it('say what their start had, and not what is empty', () => {
    const events = claude(
      startOf(0, { type: 'text', text: 'A\n"' }),
      delta('text', 0, ''),
      delta('text', 0, 'b'),
      stopOf(0),
    )
    expect(typesOf(events)).toEqual([
      'TEXT_MESSAGE_START',
      'TEXT_MESSAGE_CONTENT',
      'TEXT_MESSAGE_CONTENT',
      'TEXT_MESSAGE_END',
    ])
    expect(events.map((event) => event.delta ?? '').join('')).toBe('A\n"b')
  })

  it('give signatures to the message they belong to', () => {
    const signature = otherDelta(0, { type: 'signature_delta', signature: 'c2ln' })
    const events = claude(startOf(0, { type: 'thinking', thinking: '', signature: '' }), signature, stopOf(0))
    expect(events).toEqual([
      { type: 'REASONING_START', messageId: 'msg_1.0' },
      { type: 'REASONING_MESSAGE_START', messageId: 'msg_1.0', role: 'reasoning' },
      { type: 'REASONING_MESSAGE_END', messageId: 'msg_1.0' },
      { type: 'REASONING_ENCRYPTED_VALUE', subtype: 'message', entityId: 'msg_1.0', encryptedValue: 'c2ln' },
      { type: 'REASONING_END', messageId: 'msg_1.0' },
    ])
  })

  it('pass deltas of unknown types on', () => {
    const odd = otherDelta(0, { type: 'colour_delta', colour: 'blue' })
    const events = claude(startOf(0, { type: 'text', text: '' }), odd, stopOf(0))
    expect(events[1]).toEqual({ type: 'CUSTOM', name: 'claude.event', value: odd })
  })
})

describe('tool calls', () => {
  it('have arguments that parse, whether Claude sent any or not', () => {
    const none = claude(whole(0, toolUse('toolu_1')))
    expect(none[1]).toEqual({ type: 'TOOL_CALL_ARGS', toolCallId: 'toolu_1', delta: '{}' })
    const early = claude(whole(0, toolUse('toolu_1', { input: { a: '"' } })))
    expect(JSON.parse(early[1].delta)).toEqual({ a: '"' })
  })

  it('say when their arguments are not whole, and are then nobody’s to answer', () => {
    const events = eventsOf([
      start,
      messageStart,
      startOf(0, toolUse('toolu_1')),
      delta('input_json', 0, '{"a":'),
      stopOf(0),
      startOf(1, toolUse('toolu_2')),
      done,
    ])
    const ends = events.filter(({ type }) => type === 'TOOL_CALL_END')
    expect(ends.map(({ metadata }) => metadata)).toEqual([{ incomplete: true }, { incomplete: true }])
    expect(events.at(-1).outcome).toEqual({ type: 'success' })
  })

  it('belong to the text before them, unless thinking or a result came between', () => {
    const events = claude(
      whole(0, { type: 'text', text: 'a' }),
      whole(1, toolUse('toolu_1')),
      whole(2, { type: 'thinking', thinking: 'b', signature: '' }),
      whole(3, toolUse('toolu_3')),
      whole(4, toolUse('toolu_4')),
    )
    const starts = events.filter(({ type }) => type === 'TOOL_CALL_START')
    expect(starts.map(({ parentMessageId }) => parentMessageId)).toEqual(['msg_1.0', 'msg_1.3', 'msg_1.3'])
  })

  it('of Anthropic’s own tools bring their results, with what Claude wants back', () => {
    const call = { type: 'mcp_tool_use', id: 'mcptoolu_1', name: 'echo', input: {}, server_name: 'tools' }
    const result = { type: 'mcp_tool_result', tool_use_id: 'mcptoolu_1', is_error: false, content: '[1]' }
    const events = claude(whole(0, call), whole(1, result))
    expect(events[0].metadata).toEqual({ claude: { type: 'mcp_tool_use', server_name: 'tools' } })
    expect(events.at(-1)).toEqual({
      type: 'TOOL_CALL_RESULT',
      messageId: 'msg_1.1',
      toolCallId: 'mcptoolu_1',
      role: 'tool',
      content: '[1]',
      metadata: { claude: { type: 'mcp_tool_result', is_error: false, content: '[1]' } },
    })
  })
})

describe('the end', () => {
  const open = [start, messageStart, startOf(0, { type: 'text', text: 'a' }), startOf(1, toolUse('toolu_1'))]

  it('closes what is open before RUN_FINISHED', () => {
    const types = typesOf(eventsOf([...open, done]))
    expect(types.slice(-4)).toEqual(['TEXT_MESSAGE_END', 'TOOL_CALL_ARGS', 'TOOL_CALL_END', 'RUN_FINISHED'])
  })

  it('closes nothing before RUN_ERROR, as an end would call it whole', () => {
    const events = eventsOf([...open, failed])
    expect(typesOf(events).slice(-2)).toEqual(['TOOL_CALL_START', 'RUN_ERROR'])
    expect(events.at(-1)).toMatchObject({ code: 'upstream_truncated', metadata: { retryable: true, partial: true } })
  })

  it('closes what is open when Claude begins anew', () => {
    const second = { ...messageStart, message: { ...messageStart.message, id: 'msg_2' } }
    const events = eventsOf([...open, second, ...whole(0, { type: 'text', text: 'b' }), done])
    const ends = events.filter(({ type }) => type === 'TEXT_MESSAGE_END')
    expect(ends.map(({ messageId }) => messageId)).toEqual(['msg_1.0', 'msg_2.0'])
  })

  it('counts cached tokens as input, which Claude does not', () => {
    const details = { thinking_tokens: 3 }
    const cache = { cache_read_input_tokens: 20, cache_creation_input_tokens: null, output_tokens_details: details }
    const finished = { ...done, usage: { input_tokens: 1, output_tokens: 5, ...cache } }
    expect(eventsOf([start, finished]).at(-1).usage).toEqual([
      {
        provider: 'anthropic',
        model: 'claude-test',
        inputTokens: 21,
        outputTokens: 5,
        totalTokens: 26,
        cachedInputTokens: 20,
        cacheWriteInputTokens: 0,
        reasoningTokens: 3,
      },
    ])
  })
})

describe('whatever Claude sends', () => {
  const block = fc.constantFrom<object>(
    { type: 'text', text: '' },
    { type: 'text', text: 'early' },
    { type: 'thinking', thinking: '', signature: '' },
    { type: 'redacted_thinking', data: 'x' },
    toolUse('toolu_1'),
    toolUse('toolu_2', { caller: { type: 'direct' } }),
    { type: 'server_tool_use', name: 'web_search' },
    { type: 'web_search_tool_result', tool_use_id: 'toolu_1', content: [] },
    { type: 'web_search_tool_result' },
    { type: 'hologram', voxels: null },
  )
  const index = fc.integer({ min: 0, max: 3 })
  const kind = fc.constantFrom<DeltaKind>('text', 'thinking', 'input_json')
  const event = fc.oneof(
    fc.tuple(index, block).map(([n, content_block]) => startOf(n, content_block)),
    fc.tuple(kind, index, fc.constantFrom('', '{', '"a', '}')).map(([type, n, text]) => delta(type, n, text)),
    fc
      .tuple(index, fc.constantFrom('signature_delta', 'citations_delta', 'x_delta'))
      .map(([n, type]) => otherDelta(n, { type, signature: 's', citation: { a: null } })),
    index.map(stopOf),
    fc.constantFrom<object>(messageStart, { type: 'message_stop' }, { type: 'unknown', event: { type: 'x', y: null } }),
  )
  const terminal = fc.constantFrom<object>(done, failed, { type: 'cancelled', by: 'limit', usage })

  it('is a stream that the client’s own verifier takes', async () => {
    // A message that is nothing of the kind: the client says so, and goes on.
    const warnings = vi.spyOn(console, 'warn').mockImplementation(() => {})
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 30 }), terminal, async (events, last) => {
        const body = fold(agUi, [start, ...events, last] as LogEvent[])
        const headers = { 'content-type': 'text/event-stream' }
        const agent = new HttpAgent({ url: 'http://x.test', fetch: async () => new Response(body, { headers }) })
        const heard: string[] = []
        await agent.runAgent({}, { onEvent: ({ event }) => void heard.push(event.type) })
        expect(heard).toHaveLength(parse(body).length)
        expect(heard.at(-1)).toBe(last === done ? 'RUN_FINISHED' : 'RUN_ERROR')
      }),
      { numRuns: 300 },
    )
    warnings.mockRestore()
  })
})

describe('RunAgentInput', () => {
  const read = agUiReader()
  const user = { id: 'u', role: 'user', content: 'hi' }
  const input = (messages: object[] = [user], more: object = {}) => ({ threadId: 't', runId: 'r', messages, ...more })
  const turns = (...messages: object[]): Json => read(input(messages)).message.messages
  const faultOf = (body: unknown): string => {
    try {
      read(body)
    } catch (error) {
      return (error as Error).message
    }
    throw new Error('nothing was wrong')
  }
  const call = (id: string, json: string, metadata?: object) => ({
    id,
    type: 'function',
    function: { name: 'weather', arguments: json },
    ...(metadata && { metadata }),
  })
  const assistant = (...toolCalls: object[]) => ({ id: 'a', role: 'assistant', toolCalls })
  const answer = (toolCallId: string, content: unknown = 'ok', more: object = {}) => ({
    id: `r-${toolCallId}`,
    role: 'tool',
    toolCallId,
    content,
    ...more,
  })

  it('needs but threads, runs and messages', () => {
    expect(read(input())).toEqual({
      message: { messages: [{ role: 'user', content: 'hi' }] },
      echo: { thread_id: 't', run_id: 'r' },
      options: {},
    })
  })

  it('does not show the state to Claude, nor fields it does not know', () => {
    const { message } = read(
      input([user], { state: { secret: 1 }, parentRunId: 'p', later: 1, protocolVersion: '1.0' }),
    )
    expect(JSON.stringify(message)).not.toMatch(/secret|parent|later|protocol/)
  })

  it('merges what is one turn of Claude’s, and the results of its tools', () => {
    expect(
      turns(
        user,
        { id: '1', role: 'reasoning', content: 'hm', encryptedValue: 'c2ln' },
        { id: '2', role: 'reasoning', content: '', encryptedValue: 'redacted_thinking:xyz' },
        { id: '3', role: 'reasoning', content: 'unsigned' },
        { id: '4', role: 'assistant', content: 'So' },
        { id: '5', role: 'activity', activityType: 'PLAN', content: {} },
        assistant(call('toolu_1', '{"a":1}'), call('toolu_2', '')),
        answer('toolu_1'),
        answer('toolu_2', '', { error: 'no network' }),
        user,
      ),
    ).toEqual([
      { role: 'user', content: 'hi' },
      {
        role: 'assistant',
        content: [
          { type: 'thinking', thinking: 'hm', signature: 'c2ln' },
          { type: 'redacted_thinking', data: 'xyz' },
          { type: 'text', text: 'So' },
          { type: 'tool_use', id: 'toolu_1', name: 'weather', input: { a: 1 } },
          { type: 'tool_use', id: 'toolu_2', name: 'weather', input: {} },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 'toolu_1', content: 'ok' },
          { type: 'tool_result', tool_use_id: 'toolu_2', content: 'no network', is_error: true },
        ],
      },
      { role: 'user', content: 'hi' },
    ])
  })

  it('reads text that looks like JSON in a result of Anthropic’s tools as text', () => {
    const claude = { type: 'mcp_tool_result', is_error: false, content: '[1]' }
    const [, own] = turns(
      user,
      assistant(call('mcptoolu_1', '{}', { claude: { type: 'mcp_tool_use', server_name: 's' } })),
      answer('mcptoolu_1', '[1]', { metadata: { claude } }),
    )
    expect(own.content).toEqual([
      { type: 'mcp_tool_use', id: 'mcptoolu_1', name: 'weather', input: {}, server_name: 's' },
      { type: 'mcp_tool_result', tool_use_id: 'mcptoolu_1', is_error: false, content: '[1]' },
    ])
  })

  it('leaves out calls that were cut, but not those that Claude may yet finish', () => {
    const server = call('srvtoolu_1', '{}', { claude: { type: 'server_tool_use' } })
    expect(turns(user, assistant(call('toolu_1', '{"a'), server), user)).toHaveLength(2)
    expect(turns(user, assistant(server))[1].content).toEqual([
      { type: 'server_tool_use', id: 'srvtoolu_1', name: 'weather', input: {} },
    ])
    expect(faultOf(input([user, assistant(call('toolu_1', '{"a')), answer('toolu_1')]))).toMatch(/input/)
  })

  it('takes pictures and documents, from wherever they are', () => {
    const source = { type: 'data', value: 'aGk=', mimeType: 'image/png' }
    const [{ content }] = turns({
      ...user,
      content: [
        { type: 'text', text: 'Look', id: 'p1' },
        { type: 'image', source },
        { type: 'image', source: { type: 'url', value: 'https://x.test/a.png', mimeType: 'image/png' } },
        { type: 'document', source: { ...source, mimeType: 'application/pdf' } },
        { type: 'document', source: { ...source, mimeType: 'text/plain' } },
        { type: 'document', source: { type: 'file', value: 'file_1', provider: 'anthropic' } },
      ],
    })
    expect(content).toEqual([
      { type: 'text', text: 'Look' },
      { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'aGk=' } },
      { type: 'image', source: { type: 'url', url: 'https://x.test/a.png' } },
      { type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: 'aGk=' } },
      { type: 'document', source: { type: 'text', media_type: 'text/plain', data: 'hi' } },
      { type: 'document', source: { type: 'file', file_id: 'file_1' } },
    ])
  })

  it('puts tools of the page before those that Anthropic runs', () => {
    const search = { type: 'web_search_20260318', name: 'web_search' }
    const tools = [
      { name: 'a', description: '' },
      { name: 'b', description: 'B', parameters: { properties: {} } },
    ]
    expect(read(input([user], { tools, forwardedProps: { tools: [search] } })).message['tools']).toEqual([
      { name: 'a', input_schema: { type: 'object' } },
      { name: 'b', description: 'B', input_schema: { type: 'object', properties: {} } },
      search,
    ])
  })

  it('puts forwarded system blocks first, as they are', () => {
    const block = { type: 'text', text: 'Long', cache_control: { type: 'ephemeral' } }
    const system = { id: 's', role: 'system', content: 'Be brief.' }
    const context = [{ description: 'Page', value: 'Home' }]
    const { message } = read(input([system, user], { context, forwardedProps: { system: [block] } }))
    expect(message['system']).toEqual([
      block,
      { type: 'text', text: 'Be brief.' },
      { type: 'text', text: 'Page:\nHome' },
    ])
  })

  it.each([
    ['no object', null, /body/],
    ['no thread', { runId: 'r', messages: [user] }, /threadId/],
    ['no message', input([]), /messages/],
    ['an unknown role', input([{ id: 'x', role: 'poet', content: '' }]), /messages\.0/],
    [
      'audio',
      input([{ ...user, content: [{ type: 'audio', source: {} }] }]),
      /messages\.0\.content.*image and document/,
    ],
    [
      'an unknown forwarded field',
      input([user], { forwardedProps: { modell: 'x', temprature: 1 } }),
      /modell.*temprature/,
    ],
    [
      'messages that are forwarded',
      input([user], { forwardedProps: { messages: [] } }),
      /forwardedProps\.messages|messages/,
    ],
    ['a wrong forwarded field', input([user], { forwardedProps: { max_tokens: 'x' } }), /max_tokens/],
    ['a policy that is none', input([user], { forwardedProps: { on_disconnect: 'x' } }), /on_disconnect/],
    ['answers to interrupts', input([user], { resume: [{ interruptId: 'i', status: 'resolved' }] }), /resume/],
  ])('refuses %s, and says so', (_, body, fault) => {
    expect(faultOf(body)).toMatch(fault)
  })
})
