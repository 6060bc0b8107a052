import { uiMessageChunkSchema } from 'ai'
import { describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { aiSdk } from '../../src/formats/ai-sdk.ts'
import { done, failed, fold, logOf, parse, start, streamId } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

interface Chunk {
  readonly type: string
  readonly [field: string]: unknown
}

const usage = { input_tokens: 1, output_tokens: 1 }
const cancelled: LogEvent = { type: 'cancelled', by: 'stop', usage }

function chunksOf(events: readonly LogEvent[]): Chunk[] {
  const data = parse(fold(aiSdk, events)).map((message) => message.data)
  expect(data.pop()).toBe('[DONE]')
  return data.map((each) => JSON.parse(each))
}

const messageStart = (id = 'msg_1') =>
  ({
    type: 'message_start',
    message: { id, type: 'message', role: 'assistant', model: 'claude-real', content: [], usage },
  }) as unknown as LogEvent
const open = (index: number, content_block: object) =>
  ({ type: 'content_block_start', index, content_block }) as LogEvent
const other = (index: number, delta: object) => ({ type: 'content_block_delta', index, delta }) as LogEvent
const stop = (index: number) => ({ type: 'content_block_stop', index }) as LogEvent
const whole = (index: number, block: object) => [open(index, block), stop(index)]
const text = (index: number, piece: string) => new Delta('text', index, escapeJson(piece))
const json = (index: number, piece: string) => new Delta('input_json', index, escapeJson(piece))

/** The chunks between the step's start and the end's metadata. */
function inside(events: readonly LogEvent[], terminal: LogEvent = done): Chunk[] {
  const chunks = chunksOf([start, messageStart(), ...events, terminal])
  return chunks.slice(
    2,
    chunks.findIndex(({ type }) => type === 'finish-step'),
  )
}

/** Chunk types that ai 6 does not validate, so that a client of it would fail the chat. */
const newerTypes = ['custom', 'reasoning-file', 'steering-message', 'reset-step', 'tool-approval-response']

/** The rules of the client: nothing for a part that is not open, nothing left open. */
function expectWellFormed(chunks: readonly Chunk[], endsOpen = 0): void {
  const parts = new Set<unknown>()
  const calls = new Set<unknown>()
  for (const [index, { type, id, toolCallId }] of chunks.entries()) {
    const [kind, phase] = type.split(/-(?=start$|delta$|end$)/)
    if (kind === 'text' || kind === 'reasoning') {
      if (phase === 'start') expect(parts.has(id)).toBe(false)
      else expect(parts.has(id)).toBe(true)
      if (phase === 'start') parts.add(id)
      if (phase === 'end') parts.delete(id)
    }
    if (type === 'tool-input-start') calls.add(toolCallId)
    else if (toolCallId !== undefined) expect(calls.has(toolCallId)).toBe(true)
    expect(type === 'finish').toBe(index === chunks.length - 1)
  }
  expect(parts.size).toBe(0)
  const ended = chunks.filter(({ type }) => ['tool-input-available', 'tool-input-error'].includes(type))
  expect(calls.size - new Set(ended.map((chunk) => chunk['toolCallId'])).size).toBe(endsOpen)
}

async function expectValid(chunks: readonly Chunk[]): Promise<void> {
  const schema = uiMessageChunkSchema()
  for (const chunk of chunks) {
    expect(await schema.validate?.(chunk)).toMatchObject({ success: true })
    expect(newerTypes).not.toContain(chunk.type)
  }
}

describe.each([...recordings])('%s', (_, recording) => {
  it.each([done, failed, cancelled])('keeps the rules of the client when it ends with $type anywhere', async (end) => {
    const events = logOf(recording).slice(0, -1)
    for (let length = 1; length <= events.length; length++) {
      const chunks = chunksOf([...events.slice(0, length), end])
      const begun = chunks.filter(({ type }) => type === 'tool-input-start').length
      const told = chunks.filter(({ type }) => type === 'tool-input-available').length
      expectWellFormed(chunks, end.type === 'cancelled' ? begun - told : 0)
      if (length % 7 === 0 || length === events.length) await expectValid(chunks)
    }
  })
})

describe('the frame of a message', () => {
  it('sends bytes at once, with an id that can be told beforehand', () => {
    expect(fold(aiSdk, [start])).toBe(`id: ${streamId}.1\ndata: {"type":"start","messageId":"${streamId}"}\n\n`)
  })

  it('keeps the id of a message that goes on', () => {
    const goesOn: LogEvent = { ...start, echo: { message_id: 'message-7' } } as LogEvent
    expect(chunksOf([goesOn, done])[0]).toEqual({ type: 'start', messageId: 'message-7' })
  })

  it.each([
    ['end_turn', 'stop'],
    ['stop_sequence', 'stop'],
    ['pause_turn', 'stop'],
    ['tool_use', 'tool-calls'],
    ['max_tokens', 'length'],
    ['model_context_window_exceeded', 'length'],
    ['refusal', 'content-filter'],
    ['compaction', 'other'],
    ['constructor', 'other'],
    [null, 'other'],
  ])('ends %s as %s, with the facts before', (stop_reason, finishReason) => {
    const chunks = chunksOf([start, messageStart(), { ...done, stop_reason, cost_usd: 0.5 }])
    expect(chunks.slice(-3)).toEqual([
      { type: 'finish-step' },
      {
        type: 'message-metadata',
        messageMetadata: { model: 'claude-real', usage: done.usage, stop_reason, cost_usd: 0.5 },
      },
      { type: 'finish', finishReason },
    ])
  })

  it('tells an error by its public sentence, after everything a client shall still read', () => {
    const chunks = chunksOf([start, messageStart(), open(0, { type: 'text', text: '' }), text(0, 'Half'), failed])
    expect(chunks.slice(-5)).toEqual([
      { type: 'text-end', id: '0' },
      { type: 'finish-step' },
      { type: 'message-metadata', messageMetadata: { model: 'claude-real', usage: failed.usage, stop_reason: null } },
      { type: 'error', errorText: 'It ended early.' },
      { type: 'finish', finishReason: 'error' },
    ])
  })

  it('tells who stopped it', () => {
    expect(chunksOf([start, cancelled]).slice(-2)).toEqual([
      { type: 'abort', reason: 'stop' },
      { type: 'finish', finishReason: 'other' },
    ])
  })

  it('makes a step of every message, to which the results of its tools belong', () => {
    const call = { type: 'tool_use', id: 'toolu_1', name: 'weather', input: {} }
    const result = { type: 'tool_result', id: 'toolu_1', name: 'weather', content: 'sunny', is_error: false }
    const failure = { type: 'tool_result', id: 'toolu_1', content: [{ type: 'text', text: 'no sky' }], is_error: true }
    const stray = { type: 'tool_result', id: 'toolu_9', content: '' }
    const chunks = chunksOf([
      start,
      messageStart(),
      ...whole(0, call),
      { type: 'message_stop' } as LogEvent,
      ...([result, failure, stray] as unknown as LogEvent[]),
      messageStart('msg_2'),
      open(0, { type: 'text', text: '' }),
      text(0, 'Sunny.'),
      stop(0),
      { type: 'message_stop' } as LogEvent,
      done,
    ])
    expect(chunks.slice(1, -2)).toEqual([
      { type: 'start-step' },
      { type: 'tool-input-start', toolCallId: 'toolu_1', toolName: 'weather' },
      { type: 'tool-input-available', toolCallId: 'toolu_1', toolName: 'weather', input: {} },
      { type: 'tool-output-available', toolCallId: 'toolu_1', output: 'sunny' },
      { type: 'tool-output-error', toolCallId: 'toolu_1', errorText: 'no sky' },
      { type: 'finish-step' },
      { type: 'start-step' },
      { type: 'text-start', id: '1' },
      { type: 'text-delta', id: '1', delta: 'Sunny.' },
      { type: 'text-end', id: '1' },
      { type: 'finish-step' },
    ])
  })
})

describe('parts', () => {
  it('puts text through as it came, line breaks, quotes and all', () => {
    const odd = 'a\r\n"b"\\ \u2028🌊'
    const chunks = inside([open(0, { type: 'text', text: 'First. ' }), text(0, ''), text(0, odd), stop(0)])
    expect(chunks).toEqual([
      { type: 'text-start', id: '0' },
      { type: 'text-delta', id: '0', delta: 'First. ' },
      { type: 'text-delta', id: '0', delta: odd },
      { type: 'text-end', id: '0' },
    ])
  })

  it('gives thinking its signature, and redacted thinking its data', () => {
    const chunks = inside([
      open(0, { type: 'thinking', thinking: '', signature: '' }),
      new Delta('thinking', 0, 'Hm.'),
      other(0, { type: 'signature_delta', signature: 'sig' }),
      stop(0),
      ...whole(1, { type: 'redacted_thinking', data: 'xyz' }),
    ])
    expect(chunks).toEqual([
      { type: 'reasoning-start', id: '0' },
      { type: 'reasoning-delta', id: '0', delta: 'Hm.' },
      { type: 'reasoning-end', id: '0', providerMetadata: { anthropic: { signature: 'sig' } } },
      { type: 'reasoning-start', id: '1', providerMetadata: { anthropic: { redactedData: 'xyz' } } },
      { type: 'reasoning-end', id: '1' },
    ])
  })

  it.each([
    ['', {}],
    ['{"city":"Bern"}', { city: 'Bern' }],
  ])('gives the input %j of a tool whole and parsed', (piece, input) => {
    const chunks = inside([open(0, { type: 'tool_use', id: 't', name: 'weather', input: {} }), json(0, piece), stop(0)])
    expect(chunks.at(-1)).toEqual({ type: 'tool-input-available', toolCallId: 't', toolName: 'weather', input })
    expect(chunks.filter(({ type }) => type === 'tool-input-delta')).toEqual(
      piece === '' ? [] : [{ type: 'tool-input-delta', toolCallId: 't', inputTextDelta: piece }],
    )
  })

  it('tells an input that does not parse, or was cut off, as an error', () => {
    const call = [open(0, { type: 'tool_use', id: 't', name: 'weather', input: {} }), json(0, '{"city":')]
    const facts = { type: 'tool-input-error', toolCallId: 't', toolName: 'weather', input: '{"city":' }
    expect(inside([...call, stop(0)]).at(-1)).toEqual({
      ...facts,
      errorText: 'The input of this call is not valid JSON.',
    })
    expect(inside(call, failed).at(-1)).toEqual({ ...facts, errorText: 'The call was cut off.' })
  })

  it('leaves a call open that somebody stopped, as its error would be taken for an answer', () => {
    const call = [open(0, { type: 'tool_use', id: 't', name: 'weather', input: {} }), json(0, '{"city":')]
    expect(inside(call, cancelled).map(({ type }) => type)).toEqual(['tool-input-start', 'tool-input-delta'])
  })

  it('tells what Anthropic ran, and how it went', () => {
    const search = { type: 'server_tool_use', id: 's', name: 'web_search', input: { query: 'q' } }
    const error = { type: 'web_search_tool_result_error', error_code: 'max_uses_exceeded' }
    const chunks = inside([
      ...whole(0, search),
      ...whole(1, { type: 'web_search_tool_result', tool_use_id: 's', content: error }),
      ...whole(2, { type: 'mcp_tool_use', id: 'm', name: 'echo', server_name: 'srv', input: {} }),
      ...whole(3, {
        type: 'mcp_tool_result',
        tool_use_id: 'm',
        is_error: true,
        content: [{ type: 'text', text: 'no' }],
      }),
    ])
    expect(chunks.filter(({ type }) => type.startsWith('tool-output'))).toEqual([
      {
        type: 'tool-output-error',
        toolCallId: 's',
        providerExecuted: true,
        providerMetadata: { anthropic: { block: { type: 'web_search_tool_result', content: error } } },
        errorText: 'max_uses_exceeded',
      },
      {
        type: 'tool-output-error',
        toolCallId: 'm',
        providerExecuted: true,
        dynamic: true,
        providerMetadata: {
          anthropic: { block: { type: 'mcp_tool_result', is_error: true, content: [{ type: 'text', text: 'no' }] } },
        },
        errorText: 'no',
      },
    ])
  })

  it('gives results of calls it never told, and blocks of other types, as data', () => {
    const stray = { type: 'web_search_tool_result', tool_use_id: 'elsewhere', content: [] }
    const upload = { type: 'container_upload', file_id: 'file_1' }
    expect(inside([...whole(0, stray), ...whole(1, upload)])).toEqual([
      { type: 'data-claude-block', data: stray },
      { type: 'data-claude-block', data: upload },
    ])
  })

  it('gives each page and document once as a source, and all citations with their text', () => {
    const page = { type: 'web_search_result', url: 'https://a.example/', title: 'A', encrypted_content: 'x' }
    const cited = { type: 'web_search_result_location', url: 'https://a.example/', title: 'A', cited_text: 'c' }
    const inPdf = { type: 'page_location', document_index: 1, document_title: 'Report', cited_text: 'd' }
    const inText = { type: 'char_location', document_index: 0, document_title: null, cited_text: 'e' }
    const found = { type: 'search_result_location', source: 'https://b.example/', title: 'B', search_result_index: 0 }
    const kept = { ...found, source: 'kb/7', title: null }
    const citations = [cited, inPdf, { ...inPdf, cited_text: 'other' }, inText, found, kept]
    const chunks = inside([
      ...whole(0, { type: 'server_tool_use', id: 's', name: 'web_search', input: {} }),
      ...whole(1, { type: 'web_search_tool_result', tool_use_id: 's', content: [page] }),
      open(2, { type: 'text', text: '', citations: [] }),
      ...citations.map((citation) => other(2, { type: 'citations_delta', citation })),
      text(2, 'So.'),
      stop(2),
    ])
    const id = (n: number) => `${streamId}-source-${n}`
    expect(chunks.filter(({ type }) => type.startsWith('source'))).toEqual([
      { type: 'source-url', sourceId: id(1), url: 'https://a.example/', title: 'A' },
      { type: 'source-document', sourceId: id(2), mediaType: 'application/pdf', title: 'Report' },
      { type: 'source-document', sourceId: id(3), mediaType: 'text/plain', title: 'Document 1' },
      { type: 'source-url', sourceId: id(4), url: 'https://b.example/', title: 'B' },
      { type: 'source-document', sourceId: id(5), mediaType: 'text/plain', title: 'kb/7' },
    ])
    expect(chunks.at(-1)).toEqual({ type: 'text-end', id: '2', providerMetadata: { anthropic: { citations } } })
  })
})
