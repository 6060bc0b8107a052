import { HttpAgent } from '@ag-ui/client'
import { EventSchema } from '@ag-ui/core/schemas'
import Anthropic from '@anthropic-ai/sdk'
import { DefaultChatTransport, readUIMessageStream, type UIMessage, uiMessageChunkSchema } from 'ai'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import { type LogEvent, type RecoveryEvent, recoveryModes } from '../../src/core/events.ts'
import type { Format, SmoothUnit } from '../../src/core/format.ts'
import { smoothUnits } from '../../src/core/format.ts'
import { frameSchema } from '../../src/core/frames.ts'
import { recutter } from '../../src/delivery/smooth.ts'
import { formats } from '../../src/formats/registry.ts'
import { done, fold, parse, start } from '../support/logs.ts'

// biome-ignore lint/suspicious/noExplicitAny: the oracle reads raw JSON, unlike the code it judges
type Json = any

const usage = { input_tokens: 1, output_tokens: 1 }
const message = { id: 'msg_1', type: 'message', role: 'assistant', model: 'm', content: [], usage }
const text = (piece: string) => new Delta('text', 0, escapeJson(piece))
const pieces = ['A sluice lets thr', 'ough what sho', 'uld flow.\r', '\n| a row', ' | of a table |']
const whole = pieces.join('')
const mode = 'quote'
const recovery: RecoveryEvent = { type: 'recovery', reason: 'upstream_truncated', attempt: 2, mode }

/** An answer that breaks off before piece number `at`, and goes on there, to end with a call of a tool. */
function logBreaking(...at: number[]): LogEvent[] {
  return [
    start,
    { type: 'message_start', message },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    ...pieces.flatMap((piece, n) => [...(at.includes(n) ? [recovery] : []), text(piece)]),
    ...(at.includes(pieces.length) ? [recovery] : []),
    { type: 'content_block_stop', index: 0 },
    { type: 'content_block_start', index: 1, content_block: { type: 'tool_use', id: 't', name: 'x', input: {} } },
    new Delta('input_json', 1, escapeJson('{"a":1}')),
    { type: 'content_block_stop', index: 1 },
    { type: 'message_delta', delta: { stop_reason: 'tool_use', stop_sequence: null }, usage },
    { type: 'message_stop' },
    { ...done, stop_reason: 'tool_use', recovered: at.length },
  ] as LogEvent[]
}

const dataOf = (format: Format, events: readonly LogEvent[]): Json[] =>
  parse(fold(format, events))
    .filter(({ data }) => data !== '[DONE]')
    .map(({ data }) => JSON.parse(data))

/** What answers any request with a log in one format. */
const serving = (format: Format, events: readonly LogEvent[]) => async () =>
  new Response(fold(format, events), { headers: { 'content-type': 'text/event-stream', ...format.headers } })

const question = { role: 'user', content: 'hi' } as const

/** The text and the calls that the official client of a format makes of a log. */
const clients: Record<string, (events: readonly LogEvent[]) => Promise<{ text: string; calls: unknown[] }>> = {
  async anthropic(events) {
    const client = new Anthropic({ apiKey: 'any', fetch: serving(formats.anthropic, events), maxRetries: 0 })
    const { content } = await client.messages.stream({ model: 'm', max_tokens: 1, messages: [question] }).finalMessage()
    const text = content.map((block) => (block.type === 'text' ? block.text : '')).join('')
    return { text, calls: content.flatMap((block) => (block.type === 'tool_use' ? [block.input] : [])) }
  },
  async openai(events) {
    const client = new OpenAI({ apiKey: 'any', fetch: serving(formats.openai, events), maxRetries: 0 })
    const { choices } = await client.chat.completions.stream({ model: 'm', messages: [question] }).finalChatCompletion()
    const [choice] = choices
    const calls = choice?.message.tool_calls?.map((call: Json) => JSON.parse(call.function.arguments)) ?? []
    return { text: choice?.message.content ?? '', calls }
  },
  async 'ai-sdk'(events) {
    const transport = new DefaultChatTransport({ fetch: serving(formats['ai-sdk'], events) })
    const asked: UIMessage = { id: 'u', role: 'user', parts: [{ type: 'text', text: 'hi' }] }
    const ask = { chatId: 'c', messages: [asked], trigger: 'submit-message' as const, messageId: undefined }
    let last: UIMessage | undefined
    const stream = await transport.sendMessages({ ...ask, abortSignal: undefined })
    for await (const each of readUIMessageStream({ stream, terminateOnError: true })) last = each
    const parts: Json[] = last?.parts ?? []
    expect(parts.map(({ type }) => type)).toEqual(['step-start', 'text', 'tool-x'])
    return { text: parts[1].text, calls: [parts[2].input] }
  },
  async 'ag-ui'(events) {
    const agent = new HttpAgent({ url: 'http://x.test', fetch: serving(formats['ag-ui'], events) })
    const { newMessages } = await agent.runAgent({ runId: 'r' })
    const said: Json[] = newMessages
    const calls = said.flatMap(({ toolCalls = [] }) => toolCalls)
    return {
      text: said.map(({ content = '' }) => content).join(''),
      calls: calls.map((call: Json) => JSON.parse(call.function.arguments)),
    }
  },
}

const places = [[0], [1], [3], [5], [1, 2], [4, 4]]

describe.each(Object.keys(clients))('the official client of %s', (name) => {
  it.each(places)('has the whole answer when it broke off before piece %i, %i', async (...at) => {
    expect(await clients[name]?.(logBreaking(...at))).toEqual({ text: whole, calls: [{ a: 1 }] })
  })
})

describe.each<[string, Format]>(Object.entries(formats))('a log with recoveries in %s', (_, format) => {
  it('is the same every time, and resumes after any frame with exactly the rest', () => {
    const events = logBreaking(1, 3)
    const body = fold(format, events)
    const frames = body.match(/[\s\S]*?\n\n/g) ?? []
    const count = frames.filter((frame) => frame.startsWith('id: ')).length
    for (let after = 0; after <= count; after++) {
      expect(fold(format, events, after)).toBe(frames.slice(after).join(''))
    }
  })
})

describe('a recovery', () => {
  it.each(['text', 'openai', 'anthropic'] as const)('is not to be seen in %s', (name) => {
    expect(fold(formats[name], logBreaking(2))).toBe(fold(formats[name], logBreaking()))
  })

  it.each<[keyof typeof formats, object]>([
    ['json', recovery],
    ['ai-sdk', { type: 'data-recovery', data: { reason: 'upstream_truncated', attempt: 2, mode }, transient: true }],
    ['ag-ui', { type: 'CUSTOM', name: 'sluice.recovery', value: { reason: 'upstream_truncated', attempt: 2, mode } }],
  ])('is one frame in %s, and changes no other', (name, frame) => {
    const plain = dataOf(formats[name], logBreaking())
    const at = plain.findIndex((each) => JSON.stringify(each).includes(pieces[2]?.slice(0, 8) ?? ''))
    const broken = dataOf(formats[name], logBreaking(2))
    expect(broken[at]).toEqual(frame)
    const rest = broken.toSpliced(at, 1)
    expect(rest.slice(0, -1)).toEqual(plain.slice(0, -1))
  })

  it.each(recoveryModes)('of mode %s is as the schemas say', async (mode) => {
    const event: RecoveryEvent = { ...recovery, mode, ...(mode === 'fallback' && { model: 'claude-other' }) }
    const events = mode === 'fallback' ? [start, event, ...logBreaking().slice(1)] : [start, event, done]
    for (const frame of dataOf(formats.json, events)) expect(frameSchema.parse(frame)).toEqual(frame)
    for (const frame of dataOf(formats['ag-ui'], events)) expect(EventSchema.parse(frame)).toEqual(frame)
    const { validate } = uiMessageChunkSchema()
    for (const chunk of dataOf(formats['ai-sdk'], events)) {
      expect(await validate?.(chunk)).toEqual({ success: true, value: chunk })
    }
  })

  it.each<SmoothUnit>([...smoothUnits])('loses no text that is held to be cut into a %s', (unit) => {
    const recut = recutter(unit)
    const events = logBreaking(1, 2, 4).flatMap((event) => recut(event))
    const join = (log: readonly LogEvent[]) =>
      log.map((event) => (event.type === 'delta' && event.kind === 'text' ? event.text : '')).join('')
    expect(join(events)).toBe(whole)
    const first = events.findIndex(({ type }) => type === 'recovery')
    expect(join(events.slice(0, first))).toBe(pieces[0])
  })
})
