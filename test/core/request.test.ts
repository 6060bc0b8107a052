import { describe, expect, it } from 'vitest'
import { SluiceError } from '../../src/core/errors.ts'
import { disconnectPolicies, requestReader } from '../../src/core/request.ts'

const reader = requestReader(['json', 'text'])
const user = (content: unknown) => ({ messages: [{ role: 'user', content }] })

function refusal(read: () => unknown): string {
  try {
    read()
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(SluiceError)
    expect(thrown).toMatchObject({ code: 'invalid_request', status: 400 })
    return (thrown as SluiceError).message
  }
  throw new Error('not refused')
}

/** A body with every field of the Messages API. */
const everything = {
  tools: [
    {
      name: 'weather',
      input_schema: { type: 'object', properties: { b: { type: 'string' }, a: { enum: [1, null] } } },
    },
    { description: 'first', name: 'other', cache_control: { type: 'ephemeral' }, input_schema: { z: 1, a: 2 } },
    { type: 'web_search_20250305', name: 'web_search', max_uses: 3 },
    { type: 'mcp_toolset', mcp_server_name: 'echo' },
  ],
  model: 'anthropic/claude-sonnet-4-5@20250929:0',
  max_tokens: 1,
  system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral', ttl: '1h' } }],
  temperature: 0.5,
  top_p: 0.9,
  top_k: 40,
  stop_sequences: ['END'],
  tool_choice: { type: 'tool', name: 'weather', disable_parallel_tool_use: true },
  thinking: { type: 'enabled', budget_tokens: 2048 },
  output_config: { effort: 'high' },
  output_format: { type: 'json_schema', schema: {} },
  metadata: { user_id: 'u' },
  cache_control: { type: 'ephemeral' },
  container: { id: 'c', skills: [] },
  context_management: { edits: [] },
  compaction: { enabled: true },
  diagnostics: { a: 1 },
  inference_geo: 'eu',
  service_tier: 'auto',
  speed: 'fast',
  mcp_servers: [{ type: 'url', url: 'https://example.com', name: 'echo', authorization_token: 't' }],
  fallbacks: ['claude-other'],
  fallback_credit_token: 'f',
  billing_policy: { a: 1 },
  thread: { id: 't' },
  betas: ['files-api-2025-04-14', 'x.y_z'],
  user_profile_id: 'p',
  workspace_id: 'w',
  messages: [
    { role: 'system', content: 'A system turn.' },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Look:', cache_control: { type: 'ephemeral' }, citations: null },
        { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'AAAA' } },
        { type: 'image', source: { type: 'url', url: 'https://example.com/a.png' } },
        { type: 'document', source: { data: 'JVBERi0=', media_type: 'application/pdf', type: 'base64' }, title: 'T' },
        { type: 'hologram', voxels: [[[1]]] },
      ],
    },
    {
      role: 'assistant',
      content: [
        { type: 'thinking', thinking: 'Hm.', signature: 'c2ln' },
        { type: 'redacted_thinking', data: 'eHg=' },
        { type: 'tool_use', id: 'toolu_1', name: 'weather', input: { b: '\u2028', a: 1 } },
        { type: 'server_tool_use', id: 'srv_1', name: 'web_search', input: {} },
      ],
    },
    {
      role: 'user',
      content: [
        { type: 'tool_result', tool_use_id: 'toolu_1', content: [{ type: 'text', text: '9 °C' }], is_error: false },
        { type: 'tool_result', tool_use_id: 'toolu_2', content: 'plain' },
        { type: 'tool_result', tool_use_id: 'toolu_3' },
      ],
    },
  ],
}

describe('fromBody', () => {
  it('makes a prompt the one user message, and nothing of what is not said', () => {
    expect(reader.fromBody({ prompt: 'hi' })).toEqual({
      message: { messages: [{ role: 'user', content: 'hi' }] },
      options: {},
    })
  })

  it('passes every field of the Messages API through untouched, in the order it came', () => {
    const body = structuredClone(everything)
    const { message } = reader.fromBody(body)
    expect(message).toEqual(everything)
    for (const [field, value] of Object.entries(everything)) {
      expect(JSON.stringify(message[field]), field).toBe(JSON.stringify(value))
    }
    expect(body).toEqual(everything)
  })

  it('takes the options out of the message', () => {
    for (const on_disconnect of disconnectPolicies) {
      const chosen = { preset: 'support', format: 'text', on_disconnect }
      const { message, options } = reader.fromBody({ prompt: 'hi', ...chosen, stream: true })
      expect(options).toEqual(chosen)
      expect(Object.keys(message)).toEqual(['messages'])
    }
  })

  it.each([
    ['neither prompt nor messages', {}, /prompt or messages/],
    ['both', { prompt: 'hi', ...user('hi') }, /prompt or messages/],
    ['an empty prompt', { prompt: '' }, /^prompt: is empty$/],
    ['no messages', { messages: [] }, /^messages: is empty$/],
    ['stream: false', { prompt: 'hi', stream: false }, /^stream: streams only/],
    ['an unknown format', { prompt: 'hi', format: 'xml' }, /^format: .*json.*text/],
    ['an unknown policy', { prompt: 'hi', on_disconnect: 'never' }, /^on_disconnect: /],
    ['an unknown key', { prompt: 'hi', base_url: 'x' }, /base_url/],
    ['an unknown key in a message', { messages: [{ role: 'user', content: 'hi', name: 'x' }] }, /^messages\.0\.name: /],
    ['an unknown role', { messages: [{ role: 'tool', content: 'hi' }] }, /^messages\.0\.role: /],
    ['no content', { messages: [{ role: 'user' }] }, /^messages\.0\.content: /],
    ['a block without type', user([{ text: 'hi' }]), /^messages\.0\.content/],
    ['a text block without text', user(['x', { type: 'text' }].slice(1)), /^messages\.0\.content\.0\.text: /],
    [
      'an image without source',
      user([{ type: 'text', text: '' }, { type: 'image' }]),
      /^messages\.0\.content\.1\.source: /,
    ],
    [
      'a document source without type',
      user([{ type: 'document', source: {} }]),
      /^messages\.0\.content\.0\.source\.type: /,
    ],
    ['thinking without signature', user([{ type: 'thinking', thinking: '' }]), /^messages\.0\.content\.0\.signature: /],
    ['redacted thinking without data', user([{ type: 'redacted_thinking' }]), /^messages\.0\.content\.0\.data: /],
    [
      'tool input that is no object',
      user([{ type: 'tool_use', id: 'a', name: 'b', input: [] }]),
      /content\.0\.input: /,
    ],
    ['a tool result for nothing', user([{ type: 'tool_result', content: 'x' }]), /content\.0\.tool_use_id: /],
    [
      'a tool result of a number',
      user([{ type: 'tool_result', tool_use_id: 'a', content: 5 }]),
      /content\.0\.content: /,
    ],
    ['a system block without text', { prompt: 'hi', system: [{ type: 'text' }] }, /^system\.0\.text: /],
    ['a tool without a name', { prompt: 'hi', tools: [{ name: '' }] }, /^tools\.0\.name: /],
    ['max_tokens as text', { prompt: 'hi', max_tokens: '5' }, /^max_tokens: /],
    ['half a token', { prompt: 'hi', max_tokens: 1.5 }, /^max_tokens: /],
    ['less than no tokens', { prompt: 'hi', max_tokens: -1 }, /^max_tokens: /],
    ['too many tokens', { prompt: 'hi', max_tokens: 1_000_001 }, /^max_tokens: /],
    ['a hot temperature', { prompt: 'hi', temperature: 1.1 }, /^temperature: /],
    ['a model with a blank', { prompt: 'hi', model: 'a b' }, /^model: /],
    ['a model with a line break', { prompt: 'hi', model: 'a\nb' }, /^model: /],
    ['a model that is too long', { prompt: 'hi', model: 'x'.repeat(257) }, /^model: /],
    ['a beta with a comma', { prompt: 'hi', betas: ['a,b'] }, /^betas\.0: /],
    ['a profile that would break its header', { prompt: 'hi', user_profile_id: 'a\r\nb' }, /^user_profile_id: /],
    ['a workspace that would break its header', { prompt: 'hi', workspace_id: 'ü' }, /^workspace_id: /],
    ['too many MCP servers', { prompt: 'hi', mcp_servers: Array(101).fill({}) }, /^mcp_servers: /],
    ['no object', 'hi', /^body: /],
    ['an array', [], /^body: /],
    ['null', null, /^body: /],
  ])('refuses %s and says where', (_, body, message) => {
    expect(refusal(() => reader.fromBody(body))).toMatch(message)
  })

  it('says of what may be one thing or another what it may be', () => {
    expect(refusal(() => reader.fromBody(user({ text: 'hi' })))).toBe('messages.0.content: must be string or array')
  })

  it('names up to five faults at once', () => {
    const message = refusal(() =>
      reader.fromBody({ prompt: 5, model: 5, max_tokens: 'a', top_k: 'a', top_p: 2, speed: 5, thread: 5 }),
    )
    for (const path of ['prompt', 'model', 'max_tokens']) expect(message).toContain(`${path}: `)
    expect(message).toMatch(/\(and 2 more\)$/)
  })

  it('shows nothing of a value that it refuses', () => {
    expect(refusal(() => reader.fromBody({ prompt: 'hi', model: 'my secret' }))).not.toContain('secret')
    expect(refusal(() => reader.fromBody(user([{ type: 'image', source: 'secret' }])))).not.toContain('secret')
  })

  it.each([
    'hologram',
    'constructor',
    'toString',
    '__proto__',
    'hasOwnProperty',
  ])('passes a block of the unknown type %s through', (type) => {
    const body = user([{ type, voxels: 8 }])
    expect(reader.fromBody(body).message.messages).toEqual(body.messages)
  })
})

describe('fromQuery', () => {
  it('reads all that a query can say', () => {
    const query = { prompt: 'hi', model: 'm', system: 'Be brief.', max_tokens: '12', format: 'text' }
    expect(reader.fromQuery(query)).toEqual({
      message: { model: 'm', system: 'Be brief.', max_tokens: 12, messages: [{ role: 'user', content: 'hi' }] },
      options: { format: 'text' },
    })
  })

  it.each([
    [{}, /^prompt: /],
    [{ prompt: '' }, /^prompt: /],
    [{ prompt: ['a', 'b'] }, /^prompt: /],
    [{ prompt: 'hi', max_tokens: '1e3' }, /^max_tokens: /],
    [{ prompt: 'hi', max_tokens: '' }, /^max_tokens: /],
    [{ prompt: 'hi', max_tokens: '9999999' }, /^max_tokens: /],
    [{ prompt: 'hi', messages: '[]' }, /messages/],
  ])('refuses %j', (query, message) => {
    expect(refusal(() => reader.fromQuery(query))).toMatch(message)
  })
})

describe('attachment', () => {
  it('reads format and after, and nothing else', () => {
    expect(reader.attachment({ format: 'text', after: '3' })).toEqual({ format: 'text', after: '3' })
    expect(reader.attachment({})).toEqual({})
    expect(refusal(() => reader.attachment({ prompt: 'hi' }))).toContain('prompt')
  })
})
