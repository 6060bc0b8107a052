import { describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import { errorTable, type PublicError, SluiceError } from '../../src/core/errors.ts'
import type { LogEvent } from '../../src/core/events.ts'
import type { Message } from '../../src/core/message.ts'
import { openai, openaiError } from '../../src/formats/openai.ts'
import { openaiRequest } from '../../src/formats/openai-request.ts'
import { chatCompletion, finishReason, openaiUsage } from '../../src/formats/openai-response.ts'
import { done, failed, fold, parse, start } from '../support/logs.ts'

const usage = { input_tokens: 10, output_tokens: 7, cache_read_input_tokens: 100, cache_creation_input_tokens: 1000 }

const messageStart = {
  type: 'message_start',
  message: { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-x', content: [], usage },
}
const blockStart = (index: number, content_block: object) => ({ type: 'content_block_start', index, content_block })
const blockStop = (index: number) => ({ type: 'content_block_stop', index })
const text = (index: number, piece: string) => new Delta('text', index, escapeJson(piece))
const json = (index: number, piece: string) => new Delta('input_json', index, escapeJson(piece))
const toolUse = (n: number, input: unknown = {}) => ({ type: 'tool_use', id: `toolu_${n}`, name: `tool_${n}`, input })

// biome-ignore lint/suspicious/noExplicitAny: tests read chunks as a client without types does
type Chunk = any

function dataOf(events: readonly unknown[]): string[] {
  return parse(fold(openai, events as LogEvent[])).map((message) => message.data)
}

/** All chunks of a stream that ends in `[DONE]`. */
function chunksOf(events: readonly unknown[]): Chunk[] {
  const data = dataOf(events)
  expect(data.at(-1)).toBe('[DONE]')
  return data.slice(0, -1).map((each) => JSON.parse(each))
}

const deltasOf = (events: readonly unknown[]): Chunk[] => chunksOf(events).map((chunk) => chunk.choices?.[0]?.delta)
const answer = (...events: unknown[]) => [start, messageStart, ...events, done]
const withUsage = { ...start, echo: { include_usage: true } }

describe('the chunks of a stream', () => {
  it('share id, time and model, begin with the role and end with a reason', () => {
    const chunks = chunksOf(answer(blockStart(0, { type: 'text', text: '' }), text(0, 'a'), text(0, 'b'), blockStop(0)))
    const common = { id: 'chatcmpl-msg_1', object: 'chat.completion.chunk', created: 1_790_000_000, model: 'claude-x' }
    const chunk = (delta: object, finish_reason: string | null = null) => {
      return { ...common, choices: [{ index: 0, delta, finish_reason }] }
    }
    expect(chunks).toEqual([
      chunk({ role: 'assistant', content: '' }),
      chunk({ content: 'a' }),
      chunk({ content: 'b' }),
      chunk({}, 'stop'),
    ])
  })

  it('carry text as it is, whatever it holds', () => {
    const odd = 'line\r\n"quoted" \\ \u2028 [DONE] 🌊 \0 \ud83c'
    const [, delta] = deltasOf(answer(text(0, odd)))
    expect(delta.content).toBe(odd)
  })

  it('leave out what is empty and what is not for this client', () => {
    const deltas = deltasOf(
      answer(
        blockStart(0, { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {} }),
        json(0, '{"query":"x"}'),
        blockStop(0),
        blockStart(1, { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] }),
        blockStop(1),
        blockStart(2, { type: 'mcp_tool_use', id: 'mcptoolu_1', name: 'x', server_name: 's', input: {} }),
        json(2, ''),
        blockStop(2),
        text(3, ''),
      ),
    )
    expect(deltas).toEqual([{ role: 'assistant', content: '' }, {}])
  })

  it('carry text that a block begins with', () => {
    expect(deltasOf(answer(blockStart(0, { type: 'text', text: 'He"y' })))[1]).toEqual({ content: 'He"y' })
  })

  it('go on under the first id when the answer has another message', () => {
    const second = { ...messageStart, message: { ...messageStart.message, id: 'msg_2', model: 'other' } }
    const chunks = chunksOf(answer(text(0, 'a'), second, text(0, 'b')))
    expect(new Set(chunks.map(({ id, model }) => `${id} ${model}`))).toEqual(new Set(['chatcmpl-msg_1 claude-x']))
    expect(chunks.filter((chunk) => chunk.choices[0].delta.role)).toHaveLength(1)
  })
})

describe('tool calls in a stream', () => {
  it('are counted from 0, wherever Claude has them', () => {
    const deltas = deltasOf(
      answer(
        text(0, 'hm'),
        blockStart(1, { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {} }),
        blockStop(1),
        blockStart(3, toolUse(1)),
        json(3, ''),
        json(3, '{"a":'),
        json(3, '"ü"}'),
        blockStop(3),
        blockStart(5, toolUse(2)),
        json(5, '{}'),
        blockStop(5),
      ),
    )
    const begin = (index: number, n: number) => {
      return { index, id: `toolu_${n}`, type: 'function', function: { name: `tool_${n}`, arguments: '' } }
    }
    const piece = (index: number, text: string) => ({ index, function: { arguments: text } })
    expect(deltas.slice(2, -1).map((delta) => delta.tool_calls)).toEqual([
      [begin(0, 1)],
      [piece(0, '{"a":')],
      [piece(0, '"ü"}')],
      [begin(1, 2)],
      [piece(1, '{}')],
    ])
  })

  it('keep their pieces apart when blocks interleave', () => {
    const deltas = deltasOf(
      answer(blockStart(0, toolUse(1)), blockStart(1, toolUse(2)), json(1, '{"b":1}'), json(0, '{"a":1}')),
    )
    const pieces = deltas.flatMap((delta) => delta.tool_calls ?? []).filter((call) => !call.id)
    expect(pieces).toEqual([
      { index: 1, function: { arguments: '{"b":1}' } },
      { index: 0, function: { arguments: '{"a":1}' } },
    ])
  })

  it.each([
    ['with none', [json(0, '')], {}, '{}'],
    ['without a delta', [], {}, '{}'],
    ['that came whole', [], { a: 'x"y' }, '{"a":"x\\"y"}'],
    ['without input', [], undefined, '{}'],
  ])('always have arguments that parse: a call %s', (_, pieces, input, expected) => {
    const block = { type: 'tool_use', id: 'toolu_1', name: 'x', input }
    for (const stop of [[blockStop(0)], []]) {
      const deltas = deltasOf(answer(blockStart(0, block), ...pieces, ...stop))
      const calls = deltas.flatMap((delta) => delta.tool_calls ?? [])
      expect(calls.map((call) => call.function.arguments).join('')).toBe(expected)
    }
  })
})

describe('thinking in a stream', () => {
  it('is reasoning_content, and whole with its signature when it is over', () => {
    const deltas = deltasOf(
      answer(
        blockStart(0, { type: 'thinking', thinking: '', signature: '' }),
        new Delta('thinking', 0, escapeJson('a "b"\n')),
        new Delta('thinking', 0, 'c'),
        { type: 'content_block_delta', index: 0, delta: { type: 'signature_delta', signature: 'sig' } },
        blockStop(0),
        blockStart(1, { type: 'redacted_thinking', data: 'xyz' }),
        blockStop(1),
      ),
    )
    expect(deltas.slice(1, -1)).toEqual([
      { reasoning_content: 'a "b"\n' },
      { reasoning_content: 'c' },
      { thinking_blocks: [{ type: 'thinking', thinking: 'a "b"\nc', signature: 'sig' }] },
      { thinking_blocks: [{ type: 'redacted_thinking', data: 'xyz' }] },
    ])
  })

  it('without a signature is not for giving back', () => {
    const deltas = deltasOf(answer(blockStart(0, { type: 'thinking', thinking: 'so' }), blockStop(0)))
    expect(deltas.slice(1, -1)).toEqual([{ reasoning_content: 'so' }])
  })
})

describe('usage in a stream', () => {
  it('comes in a chunk of its own, if asked for, and is null before', () => {
    const chunks = chunksOf([withUsage, messageStart, text(0, 'a'), { ...done, usage }])
    expect(chunks.slice(0, -1).map((chunk) => chunk.usage)).toEqual([null, null, null])
    expect(chunks.at(-1)).toMatchObject({ id: 'chatcmpl-msg_1', choices: [], usage: { prompt_tokens: 1110 } })
  })

  it('is not mentioned if not asked for', () => {
    for (const chunk of chunksOf(answer(text(0, 'a')))) expect(chunk).not.toHaveProperty('usage')
  })

  it.each([
    ['all of the input, and the parts of it', usage, [1110, 7, 1117], [100, 1000], 0],
    ['counts that are missing', { input_tokens: 1, output_tokens: 2 }, [1, 2, 3], [0, 0], 0],
    [
      'counts that are null, and thinking',
      {
        input_tokens: 1,
        output_tokens: 9,
        cache_read_input_tokens: null,
        cache_creation_input_tokens: null,
        output_tokens_details: { thinking_tokens: 5 },
      },
      [1, 9, 10],
      [0, 0],
      5,
    ],
  ])('counts %s', (_, given, [prompt, completion, total], [cached, written], reasoning) => {
    expect(openaiUsage(given)).toEqual({
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: total,
      prompt_tokens_details: { cached_tokens: cached, cache_write_tokens: written },
      completion_tokens_details: { reasoning_tokens: reasoning },
    })
  })
})

describe('the end of a stream', () => {
  it.each([
    ['end_turn', 'stop'],
    ['stop_sequence', 'stop'],
    ['pause_turn', 'stop'],
    ['compaction', 'stop'],
    ['constructor', 'stop'],
    [null, 'stop'],
    ['max_tokens', 'length'],
    ['model_context_window_exceeded', 'length'],
    ['tool_use', 'tool_calls'],
    ['refusal', 'content_filter'],
  ])('calls %s %s', (stop_reason, expected) => {
    expect(finishReason(stop_reason)).toBe(expected)
    expect(chunksOf([start, messageStart, { ...done, stop_reason }]).at(-1).choices[0].finish_reason).toBe(expected)
  })

  it('tells a failure, without a reason to finish', () => {
    const [, , error] = chunksOf([start, messageStart, text(0, 'a'), failed])
    expect(error).toEqual({
      error: { message: 'It ended early.', type: 'server_error', param: null, code: 'upstream_truncated' },
    })
    expect(dataOf([start, failed])).toHaveLength(2)
  })

  it('tells that it was stopped', () => {
    const cancelled = { type: 'cancelled', by: 'stop', usage }
    expect(chunksOf([start, cancelled])).toEqual([
      { error: { message: errorTable.stopped.message, type: 'server_error', param: null, code: 'stopped' } },
    ])
  })
})

describe('errors', () => {
  it.each<[PublicError['code'], string]>([
    ['invalid_request', 'invalid_request_error'],
    ['upstream_invalid_request', 'invalid_request_error'],
    ['upstream_rate_limited', 'rate_limit_error'],
    ['budget_exhausted', 'insufficient_quota'],
    ['upstream_overloaded', 'server_error'],
    ['internal', 'server_error'],
  ])('%s is a %s', (code, type) => {
    expect(openaiError(new SluiceError(code).toPublic()).error).toMatchObject({ type, code, param: null })
  })

  it.each([
    ['temperature: Claude takes 0 to 1; n: must be 1', 'temperature'],
    ['messages.0.content.1.type: must be text', 'messages.0.content.1.type'],
    ['body: Invalid input', null],
    ['The request is not valid.', null],
  ])('of requests name the field: %s', (message, param) => {
    expect(openaiError({ code: 'invalid_request', message, retryable: false }).error.param).toBe(param)
    expect(openaiError({ code: 'upstream_invalid_request', message, retryable: false }).error.param).toBeNull()
  })
})

describe('a whole answer', () => {
  const message = (content: Message['content'], stop_reason = 'end_turn'): Message => {
    return {
      id: 'msg_1',
      type: 'message',
      role: 'assistant',
      model: 'claude-x',
      content,
      stop_reason,
      stop_sequence: null,
      usage,
    }
  }
  const choiceOf = (...given: Parameters<typeof message>) => chatCompletion(message(...given), 5).choices[0]

  it('has what a completion has', () => {
    const content = [{ type: 'text', text: 'a' }, { type: 'web_search_tool_result' }, { type: 'text', text: 'b' }]
    expect(chatCompletion(message(content), 5)).toEqual({
      id: 'chatcmpl-msg_1',
      object: 'chat.completion',
      created: 5,
      model: 'claude-x',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'ab', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: openaiUsage(usage),
    })
  })

  it('has tool calls, with no content when there is no text', () => {
    const server = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {} }
    const choice = choiceOf([server, toolUse(1, { a: [1] }), toolUse(2, undefined)], 'tool_use')
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
    expect(choice?.message.tool_calls).toEqual([
      { id: 'toolu_1', type: 'function', function: { name: 'tool_1', arguments: '{"a":[1]}' } },
      { id: 'toolu_2', type: 'function', function: { name: 'tool_2', arguments: '{}' } },
    ])
  })

  it('does not make a call that was cut off look whole', () => {
    const [call] = choiceOf([toolUse(1, null)], 'max_tokens')?.message.tool_calls ?? []
    expect(() => JSON.parse(call?.function.arguments ?? '')).toThrow(SyntaxError)
  })

  it('has thinking, and what of it is to be given back', () => {
    const signed = { type: 'thinking', thinking: 'b', signature: 's' }
    const redacted = { type: 'redacted_thinking', data: 'x' }
    expect(choiceOf([{ type: 'thinking', thinking: 'a' }, signed, redacted])?.message).toMatchObject({
      content: '',
      reasoning_content: 'ab',
      thinking_blocks: [signed, redacted],
    })
  })

  it('of nothing has an empty content', () => {
    expect(choiceOf([], 'refusal')).toMatchObject({ finish_reason: 'content_filter', message: { content: '' } })
  })
})

const ask = (fields: object) => openaiRequest({ messages: [{ role: 'user', content: 'hi' }], ...fields })
const conversation = (...messages: object[]) => openaiRequest({ messages }).message

function refusalOf(fields: object): string {
  try {
    ask(fields)
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_request' })
    return (error as Error).message
  }
  throw new Error('was accepted')
}

describe('a request', () => {
  it('says nothing of what is not said', () => {
    expect(ask({})).toEqual({
      message: { messages: [{ role: 'user', content: 'hi' }] },
      echo: { include_usage: false },
      stream: false,
    })
  })

  const tools = [{ type: 'function', function: { name: 'f' } }]
  const schema = { type: 'object', properties: { b: {}, a: {} }, additionalProperties: false }

  it.each<[string, object, object]>([
    ['model', { model: 'claude-x' }, { model: 'claude-x' }],
    ['max_tokens', { max_tokens: 5 }, { max_tokens: 5 }],
    ['max_completion_tokens, which wins', { max_tokens: 5, max_completion_tokens: 6 }, { max_tokens: 6 }],
    ['temperature and top_p', { temperature: 1, top_p: 0.5 }, { temperature: 1, top_p: 0.5 }],
    ['temperature 0', { temperature: 0 }, { temperature: 0 }],
    ['one stop', { stop: 'END' }, { stop_sequences: ['END'] }],
    ['several stops', { stop: ['a', '\nb'] }, { stop_sequences: ['a', '\nb'] }],
    ['user', { user: 'u1' }, { metadata: { user_id: 'u1' } }],
    ['safety_identifier', { safety_identifier: 'u2' }, { metadata: { user_id: 'u2' } }],
    ['reasoning_effort', { reasoning_effort: 'xhigh' }, { output_config: { effort: 'xhigh' } }],
    ['reasoning_effort minimal', { reasoning_effort: 'minimal' }, { output_config: { effort: 'low' } }],
    ['reasoning_effort none', { reasoning_effort: 'none' }, { thinking: { type: 'disabled' } }],
    [
      'thinking',
      { thinking: { type: 'enabled', budget_tokens: 2000 } },
      { thinking: { type: 'enabled', budget_tokens: 2000 } },
    ],
    [
      'response_format json_schema',
      {
        response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } },
        reasoning_effort: 'low',
      },
      { output_config: { effort: 'low', format: { type: 'json_schema', schema } } },
    ],
    [
      'tools without parameters',
      { tools },
      { tools: [{ name: 'f', input_schema: { type: 'object', properties: {} } }] },
    ],
    [
      'tools',
      { tools: [{ type: 'function', function: { name: 'f', description: 'd', parameters: schema, strict: true } }] },
      { tools: [{ name: 'f', description: 'd', input_schema: schema, strict: true }] },
    ],
    ['functions', { functions: [{ name: 'f', parameters: schema }] }, { tools: [{ name: 'f', input_schema: schema }] }],
  ])('maps %s', (_, fields, expected) => {
    expect(ask(fields).message).toEqual({ ...ask({}).message, ...expected })
  })

  it('keeps the order of fields in schemas, by which Claude’s cache goes', () => {
    const { message } = ask({ tools: [{ type: 'function', function: { name: 'f', parameters: schema } }] })
    expect(JSON.stringify(message['tools'])).toContain('{"type":"object","properties":{"b":{},"a":{}}')
  })

  it.each<[object, object | undefined]>([
    [{}, undefined],
    [{ tool_choice: 'auto' }, { type: 'auto' }],
    [{ tool_choice: 'none' }, { type: 'none' }],
    [{ tool_choice: 'required' }, { type: 'any' }],
    [{ tool_choice: { type: 'function', function: { name: 'f' } } }, { type: 'tool', name: 'f' }],
    [{ function_call: { name: 'f' } }, { type: 'tool', name: 'f' }],
    [{ function_call: 'none' }, { type: 'none' }],
    [{ parallel_tool_calls: true }, undefined],
    [{ parallel_tool_calls: false }, { type: 'auto', disable_parallel_tool_use: true }],
    [{ parallel_tool_calls: false, tool_choice: 'none' }, { type: 'none' }],
    [
      { parallel_tool_calls: false, tool_choice: 'required' },
      { type: 'any', disable_parallel_tool_use: true },
    ],
  ])('maps the choice %j', (fields, expected) => {
    expect(ask({ tools, ...fields }).message['tool_choice']).toEqual(expected)
  })

  it.each([
    { tool_choice: 'auto' },
    { tools: [], tool_choice: 'none' },
    { parallel_tool_calls: false },
  ])('says nothing of tools where there are none: %j', (fields) => {
    expect(ask(fields).message).toEqual(ask({}).message)
  })

  it.each([
    [{ stream: true }, true, false],
    [{ stream: true, stream_options: { include_usage: true } }, true, true],
    [{ stream: null, stream_options: null }, false, false],
    [{ stream: true, stream_options: { include_obfuscation: false } }, true, false],
  ])('says how to answer: %j', (fields, stream, include_usage) => {
    expect(ask(fields)).toMatchObject({ stream, echo: { include_usage } })
  })

  it('drops what changes nothing', () => {
    const harmless = {
      ...{ n: 1, seed: 7, store: false, metadata: { a: 'b' }, service_tier: 'auto', prompt_cache_key: 'k' },
      ...{ logprobs: false, top_logprobs: 0, logit_bias: {}, presence_penalty: 0, frequency_penalty: 0 },
      ...{ modalities: ['text'], verbosity: 'medium', audio: null, prediction: null, prompt_cache_retention: '24h' },
      ...{ response_format: { type: 'text' } },
    }
    expect(ask(harmless)).toEqual(ask({}))
    const nulls = Object.fromEntries(Object.keys(harmless).map((name) => [name, null]))
    expect(ask({ ...nulls, response_format: undefined, temperature: null, stop: null, tools: null })).toEqual(ask({}))
  })

  it.each<[string, object]>([
    ['n', { n: 2 }],
    ['temperature', { temperature: 1.2 }],
    ['top_p', { top_p: 2 }],
    ['max_tokens', { max_tokens: 0 }],
    ['logprobs', { logprobs: true }],
    ['top_logprobs', { top_logprobs: 3 }],
    ['logit_bias.50256', { logit_bias: { 50256: -100 } }],
    ['presence_penalty', { presence_penalty: 0.5 }],
    ['frequency_penalty', { frequency_penalty: -1 }],
    ['store', { store: true }],
    ['verbosity', { verbosity: 'low' }],
    ['service_tier', { service_tier: 'flex' }],
    ['modalities.1', { modalities: ['text', 'audio'] }],
    ['audio', { audio: { voice: 'x', format: 'wav' } }],
    ['prediction', { prediction: { type: 'content', content: 'x' } }],
    ['web_search_options', { web_search_options: {} }],
    ['stream_options.include_obfuscation', { stream_options: { include_obfuscation: true } }],
    ['stop.0', { stop: '\n' }],
    ['tools.0.type', { tools: [{ type: 'custom', custom: { name: 'x' } }] }],
    ['tool_choice.type', { tools, tool_choice: { type: 'allowed_tools', allowed_tools: {} } }],
    ['tool_choice', { tools, tool_choice: 'any' }],
    ['response_format', { response_format: { type: 'json_object' } }],
    ['response_format.type', { response_format: { type: 'grammar' } }],
    ['response_format.json_schema.schema', { response_format: { type: 'json_schema', json_schema: { name: 'x' } } }],
    ['reasoning_effort', { reasoning_effort: 'huge' }],
    ['max_token', { max_token: 5 }],
    ['model', { model: 'two words' }],
    ['messages', { messages: undefined }],
    ['messages', { messages: [] }],
    ['messages', { messages: [{ role: 'system', content: 'x' }] }],
  ])('is refused for %s: %j', (field, fields) => {
    const message = refusalOf(fields)
    expect(openaiError({ code: 'invalid_request', message, retryable: false }).error.param).toBe(field.split(' ')[0])
  })

  it('that wants json_object is told what to use', () => {
    expect(refusalOf({ response_format: { type: 'json_object' } })).toContain('use json_schema')
  })

  it('that is no object is refused', () => {
    for (const body of [undefined, null, 'x', [], 5]) expect(() => openaiRequest(body)).toThrow(SluiceError)
  })

  it('is not quoted in a refusal', () => {
    expect(refusalOf({ messages: [{ role: 'my secret', content: 'my secret' }], n: 'my secret' })).not.toContain(
      'secret',
    )
  })
})

describe('messages', () => {
  const hi = { role: 'user', content: 'hi' }

  it('give their instructions to system, in their order', () => {
    const parts = [
      { type: 'text', text: 'b' },
      { type: 'text', text: 'c' },
    ]
    expect(conversation({ role: 'system', content: 'a' }, hi, { role: 'developer', content: parts })).toMatchObject({
      system: 'a\nb\nc',
      messages: [hi],
    })
    expect(conversation({ role: 'system', content: '' }, hi)).not.toHaveProperty('system')
  })

  it('keep texts, images and PDFs', () => {
    const png = `data:image/png;base64,${'A'.repeat(1000)}`
    const content = [
      { type: 'text', text: 'look' },
      { type: 'image_url', image_url: { url: png, detail: 'high' } },
      { type: 'image_url', image_url: { url: 'https://example.com/a.jpg' } },
      { type: 'file', file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,JVBE' } },
    ]
    expect(conversation({ role: 'user', name: 'ann', content }).messages).toEqual([
      {
        role: 'user',
        content: [
          { type: 'text', text: 'look' },
          { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'A'.repeat(1000) } },
          { type: 'image', source: { type: 'url', url: 'https://example.com/a.jpg' } },
          {
            type: 'document',
            source: { type: 'base64', media_type: 'application/pdf', data: 'JVBE' },
            title: 'a.pdf',
          },
        ],
      },
    ])
  })

  const call = (id: string, json: string) => ({ id, type: 'function', function: { name: 'f', arguments: json } })
  const result = (tool_call_id: string, content: unknown) => ({ role: 'tool', tool_call_id, content })

  it('keep tool calls, and merge the results of one turn', () => {
    const { messages } = conversation(
      hi,
      { role: 'assistant', content: 'hm', tool_calls: [call('a', '{"x":1}'), call('b', '')] },
      result('a', 'one'),
      { role: 'system', content: 'be brief' },
      result('b', [{ type: 'text', text: 'two' }]),
      { role: 'assistant', content: null, refusal: null, tool_calls: [call('c', ' {} ')] },
      result('c', ''),
      hi,
    )
    const use = (id: string, input: object) => ({ type: 'tool_use', id, name: 'f', input })
    const told = (tool_use_id: string, content: string) => ({ type: 'tool_result', tool_use_id, content })
    expect(messages).toEqual([
      hi,
      { role: 'assistant', content: [{ type: 'text', text: 'hm' }, use('a', { x: 1 }), use('b', {})] },
      { role: 'user', content: [told('a', 'one'), told('b', 'two')] },
      { role: 'assistant', content: [use('c', {})] },
      { role: 'user', content: [told('c', '')] },
      hi,
    ])
  })

  it('take our own answers back, thinking first', () => {
    const signed = { type: 'thinking', thinking: 'b', signature: 's' }
    const content = [signed, { type: 'text', text: 'a' }, toolUse(1, { x: [] })]
    const answer = { id: 'msg_1', type: 'message' as const, role: 'assistant' as const, model: 'm', content }
    const { message } =
      chatCompletion({ ...answer, stop_reason: 'tool_use', stop_sequence: null, usage }, 5).choices[0] ?? {}
    expect(conversation(hi, message as object, result('toolu_1', 'x')).messages[1]).toEqual({
      role: 'assistant',
      content,
    })
  })

  it('leave out what an assistant did not say', () => {
    const { messages } = conversation(hi, { role: 'assistant', content: '' }, { role: 'assistant' }, hi)
    expect(messages).toEqual([hi, hi])
  })

  it('keep what an assistant would not say', () => {
    const { messages } = conversation(
      { role: 'assistant', content: [{ type: 'refusal', refusal: 'no' }] },
      { role: 'assistant', content: null, refusal: 'never' },
      hi,
    )
    expect(messages.slice(0, 2)).toEqual([
      { role: 'assistant', content: 'no' },
      { role: 'assistant', content: 'never' },
    ])
  })

  const deep = `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`
  it.each<[string, object]>([
    ['role', { role: 'function', name: 'f', content: 'x' }],
    ['content', { role: 'user' }],
    ['content', { role: 'user', content: 5 }],
    ['content.0.type', { role: 'user', content: [{ type: 'input_audio', input_audio: {} }] }],
    ['content.0.type', { role: 'system', content: [{ type: 'image_url', image_url: { url: 'https://a.b' } }] }],
    ['content.0.image_url.url', { role: 'user', content: [{ type: 'image_url', image_url: { url: 'file:///etc' } }] }],
    [
      'content.0.image_url.url',
      { role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:text/plain;base64,AA' } }] },
    ],
    ['content.0.file.file_data', { role: 'user', content: [{ type: 'file', file: { file_id: 'file-1' } }] }],
    [
      'content.0.file.file_data',
      { role: 'user', content: [{ type: 'file', file: { file_data: 'data:image/png;base64,AA' } }] },
    ],
    ['tool_call_id', { role: 'tool', content: 'x' }],
    ['function_call', { role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } }],
    ['tool_calls.0.type', { role: 'assistant', tool_calls: [{ id: 'a', type: 'custom', custom: {} }] }],
    ['tool_calls.0.function.arguments', { role: 'assistant', tool_calls: [call('a', '{"x":')] }],
    ['tool_calls.0.function.arguments', { role: 'assistant', tool_calls: [call('a', '[1]')] }],
    ['tool_calls.0.function.arguments', { role: 'assistant', tool_calls: [call('a', 'null')] }],
    ['tool_calls.0.function.arguments', { role: 'assistant', tool_calls: [call('a', deep)] }],
    ['mood', { role: 'user', content: 'x', mood: 'good' }],
  ])('are refused for %s: %j', (field, message) => {
    expect(refusalOf({ messages: [hi, message] })).toMatch(new RegExp(`^messages\\.1\\.${RegExp.escape(field)}: `))
  })
})
