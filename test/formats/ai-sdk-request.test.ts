import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SluiceError } from '../../src/core/errors.ts'
import { requestReader } from '../../src/core/request.ts'
import { chatReader, isChatBody } from '../../src/formats/ai-sdk-request.ts'

const { fromBody } = requestReader(['json', 'ai-sdk'])
const read = chatReader(fromBody)

const said = (text: string) => ({ type: 'text', text })
const user = (...parts: object[]) => ({ id: 'u', role: 'user', parts })
const assistant = (...parts: object[]) => ({ id: 'a', role: 'assistant', parts })
const step = { type: 'step-start' }
const messagesOf = (...messages: object[]) => read({ id: 'c', trigger: 'submit-message', messages }).message.messages
const tool = (more: object, type = 'tool-weather') => ({ type, toolCallId: 't1', input: { city: 'Bern' }, ...more })
const called = { type: 'tool_use', id: 't1', name: 'weather', input: { city: 'Bern' } }

function refusal(run: () => unknown): string {
  try {
    run()
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(SluiceError)
    expect((thrown as SluiceError).code).toBe('invalid_request')
    return (thrown as SluiceError).message
  }
  throw new Error('was accepted')
}

describe('which bodies are of useChat', () => {
  it.each([
    [{ messages: [{ role: 'user', parts: [] }] }, true],
    [{ messages: [{ role: 'user', content: 'Hi' }] }, false],
    [{ messages: [null, 7] }, false],
    [{ messages: {} }, false],
    [{ prompt: 'Hi' }, false],
    [null, false],
    ['messages', false],
  ])('%j: %s', (body, is) => {
    expect(isChatBody(body)).toBe(is)
  })
})

describe('the body', () => {
  it('gives a request, the chat and the policy', () => {
    const body = {
      id: 'chat-1',
      messages: [user(said('Hi'))],
      trigger: 'submit-message',
      messageId: undefined,
      model: 'claude-x',
      thinking: { type: 'adaptive' },
      on_disconnect: 'finish',
    }
    expect(read(body)).toEqual({
      message: {
        model: 'claude-x',
        thinking: { type: 'adaptive' },
        messages: [{ role: 'user', content: [said('Hi')] }],
      },
      options: expect.objectContaining({ on_disconnect: 'finish' }),
      chatId: 'chat-1',
      continues: undefined,
    })
  })

  it.each([
    ['submit-message', undefined, [assistant(said('Well')), user(said('Hi'))], undefined],
    ['submit-message', undefined, [user(said('Hi')), assistant(said('Well'))], 'a'],
    ['submit-message', 'a', [user(said('Hi')), assistant(said('Well')), user(said('Hm'))], 'a'],
    ['submit-message', 'gone', [user(said('Hi')), assistant(said('Well'))], 'a'],
    ['regenerate-message', 'a', [user(said('Hi')), assistant(said('Well'))], undefined],
  ])('%s of %s: which message goes on is what the client thinks', (trigger, messageId, messages, continues) => {
    expect(read({ id: 'c', trigger, messageId, messages }).continues).toBe(continues)
  })

  it('takes system messages as the system prompt, behind that of the body', () => {
    const messages = [{ role: 'system', parts: [said('Be brief.'), said(' ')] }, user(said('Hi'))]
    expect(read({ messages }).message).toMatchObject({
      system: [said('Be brief.')],
      messages: [{ role: 'user', content: [said('Hi')] }],
    })
    expect(read({ messages, system: 'First.' }).message['system']).toEqual([said('First.'), said('Be brief.')])
    expect(read({ messages, system: [said('First.')] }).message['system']).toEqual([said('First.'), said('Be brief.')])
    expect(read({ messages: [user(said('Hi'))], system: 'Only.' }).message['system']).toBe('Only.')
  })

  it.each([
    [{ frobnicate: 1 }, 'frobnicate'],
    [{ prompt: 'Hi' }, 'prompt'],
    [{ format: 'json' }, 'format'],
    [{ max_tokens: -1 }, 'max_tokens'],
    [{ trigger: 'resume-stream' }, 'trigger'],
    [{ id: '' }, 'id'],
    [{ messages: [] }, 'messages'],
    [{ messages: [{ role: 'tool', parts: [] }] }, 'messages.0.role'],
    [{ messages: [{ role: 'user', parts: [{ type: 'text' }] }] }, 'messages.0.parts.0.text'],
    [{ messages: [{ role: 'user', parts: [{ type: 'hologram' }] }] }, 'messages.0.parts.0.type'],
    [{ messages: [{ role: 'user', parts: [{}] }] }, 'messages.0.parts.0.type'],
    [{ messages: [assistant({ type: 'dynamic-tool', toolCallId: 't', state: 'x' })] }, 'messages.0.parts.0.toolName'],
    [{ messages: [user(said(' \n'))] }, 'messages: say nothing'],
  ])('refuses %j, and names %s', (more, path) => {
    expect(refusal(() => read({ id: 'c', messages: [user(said('Hi'))], ...more }))).toContain(path)
  })
})

describe('what was thought and said', () => {
  it('goes back as it came, thinking only with the proof that it is Claude’s', () => {
    const messages = messagesOf(
      user(said('Hi')),
      assistant(
        step,
        { type: 'reasoning', text: 'Hm.', providerMetadata: { anthropic: { signature: 'sig' } } },
        { type: 'reasoning', text: '', providerMetadata: { anthropic: { redactedData: 'xyz' } } },
        { type: 'reasoning', text: 'of another model', providerMetadata: { other: { signature: 'sig' } } },
        { type: 'reasoning', text: 'unsigned' },
        said('Grass is green.'),
        said('\n'),
        said('The sky is blue.'),
        { type: 'source-url', sourceId: '1', url: 'https://a.example/' },
        { type: 'source-document', sourceId: '2', mediaType: 'text/plain', title: 'A' },
        { type: 'data-claude-block', data: {} },
        { type: 'custom', kind: 'a.b' },
      ),
      user(said('And?')),
    )
    expect(messages).toEqual([
      { role: 'user', content: [said('Hi')] },
      {
        role: 'assistant',
        content: [
          { type: 'thinking', thinking: 'Hm.', signature: 'sig' },
          { type: 'redacted_thinking', data: 'xyz' },
          said('Grass is green.\n'),
          said('The sky is blue.'),
        ],
      },
      { role: 'user', content: [said('And?')] },
    ])
  })

  it('alternates, whatever is left out', () => {
    const messages = messagesOf(
      user(said('One')),
      assistant({ type: 'reasoning', text: 'unsigned' }),
      user(said('Two')),
    )
    expect(messages).toEqual([{ role: 'user', content: [said('One'), said('Two')] }])
  })

  it('puts in what the user said in between', () => {
    const messages = messagesOf(
      user(said('Go')),
      assistant(step, said('Going'), { type: 'steering-message', id: 's', parts: [said('Left!')] }, step, said('Left')),
    )
    expect(messages).toMatchObject([
      { role: 'user' },
      { role: 'assistant' },
      { content: [said('Left!')] },
      { content: [said('Left')] },
    ])
  })
})

describe('tools of the page', () => {
  it.each([
    ['text', { state: 'output-available', output: 'sunny' }, { content: 'sunny' }],
    ['JSON', { state: 'output-available', output: { sky: ['blue'] } }, { content: '{"sky":["blue"]}' }],
    ['nothing', { state: 'output-available' }, { content: '' }],
    ['an error', { state: 'output-error', errorText: 'no sky' }, { content: 'no sky', is_error: true }],
    ['a denial', { state: 'output-denied' }, { content: 'The user denied this call.', is_error: true }],
    [
      'a denial with its reason',
      { state: 'approval-responded', approval: { id: 'x', approved: false, reason: 'No.' } },
      { content: 'No.', is_error: true },
    ],
  ])('give back %s', (_, outcome, result) => {
    for (const part of [tool(outcome), tool({ ...outcome, toolName: 'weather' }, 'dynamic-tool')]) {
      expect(messagesOf(user(said('Hi')), assistant(step, said('Let me see.'), part, step, said('So.')))).toEqual([
        { role: 'user', content: [said('Hi')] },
        { role: 'assistant', content: [said('Let me see.'), called] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 't1', ...result }] },
        { role: 'assistant', content: [said('So.')] },
      ])
    }
  })

  it('answer several calls of a step in one turn, before what the user says next', () => {
    const outcome = { state: 'output-available', output: 'ok' }
    const messages = messagesOf(assistant(tool(outcome), tool({ ...outcome, toolCallId: 't2' })), user(said('And?')))
    expect(messages).toEqual([
      { role: 'assistant', content: [called, { ...called, id: 't2' }] },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 't1', content: 'ok' },
          { type: 'tool_result', tool_use_id: 't2', content: 'ok' },
          said('And?'),
        ],
      },
    ])
  })

  it('leave out a call whose input never came, or whose consent the user passed over', () => {
    const waiting = tool({ state: 'approval-requested', approval: { id: 'x' } })
    const messages = messagesOf(assistant(said('A'), tool({ state: 'input-streaming' }), waiting), user(said('B')))
    expect(messages[0]).toEqual({ role: 'assistant', content: [said('A')] })
  })

  it.each([
    { state: 'input-available' },
    { state: 'approval-requested', approval: { id: 'x' } },
    { state: 'approval-responded', approval: { id: 'x', approved: true } },
    { state: 'output-available', output: 'half', preliminary: true },
  ])('are refused by name without an output: $state', (outcome) => {
    const message = refusal(() => messagesOf(user(said('Hi')), assistant(step, tool(outcome))))
    expect(message).toBe('messages.1.parts.1: the call "t1" of the tool "weather" has no output')
  })

  it('send an input that is no JSON in the wrapping that Claude knows', () => {
    const broken = tool({ state: 'output-error', errorText: 'broken', input: '{"city":' })
    expect(messagesOf(assistant(broken))[0]).toMatchObject({ content: [{ input: { INVALID_JSON: '{"city":' } }] })
    const raw = tool({ state: 'output-error', errorText: 'broken', input: undefined, rawInput: '{"ci' })
    expect(messagesOf(assistant(raw))[0]).toMatchObject({ content: [{ input: { INVALID_JSON: '{"ci' } }] })
  })
})

describe('tools that Anthropic ran', () => {
  const call = { anthropic: { block: { type: 'server_tool_use' } } }
  const result = { anthropic: { block: { type: 'web_search_tool_result', caller: { type: 'direct' } } } }
  const search = (more: object) =>
    tool({ providerExecuted: true, state: 'output-available', output: [], ...more }, 'tool-web_search')

  it('go back whole, or not at all', () => {
    const whole = search({ callProviderMetadata: call, resultProviderMetadata: result })
    expect(messagesOf(assistant(whole))[0]).toEqual({
      role: 'assistant',
      content: [
        { type: 'server_tool_use', id: 't1', name: 'web_search', input: { city: 'Bern' } },
        { type: 'web_search_tool_result', tool_use_id: 't1', content: [], caller: { type: 'direct' } },
      ],
    })
    const halves = [{}, { callProviderMetadata: call }, { resultProviderMetadata: result }]
    for (const half of [
      ...halves,
      { callProviderMetadata: call, resultProviderMetadata: result, state: 'input-available' },
    ]) {
      expect(messagesOf(assistant(said('A'), search(half)))[0]).toEqual({ role: 'assistant', content: [said('A')] })
    }
  })

  it('go back with their error as Claude had it', () => {
    const content = { type: 'web_search_tool_result_error', error_code: 'unavailable' }
    const failed = search({
      state: 'output-error',
      errorText: 'unavailable',
      callProviderMetadata: call,
      resultProviderMetadata: { anthropic: { block: { type: 'web_search_tool_result', content } } },
    })
    expect(messagesOf(assistant(failed))[0]).toMatchObject({
      content: [{}, { type: 'web_search_tool_result', content }],
    })
  })
})

describe('files', () => {
  const file = (mediaType: string, url: string, more: object = {}) => ({ type: 'file', mediaType, url, ...more })
  const blocksOf = (part: object) => (messagesOf(user(part))[0] as { content: object[] }).content

  it.each([
    [
      file('image/png', 'data:image/png;base64,iVBORw=='),
      { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'iVBORw==' } },
    ],
    [
      file('image', 'data:image/webp;base64,AAAA'),
      { type: 'image', source: { type: 'base64', media_type: 'image/webp', data: 'AAAA' } },
    ],
    [file('image/*', 'https://a.example/b'), { type: 'image', source: { type: 'url', url: 'https://a.example/b' } }],
    [
      file('application/pdf', 'data:application/pdf;base64,JVBERg==', { filename: 'a.pdf' }),
      { type: 'document', title: 'a.pdf', source: { type: 'base64', media_type: 'application/pdf', data: 'JVBERg==' } },
    ],
    [
      file('application/pdf', 'http://a.example/b.pdf'),
      { type: 'document', source: { type: 'url', url: 'http://a.example/b.pdf' } },
    ],
    [
      file('text/plain', 'data:text/plain;charset=utf-8;base64,R3LDvMOfZQ=='),
      { type: 'document', source: { type: 'text', media_type: 'text/plain', data: 'Grüße' } },
    ],
    [
      file('text/plain', 'data:,a%20b'),
      { type: 'document', source: { type: 'text', media_type: 'text/plain', data: 'a b' } },
    ],
    [
      file('image/png', '', { providerReference: { anthropic: 'file_1' } }),
      { type: 'image', source: { type: 'file', file_id: 'file_1' } },
    ],
  ])('%j', (part, block) => {
    expect(blocksOf(part)).toEqual([block])
  })

  it.each([
    [file('video/mp4', 'data:video/mp4;base64,AAAA'), 'messages.0.parts.0.mediaType'],
    [file('text/html', 'https://a.example/'), 'messages.0.parts.0.mediaType'],
    [file('text/plain', 'https://a.example/a.txt'), 'messages.0.parts.0.url'],
    [file('image/png', 'ftp://a.example/'), 'messages.0.parts.0.url'],
    [file('image/png', 'file:///etc/passwd'), 'messages.0.parts.0.url'],
    [file('image/png', 'data:image/png'), 'messages.0.parts.0.url'],
    [file('image/png', 'data:image/png;base64,*'), 'messages.0.parts.0.url'],
    [file('text/plain', 'data:text/plain;base64,//8='), 'messages.0.parts.0.url'],
    [file('text/plain', 'data:text/plain,%E0%A4%A'), 'messages.0.parts.0.url'],
  ])('refuses %j', (part, path) => {
    expect(refusal(() => blocksOf(part))).toContain(path)
  })

  it('come from the user only', () => {
    expect(refusal(() => messagesOf(assistant(file('image/png', 'https://a.example/'))))).toContain(
      'messages.0.parts.0',
    )
  })
})

it('refuses in our own words, whatever comes', () => {
  const types = [
    'text',
    'reasoning',
    'file',
    'tool-x',
    'dynamic-tool',
    'step-start',
    'data-x',
    'steering-message',
    '__proto__',
  ]
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom('input-available', 'output-available', 'output-error'),
  )
  const part = fc.record(
    {
      type: fc.constantFrom(...types),
      text: fc.oneof(fc.string(), value),
      state: value,
      toolCallId: fc.oneof(fc.constant('t'), value),
      toolName: fc.constant('x'),
      input: value,
      output: value,
      approval: value,
      providerExecuted: value,
      providerMetadata: value,
      callProviderMetadata: value,
      resultProviderMetadata: value,
      mediaType: fc.constantFrom('image/png', 'text/plain', 'x'),
      url: fc.oneof(fc.constant('data:,x'), fc.string()),
      parts: fc.array(value, { maxLength: 2 }),
    },
    { requiredKeys: ['type'] },
  )
  const message = fc.record({
    role: fc.constantFrom('user', 'assistant', 'system'),
    parts: fc.array(part, { maxLength: 4 }),
  })
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), (messages) => {
      try {
        const turns = read({ id: 'c', messages }).message.messages as { role: string; content: unknown[] }[]
        for (const [index, turn] of turns.entries()) {
          expect(turn.content.length).toBeGreaterThan(0)
          expect(turn.role).not.toBe(turns[index - 1]?.role)
        }
      } catch (thrown) {
        if (!(thrown instanceof SluiceError)) throw thrown
        expect(thrown.code).toBe('invalid_request')
      }
    }),
    { numRuns: 2_000 },
  )
})
