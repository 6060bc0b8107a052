import { type BaseEvent, HttpAgent } from '@ag-ui/client'
import Anthropic from '@anthropic-ai/sdk'
import {
  DefaultChatTransport,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithToolCalls,
  readUIMessageStream,
  type UIMessage,
  type UIMessageChunk,
} from 'ai'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { eventually, fetchAll } from '../support/client.ts'
import { decide, fakeTool, said, toolboxOf } from '../support/fake-tools.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'

// biome-ignore lint/suspicious/noExplicitAny: the oracle reads raw JSON, unlike the code it judges
type Json = any

const t = fakeTool('t', (_, { onProgress }) => {
  onProgress('half way')
  return said('seen')
})
const blocks = fakeTool('blocks', () => said([{ type: 'text', text: 'a block' }]))
const fails = fakeTool('fails', () => ({ content: 'out of order', is_error: true }))
const careful = fakeTool('careful', () => said('done with care'), { approval: 'required' })

let rig: Rig
beforeAll(async () => {
  rig = await openRig({ tools: toolboxOf(t, blocks, fails, careful) })
})
afterAll(() => rig.close())

const twoSteps = sim({ tool: 't', steps: 2, thinking: 2, text: 3 })
const shared = sim({ tool: 't,theirs', steps: 1, text: 3 })
const lastBody = (): Json => rig.simulator.requests.at(-1)?.body
/** What Claude says in all steps of `twoSteps`. */
const words = /^A sluice lets The tool said: The tool said: $/
const spoken = (text: string) => text.replaceAll('seen', '').replaceAll(/\s+/g, ' ')

describe('the Anthropic SDK', () => {
  const client = () => new Anthropic({ apiKey: 'client-key', baseURL: rig.url, maxRetries: 0, logLevel: 'off' })
  const ask = (model: string, more: object = {}): Anthropic.MessageCreateParamsNonStreaming => ({
    model,
    max_tokens: 500,
    messages: [{ role: 'user', content: 'hi' }],
    ...more,
  })

  it.each([
    'streamed',
    'whole',
  ])('gets one message, and hears nothing of tools that are not its own (%s)', async (how) => {
    const request = client().messages
    const message = await (how === 'whole'
      ? request.create(ask(twoSteps))
      : request.stream(ask(twoSteps)).finalMessage())
    expect(message.content.map(({ type }) => type)).toEqual([
      'thinking',
      'text',
      'thinking',
      'text',
      'thinking',
      'text',
    ])
    expect(message.stop_reason).toBe('end_turn')
    expect(message.usage.output_tokens).toBe(2 * (2 + 3 + 12) + 5)
    expect(lastBody().messages).toHaveLength(5)
  })

  it('gets blocks with indexes without gaps, one beginning and one end', async () => {
    const names: string[] = []
    const indexes: number[] = []
    for await (const event of await client().messages.create({ ...ask(twoSteps), stream: true })) {
      names.push(event.type)
      if (event.type === 'content_block_start') indexes.push(event.index)
    }
    expect(indexes).toEqual([0, 1, 2, 3, 4, 5])
    expect(names.filter((name) => name.startsWith('message_'))).toEqual([
      'message_start',
      'message_delta',
      'message_stop',
    ])
  })

  it.each(['streamed', 'whole'])('has calls of its own to answer, and only those (%s)', async (how) => {
    const tools = [{ name: 'theirs', input_schema: { type: 'object' as const } }]
    const request = client().messages
    const asked = ask(shared, { tools })
    const message = await (how === 'whole' ? request.create(asked) : request.stream(asked).finalMessage())
    expect(message.stop_reason).toBe('tool_use')
    const calls = message.content.filter((block) => block.type === 'tool_use')
    expect(calls).toMatchObject([{ name: 'theirs', input: { location: 'Zürich' } }])
    const messages = [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: message.content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: calls[0]?.id, content: 'mine' }] },
    ]
    const next = await request.create(ask(sim({ text: 9 }), { tools, messages }))
    expect(next.content).toMatchObject([{ type: 'text', text: expect.stringContaining('The tool said: mine') }])
  })
})

describe('the OpenAI SDK', () => {
  const client = () => new OpenAI({ apiKey: 'client-key', baseURL: `${rig.url}/v1`, maxRetries: 0 })
  const messages = [{ role: 'user' as const, content: 'hi' }]

  it.each([
    true,
    false,
  ])('gets one completion, and hears nothing of tools that are not its own (stream: %s)', async (stream) => {
    const { completions } = client().chat
    const completion = stream
      ? await completions
          .stream({ model: twoSteps, messages, stream_options: { include_usage: true } })
          .finalChatCompletion()
      : await completions.create({ model: twoSteps, messages })
    const [choice] = completion.choices
    expect(choice?.finish_reason).toBe('stop')
    expect(choice?.message.tool_calls ?? []).toEqual([])
    expect(spoken(choice?.message.content ?? '')).toMatch(words)
    expect(completion.usage?.completion_tokens).toBe(2 * (2 + 3 + 12) + 5)
  })

  it.each([true, false])('has calls of its own to answer, and only those (stream: %s)', async (stream) => {
    const tools = [{ type: 'function' as const, function: { name: 'theirs', parameters: { type: 'object' } } }]
    const { completions } = client().chat
    const asked = { model: shared, messages, tools }
    const completion = stream ? await completions.stream(asked).finalChatCompletion() : await completions.create(asked)
    const [choice] = completion.choices
    expect(choice?.finish_reason).toBe('tool_calls')
    expect(choice?.message.tool_calls).toMatchObject([{ function: { name: 'theirs' } }])
  })
})

describe('useChat', () => {
  const question: UIMessage = { id: 'u1', role: 'user', parts: [{ type: 'text', text: 'Hello' }] }
  let chats = 0

  async function send(model: string, messages = [question], body: object = {}) {
    const transport = new DefaultChatTransport({ api: `${rig.url}/api/chat` })
    return transport.sendMessages({
      chatId: `tools-${++chats}`,
      messages,
      trigger: 'submit-message',
      messageId: undefined,
      abortSignal: undefined,
      body: { model, ...body },
    })
  }

  async function read(stream: ReadableStream<UIMessageChunk>, onMessage: (message: UIMessage) => unknown = () => {}) {
    const errors: unknown[] = []
    let last: UIMessage | undefined
    for await (const each of readUIMessageStream({ stream, onError: (error) => void errors.push(error) })) {
      last = each
      await onMessage(each)
    }
    expect(errors).toEqual([])
    return last as UIMessage
  }

  it('shows each step with its call and the result of that, and gives all of it back on the next turn', async () => {
    const message = await read(await send(sim({ tool: 't,blocks,fails', steps: 2, thinking: 2, text: 3 })))
    const steps = message.parts.flatMap(({ type }, at) => (type === 'step-start' ? [at] : []))
    expect(steps).toHaveLength(3)
    const calls = message.parts.filter(isToolUIPart)
    expect(calls.map(({ type, state }) => `${type} ${state}`)).toEqual([
      ...['tool-t output-available', 'tool-blocks output-available', 'tool-fails output-error'],
      ...['tool-t output-available', 'tool-blocks output-available', 'tool-fails output-error'],
    ])
    expect(calls[0]).toMatchObject({ output: 'seen', input: { location: 'Zürich' } })
    expect(calls[2]).toMatchObject({ errorText: 'out of order' })
    expect(lastAssistantMessageIsCompleteWithToolCalls({ messages: [question, message] })).toBe(false)

    const looped = lastBody().messages
    const again = [question, message, { ...question, id: 'u2' }]
    await read(await send(sim({ text: 2 }), again))
    const { messages } = lastBody()
    expect(
      messages.slice(1, 4).map(({ role, content }: Json) => [role, content.map((each: Json) => each.type)]),
    ).toEqual(looped.slice(1, 4).map(({ role, content }: Json) => [role, content.map((each: Json) => each.type)]))
    expect(messages[1].content).toEqual(looped[1].content)
  })

  it('is asked for consent, and shows what came of it', async () => {
    const model = sim({ tool: 'careful,careful', steps: 1 })
    const decided = new Set<string>()
    const states: string[] = []
    const message = await read(await send(model), async ({ parts }) => {
      for (const part of parts.filter(isToolUIPart)) {
        states.push(part.state)
        if (part.state !== 'approval-requested' || decided.has(part.toolCallId)) continue
        const decision = decided.size === 0 ? 'approve' : 'deny'
        decided.add(part.toolCallId)
        const url = `${rig.url}/streams/${part.approval.id}`
        expect((await fetchAll(url, { body: { decision } })).status).toBe(200)
      }
    })
    expect(states).toContain('approval-requested')
    const calls = message.parts.filter(isToolUIPart)
    expect(calls.map(({ state }) => state)).toEqual(['output-available', 'output-denied'])
    await read(await send(sim({ text: 2 }), [question, message, { ...question, id: 'u2' }]))
    expect(lastBody().messages[2].content).toMatchObject([
      { type: 'tool_result', content: 'done with care' },
      { type: 'tool_result', content: 'The user denied this call.', is_error: true },
    ])
  })

  it('answers the calls that are its own, and sends all results', async () => {
    const tools = [{ name: 'theirs', input_schema: { type: 'object' } }]
    const message = await read(await send(shared, [question], { tools }))
    const calls = message.parts.filter(isToolUIPart)
    expect(calls.map(({ type, state }) => `${type} ${state}`)).toEqual([
      'tool-t output-available',
      'tool-theirs input-available',
    ])
    Object.assign(calls[1] as object, { state: 'output-available', output: 'mine' })
    expect(lastAssistantMessageIsCompleteWithToolCalls({ messages: [question, message] })).toBe(true)
    await read(await send(sim({ text: 8 }), [question, message], { tools }))
    expect(lastBody().messages[2].content).toMatchObject([{ content: 'seen' }, { content: 'mine' }])
  })
})

describe('HttpAgent of AG-UI', () => {
  async function ask(model: string, before?: HttpAgent) {
    const warnings = vi.spyOn(console, 'warn').mockImplementation(() => {})
    const initialMessages = [{ id: 'u1', role: 'user' as const, content: 'hello' }]
    const agent = before ?? new HttpAgent({ url: `${rig.url}/ag-ui`, threadId: 'thread-1', initialMessages })
    const events: Json[] = []
    agent.subscribe({ onEvent: ({ event }: { event: BaseEvent }) => void events.push(event) })
    const running = agent.runAgent({ runId: `run-${Math.random()}`, forwardedProps: { model } })
    running.catch(() => {})
    return { agent, events, running, warnings }
  }

  it('hears of calls and their results, finds nothing to object to, and gives all of it back', async () => {
    const { agent, events, running, warnings } = await ask(
      sim({ tool: 't,blocks,fails', steps: 2, thinking: 2, text: 3 }),
    )
    await running
    expect(warnings.mock.calls).toEqual([])
    warnings.mockRestore()
    expect(agent.messages.filter(({ role }) => role === 'tool').map(({ content }) => content)).toEqual(
      Array.from({ length: 2 }, () => ['seen', '[{"type":"text","text":"a block"}]', 'out of order']).flat(),
    )
    expect(events.at(-1)).toMatchObject({ type: 'RUN_FINISHED', outcome: { type: 'success' } })
    expect(events.at(-1).outcome.pendingToolCallIds).toBeUndefined()
    const progress = events.filter(({ name }) => name === 'sluice.tool_progress')
    expect(progress).toMatchObject([{ value: { text: 'half way' } }, { value: { text: 'half way' } }])
    const looped = lastBody().messages
    agent.addMessage({ id: 'u2', role: 'user', content: 'and?' })
    const next = await ask(sim({ text: 2 }), agent)
    await next.running
    next.warnings.mockRestore()
    expect(lastBody().messages.slice(1, 5)).toEqual(looped.slice(1, 5))
  })

  it('hears that a call waits, and what was decided', async () => {
    const { events, running, warnings } = await ask(sim({ tool: 'careful', steps: 1 }))
    const waiting = await eventually(() => events.find(({ name }) => name === 'sluice.tool_approval'))
    const { stream } = events[0].metadata
    await decide(rig.url, stream, waiting.value.id, { decision: 'approve' })
    await running
    expect(warnings.mock.calls).toEqual([])
    warnings.mockRestore()
    expect(events.find(({ name }) => name === 'sluice.tool_decision').value).toMatchObject({ decision: 'approved' })
    expect(events.at(-1).type).toBe('RUN_FINISHED')
  })
})

describe('plain text', () => {
  it('is Claude’s text of all steps and nothing else', async () => {
    const { frames } = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'x', model: twoSteps, format: 'text', max_tokens: 500 },
    })
    const text = frames.flatMap(({ data }) => (data === undefined || data === '[DONE]' ? [] : [data])).join('')
    expect(spoken(text)).toMatch(words)
  })
})
