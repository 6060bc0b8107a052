import { type BaseEvent, HttpAgent, type Message } from '@ag-ui/client'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { snapshot } from '../../src/core/message.ts'
import { eventually, fetchAll } from '../support/client.ts'
import { logOf } from '../support/logs.ts'
import { expectedOf, recordings } from '../support/recordings.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig()
})
afterAll(() => rig.close())

/** Where the client says what it does not know, and drops. */
let warnings = vi.spyOn(console, 'warn')
beforeEach(() => {
  warnings.mockRestore()
  warnings = vi.spyOn(console, 'warn').mockImplementation(() => {})
  return () => expect(warnings.mock.calls).toEqual([])
})

// biome-ignore lint/suspicious/noExplicitAny: the oracle reads raw JSON, unlike the code it judges
type Json = any

interface Talk {
  readonly agent: HttpAgent
  readonly events: Json[]
  /** Asks, and waits for the end of the run. */
  ask(model: string, parameters?: Json): Promise<Json>
}

function talk(initialMessages: Message[] = [{ id: 'u1', role: 'user', content: 'hello' }], at = rig): Talk {
  const agent = new HttpAgent({ url: `${at.url}/ag-ui`, threadId: 'thread-1', initialMessages })
  const events: Json[] = []
  agent.subscribe({ onEvent: ({ event }: { event: BaseEvent }) => void events.push(event) })
  const ask = (model: string, { forwardedProps, ...rest }: Json = {}) =>
    agent.runAgent({ runId: 'run-1', forwardedProps: { model, ...forwardedProps }, ...rest })
  return { agent, events, ask }
}

const of = (events: Json[], type: string) => events.filter((event) => event.type === type)
const customs = (events: Json[], name: string) =>
  of(events, 'CUSTOM').flatMap((e) => (e.name === name ? [e.value] : []))
const withRole = (agent: HttpAgent, role: string): Json[] => agent.messages.filter((each) => each.role === role)
const contentOf = (messages: Json[]) => messages.map((each) => each.content ?? '').join('')
const lastBody = (at = rig): Json => at.simulator.requests.at(-1)?.body

describe.each([...recordings.keys()])('HttpAgent with %s', (name) => {
  const recording = recordings.get(name) as Buffer
  const expected = expectedOf(recording)
  const isResult = (block: { type: string }) => block.type.endsWith('_tool_result')

  it('hears all that Claude says, and finds nothing to object to', async () => {
    const { agent, events, ask } = talk()
    const answer = await ask(sim({ recording: name }))
    expect(contentOf(withRole(agent, 'assistant'))).toBe(expected.text)
    expect(contentOf(withRole(agent, 'reasoning'))).toBe(expected.thinking)
    const calls = withRole(agent, 'assistant').flatMap((message) => message.toolCalls ?? [])
    expect(calls.map(({ id, function: call }) => ({ id, name: call.name, input: JSON.parse(call.arguments) }))).toEqual(
      expected.tools,
    )
    const values = withRole(agent, 'reasoning').map((message) => message.encryptedValue)
    const redacted = expected.otherBlocks.filter(({ type }) => type === 'redacted_thinking')
    expect(values).toEqual([
      ...expected.signatures,
      ...redacted.map((block) => `redacted_thinking:${(block as Json).data}`),
    ])
    const results = withRole(agent, 'tool').map(({ toolCallId, content }) => [toolCallId, JSON.parse(content)])
    expect(results).toEqual(
      expected.otherBlocks.filter(isResult).map((block: Json) => [block.tool_use_id, block.content]),
    )
    expect(customs(events, 'claude.citation').map((value) => value.citation)).toEqual(expected.citations)
    const others = expected.otherBlocks.filter((block) => !isResult(block) && block.type !== 'redacted_thinking')
    expect(customs(events, 'claude.block')).toEqual(others)
    expect(events[0]).toMatchObject({ type: 'RUN_STARTED', threadId: 'thread-1', runId: 'run-1' })
    if (expected.whole) expectFinished(events.at(-1), answer)
    else expect(events.at(-1)).toMatchObject({ type: 'RUN_ERROR', code: 'upstream_overloaded' })
  })

  function expectFinished(event: Json, answer: Json): void {
    const { usage, model, stopReason, tools } = expected
    const count = (field: string) => Number(usage[field] ?? 0)
    const inputTokens = ['input_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens']
      .map(count)
      .reduce((sum, each) => sum + each)
    expect(event).toMatchObject({
      type: 'RUN_FINISHED',
      threadId: 'thread-1',
      runId: 'run-1',
      usage: [{ provider: 'anthropic', model, inputTokens, outputTokens: count('output_tokens') }],
    })
    expect(answer.result).toMatchObject({ stop_reason: stopReason })
    const pending = tools.filter(({ id }) => id.startsWith('toolu_')).map(({ id }) => id)
    expect(event.outcome).toEqual({ type: 'success', ...(pending.length > 0 && { pendingToolCallIds: pending }) })
  }

  it('gives the turn back to Claude as Claude had it', async () => {
    const { agent, ask } = talk()
    await ask(sim({ recording: name }))
    const pending = expected.tools.filter(({ id }) => id.startsWith('toolu_'))
    for (const { id } of pending) agent.addMessage({ id: `r-${id}`, role: 'tool', toolCallId: id, content: 'sunny' })
    if (pending.length === 0) agent.addMessage({ id: 'u2', role: 'user', content: 'go on' })
    await ask(sim({ text: 3 }))
    const turns = lastBody().messages
    const said = snapshot(logOf(recording)).message?.content ?? []
    // Claude takes back what it said but for text of blanks alone.
    const kept = said.filter((block) => block.type !== 'text' || String(block['text']).trim() !== '')
    const claudes = turns.filter((turn: Json) => turn.role === 'assistant')
    expect(claudes).toEqual(
      kept.length > 0 ? [{ role: 'assistant', content: kept.map(({ citations: _, ...block }) => block) }] : [],
    )
    const results = pending.map(({ id }) => ({ type: 'tool_result', tool_use_id: id, content: 'sunny' }))
    expect(turns.at(-1)).toEqual({ role: 'user', content: pending.length > 0 ? results : 'go on' })
  })

  it('is taken by the client in another format, too', async () => {
    const stream = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ recording: name }) } })
    const id = String(stream.headers['x-stream-id'])
    const agent = new HttpAgent({
      url: `${rig.url}/streams/${id}?format=ag-ui`,
      fetch: (url, init) => fetch(url, { headers: { accept: 'text/event-stream' }, signal: init?.signal ?? null }),
    })
    const events: Json[] = []
    await agent.runAgent({}, { onEvent: ({ event }) => void events.push(event) })
    expect(contentOf(withRole(agent, 'assistant'))).toBe(expected.text)
    expect(events[0]).toMatchObject({ type: 'RUN_STARTED', threadId: id, runId: id, metadata: { stream: id } })
    if (expected.whole) expect(events.at(-1)).toMatchObject({ threadId: id, runId: id })
  })
})

describe('HttpAgent', () => {
  it('keeps what was said before an overload in mid-answer', async () => {
    const { agent, events, ask } = talk()
    await ask(sim({ text: 20, error_at: 8 }))
    expect(contentOf(withRole(agent, 'assistant'))).toMatch(/^A sluice lets through/)
    expect(events.at(-1)).toMatchObject({
      type: 'RUN_ERROR',
      code: 'upstream_overloaded',
      message: expect.stringContaining('overloaded'),
      metadata: { retryable: true, partial: true },
    })
    agent.addMessage({ id: 'u2', role: 'user', content: 'again' })
    await ask(sim({ text: 3 }))
    expect(events.at(-1).type).toBe('RUN_FINISHED')
  })

  it('goes on after a tool call that was cut, which it has never seen the end of', async () => {
    const { agent, events, ask } = talk()
    let calls = 0
    agent.subscribe({ onNewToolCall: () => void calls++ })
    await ask(sim({ recording: 'ruby-llm__tool-weather', end_at: 6 }))
    expect(events.at(-1)).toMatchObject({ type: 'RUN_ERROR', code: 'upstream_truncated' })
    expect(calls).toBe(0)
    agent.addMessage({ id: 'u2', role: 'user', content: 'again' })
    await ask(sim({ text: 3 }))
    expect(lastBody().messages).toEqual([
      { role: 'user', content: 'hello' },
      { role: 'user', content: 'again' },
    ])
  })

  it('talks with tools in two turns', async () => {
    const { agent, events, ask } = talk([{ id: 'u1', role: 'user', content: 'What does get_weather say?' }])
    const parameters = { type: 'object', properties: { location: { type: 'string' } } }
    const tools = [{ name: 'get_weather', description: 'The weather', parameters }]
    const called: Json[] = []
    agent.subscribe({
      onToolCallEndEvent: ({ toolCallName, toolCallArgs }) => void called.push([toolCallName, toolCallArgs]),
    })
    const model = sim({ thinking: 4, text: 5 })
    await ask(model, { tools })
    expect(called).toEqual([['get_weather', { location: 'Zürich', unit: 'celsius', days: 3 }]])
    expect(lastBody().tools).toEqual([{ name: 'get_weather', description: 'The weather', input_schema: parameters }])
    const [toolCallId] = events.at(-1).outcome.pendingToolCallIds
    agent.addMessage({ id: 't1', role: 'tool', toolCallId, content: '21 degrees' })
    await ask(model, { tools })
    expect(contentOf(withRole(agent, 'assistant').slice(-1))).toContain('The tool said: 21 degrees')
    const [, assistant, result] = lastBody().messages
    expect(assistant.content.map((block: Json) => block.type)).toEqual(['thinking', 'text', 'tool_use'])
    expect(Buffer.from(assistant.content[0].signature, 'base64').toString()).toMatch(/^signature of block 0: /)
    expect(result.content).toEqual([{ type: 'tool_result', tool_use_id: toolCallId, content: '21 degrees' }])
    expect(events.at(-1).outcome).toEqual({ type: 'success' })
  })

  it('hears of events, blocks and deltas that nobody knows yet as CUSTOM', async () => {
    const { events, ask } = talk()
    await ask(sim({ text: 3, unknown_at: 1 }))
    expect(customs(events, 'claude.event')).toEqual([{ type: 'weather_report', forecast: { sky: 'clear' } }])
    expect(customs(events, 'claude.block')).toEqual([{ type: 'hologram', voxels: 64, colour: 'blue' }])
    expect(events.at(-1).type).toBe('RUN_FINISHED')
  })

  it('sends context, instructions and forwarded fields where Claude looks for them', async () => {
    const { ask } = talk([
      { id: 's1', role: 'system', content: 'Be brief.' },
      { id: 'd1', role: 'developer', content: 'Use metres.' },
      { id: 'u1', role: 'user', content: 'hello' },
    ])
    const forwardedProps = { max_tokens: 77, thinking: { type: 'adaptive' }, betas: ['some-beta-2026-01-01'] }
    await ask(sim({ text: 1 }), { context: [{ description: 'The page', value: 'Pricing' }], forwardedProps })
    expect(lastBody()).toMatchObject({
      max_tokens: 77,
      thinking: { type: 'adaptive' },
      system: 'Be brief.\n\nUse metres.\n\nThe page:\nPricing',
      messages: [{ role: 'user', content: 'hello' }],
    })
    expect(rig.simulator.requests.at(-1)?.headers['anthropic-beta']).toBe('some-beta-2026-01-01')
  })

  it('sees heartbeats and ids as nothing', async () => {
    const idle = await startRig({ env: { SLUICE_STREAMS__HEARTBEAT_MS: '20' } })
    const { events, ask } = talk(undefined, idle)
    await ask(sim({ text: 3, delay_ms: 100 }))
    expect(of(events, 'TEXT_MESSAGE_CONTENT')).toHaveLength(3)
  })
})

describe('abortRun', () => {
  it.each(['cancel', 'finish'])('ends the upstream stream as the policy says: %s', async (on_disconnect) => {
    const { agent, events, ask } = talk()
    const run = ask(sim({ text: 60, delay_ms: 10 }), { forwardedProps: { on_disconnect } })
    await eventually(() => of(events, 'TEXT_MESSAGE_CONTENT').length > 3)
    const seen = rig.simulator.requests.at(-1)
    agent.abortRun()
    await run
    expect(events.at(-1)).toMatchObject({ type: 'RUN_ERROR', code: 'abort' })
    await eventually(() => (on_disconnect === 'cancel' ? seen?.abortedAt : seen?.finished))
    expect(seen?.abortedAt === undefined).toBe(on_disconnect === 'finish')
  })

  it('follows the configuration when the request says nothing', async () => {
    const strict = await startRig({ env: { SLUICE_STREAMS__ON_DISCONNECT: 'cancel' } })
    const { agent, events, ask } = talk(undefined, strict)
    const run = ask(sim({ text: 500, delay_ms: 10 }))
    await eventually(() => of(events, 'TEXT_MESSAGE_CONTENT').length > 3)
    agent.abortRun()
    await run
    await eventually(() => strict.simulator.requests.at(-1)?.abortedAt)
  })

  it('is told to other readers as an error with the code cancelled', async () => {
    const { events, ask } = talk()
    const run = ask(sim({ text: 500, delay_ms: 10 }))
    await eventually(() => of(events, 'TEXT_MESSAGE_CONTENT').length > 3)
    await fetchAll(`${rig.url}/streams/${events[0].metadata.stream}`, { method: 'DELETE' })
    await run
    expect(events.at(-1)).toMatchObject({ type: 'RUN_ERROR', code: 'cancelled', metadata: { by: 'stop' } })
  })
})

describe('before the stream', () => {
  const failure = async (model: string, parameters: Json = {}) => {
    // The client writes failed runs to the console by itself.
    const errors = vi.spyOn(console, 'error').mockImplementation(() => {})
    const failed = await talk()
      .ask(model, parameters)
      .catch((error: Json) => error)
    errors.mockRestore()
    return { status: failed.status, ...failed.payload?.error }
  }

  it.each([
    [400, 400, 'upstream_invalid_request'],
    [401, 502, 'upstream_auth'],
    [404, 404, 'upstream_not_found'],
    [429, 429, 'upstream_rate_limited'],
    [500, 502, 'upstream_error'],
    [529, 503, 'upstream_overloaded'],
  ])('upstream’s %i is a %i in the usual shape', async (status, ours, code) => {
    expect(await failure(sim({ status }))).toMatchObject({ status: ours, code, request_id: expect.any(String) })
  })

  it('names forwarded fields that it does not know', async () => {
    const { status, code, message } = await failure('claude-sim', { forwardedProps: { modell: 'x', max_tokens: 'y' } })
    expect([status, code]).toEqual([400, 'invalid_request'])
    expect(message).toContain('modell')
  })
})
