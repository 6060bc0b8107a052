import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Caps, checkCaps, isOffered } from '../../src/core/caps.ts'
import { type ErrorCode, SluiceError } from '../../src/core/errors.ts'

const open: Caps = { models: [], server_tools: true, forbidden_fields: [] }
const user = (...content: unknown[]) => [{ role: 'user', content }]
const image = (data: string) => ({ type: 'image', source: { type: 'base64', media_type: 'image/png', data } })
const search = { type: 'web_search_20260318', name: 'web_search' }
const own = { name: 'own', input_schema: { type: 'object', properties: { model: { type: 'string' } } } }
const joining = (definition: object) => user({ type: 'tool_addition', tool: { type: 'tool_definition', definition } })

function outcome(written: object, caps: Partial<Caps>): [code: ErrorCode | 'passes', message?: string] {
  try {
    checkCaps({ messages: user(), ...written }, { ...open, ...caps })
    return ['passes']
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(SluiceError)
    const { code, message } = thrown as SluiceError
    return [code, message]
  }
}

describe('models', () => {
  const models = ['claude-opus-5-5', 'claude-haiku-*']

  it.each(['claude-opus-5-5', 'claude-haiku-', 'claude-haiku-5-5'])('%s is offered', (model) => {
    expect(outcome({ model }, { models })).toEqual(['passes'])
  })

  it.each([
    'claude-opus-5-5 ',
    ' claude-opus-5-5',
    'claude-opus-5-5\n',
    'claude-opus-5-5\u200b',
    'claude-opus-5-5\0',
    'Claude-opus-5-5',
    'CLAUDE-HAIKU-5-5',
    'clаude-opus-5-5',
    'claude‑opus‑5‑5',
    'ｃlaude-opus-5-5',
    'anthropic/claude-opus-5-5',
    'claude-opus-5-5@latest',
    'claude-opus-5-5?x',
    'claude-opus-5',
    'claude-opus-5-55',
    'claude-haiku',
    'claude-haiku-5-5'.replace('i', 'í'),
    '*',
    '',
  ])('%j is another name', (model) => {
    expect(outcome({ model }, { models })[0]).toBe('model_not_allowed')
  })

  it.each<[string, object]>([
    ['a fallback', { fallbacks: [{ model: 'claude-opus-5-5' }, { model: 'claude-x' }] }],
    ['a fallback by its name alone', { fallbacks: ['claude-x'] }],
    ["Claude's own choice of fallbacks", { fallbacks: 'default' }],
    ['a tool that asks a model', { tools: [{ type: 'advisor_20260301', name: 'advisor', model: 'claude-x' }] }],
    ['one that joins later', { messages: joining({ type: 'advisor_20260301', name: 'advisor', model: 'claude-x' }) }],
    ['a model that is no text', { model: ['claude-opus-5-5', 'claude-x'] }],
  ])('are looked for in %s', (_, written) => {
    expect(outcome(written, { models })[0]).toBe('model_not_allowed')
    expect(outcome(written, {})).toEqual(['passes'])
  })

  it('are compared letter by letter, whatever is asked for', () => {
    const exact = ['claude-opus-5-5']
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        (name) => isOffered(name, { models: exact }) === exact.includes(name),
      ),
    )
  })

  it('are none of what a schema or a conversation speaks of', () => {
    const spoken = user({
      type: 'tool_use',
      id: 't',
      name: 'own',
      input: { model: 'claude-x', type: 'image', source: {} },
    })
    const written = { tools: [own], metadata: { model: 'claude-x' }, messages: spoken, fallbacks: null }
    expect(outcome(written, { models, max_images: 0 })).toEqual(['passes'])
  })
})

describe('each cap', () => {
  it.each<[Partial<Caps>, object, string | undefined]>([
    [{ max_tokens: 100 }, { max_tokens: 100 }, undefined],
    [{ max_tokens: 100 }, { max_tokens: 101 }, 'max_tokens: 101 is more than the 100'],
    [{ max_tokens: 100 }, { fallbacks: [{ model: 'x', max_tokens: 101 }] }, 'fallbacks.max_tokens: 101'],
    [{ max_tokens: 100 }, { max_tokens: '1' }, 'max_tokens: must be a number'],
    [{ max_thinking_tokens: 9 }, { thinking: { type: 'enabled', budget_tokens: 9 } }, undefined],
    [{ max_thinking_tokens: 9 }, { thinking: { type: 'enabled', budget_tokens: 10 } }, 'thinking.budget_tokens: 10'],
    [
      { max_thinking_tokens: 9 },
      { thinking: { type: 'enabled', budget_tokens: '9' } },
      'thinking.budget_tokens: must be',
    ],
    [{ max_thinking_tokens: 9 }, { thinking: { type: 'adaptive' } }, undefined],
    [{ max_thinking_tokens: 0 }, { thinking: { type: 'adaptive' } }, 'thinking: must be disabled'],
    [{ max_thinking_tokens: 0 }, { thinking: { type: 'disabled' } }, undefined],
    [{ max_thinking_tokens: 0 }, { fallbacks: [{ model: 'x', thinking: { type: 'adaptive' } }] }, 'fallbacks.thinking'],
    [{ max_messages: 1 }, {}, undefined],
    [{ max_messages: 1 }, { messages: [...user(), ...user()] }, 'messages: 2 is more than the 1'],
    [{ max_images: 1 }, { messages: user(image('')) }, undefined],
    [{ max_images: 1 }, { messages: user(image(''), image('')) }, 'images: 2'],
    [{ max_images: 0 }, { messages: user({ type: 'tool_result', content: [image('')] }) }, 'images: 1'],
    [{ max_images: 0 }, { messages: user({ type: 'document', source: { content: [image('')] } }) }, 'images: 1'],
    [{ max_images: 0 }, { messages: user({ type: 'hologram', of: { a: [[image('')]] } }) }, 'images: 1'],
    [{ max_image_bytes: 3 }, { messages: user(image('AAAA'), image('AA==')) }, undefined],
    [{ max_image_bytes: 3 }, { messages: user(image('AAAAAA==')) }, 'image: 4 is more than the 3'],
    [
      { max_image_bytes: 3 },
      { messages: user({ type: 'image', source: { type: 'url', url: 'https://x' } }) },
      undefined,
    ],
    [{ max_tools: 1 }, { tools: [own] }, undefined],
    [{ max_tools: 1 }, { tools: [own, own] }, 'tools: 2'],
    [{ max_tools: 1 }, { tools: [own], messages: joining(own) }, 'tools: 2'],
    [{ server_tools: false }, { tools: [own, { type: 'custom', name: 'x' }, { type: null, name: 'y' }] }, undefined],
    [{ server_tools: false }, { tools: [{ type: 'bash_20250124', name: 'bash' }] }, undefined],
    [{ server_tools: false }, { tools: [own, search] }, 'tools: web_search_20260318 runs at Anthropic'],
    [{ server_tools: false }, { tools: [{ type: 'tomorrow_20300101', name: 'x' }] }, 'tools: tomorrow_20300101'],
    [{ server_tools: false }, { tools: [{ type: 'bash_20250124\n', name: 'x' }] }, 'tools: bash_20250124'],
    [{ server_tools: false }, { messages: joining(search) }, 'tools: web_search_20260318'],
    [{ server_tools: false }, { mcp_servers: [{ url: 'https://x' }] }, 'mcp_servers'],
    [{ forbidden_fields: ['speed'] }, { speed: 'fast' }, 'speed: this server takes it from no client'],
    [{ forbidden_fields: ['speed'] }, { fallbacks: [{ model: 'x', speed: 'fast' }] }, 'fallbacks.speed'],
    [{ forbidden_fields: ['speed'] }, { temperature: 1 }, undefined],
    [{ forbidden_fields: ['betas'] }, { betas: ['x'] }, 'betas: '],
    [{ forbidden_fields: ['system'] }, { messages: [{ role: 'system', content: 'x' }] }, 'messages.0.role: '],
    [{ forbidden_fields: ['tools'] }, { messages: joining(own) }, 'messages.0.content.0.type: '],
    [{ forbidden_fields: ['tools'] }, { messages: [{ role: 'system', content: 'x' }] }, undefined],
  ])('%j on %j: %s', (caps, written, refusal) => {
    const [code, message] = outcome(written, caps)
    expect(code).toBe(refusal === undefined ? 'passes' : 'not_allowed')
    expect(message ?? '').toMatch(
      refusal === undefined ? /^$/ : new RegExp(`^${refusal.replaceAll('.', '\\.')}.*\\(access\\.`),
    )
    expect(outcome(written, {})[0]).toBe('passes')
  })

  it('only ever gets in the way of more', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (asked, cap) => {
        expect(outcome({ max_tokens: asked }, { max_tokens: cap })[0]).toBe(asked > cap ? 'not_allowed' : 'passes')
      }),
    )
  })
})
