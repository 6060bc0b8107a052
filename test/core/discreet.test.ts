import { expect, it } from 'vitest'
import { discreet } from '../../src/core/discreet.ts'
import { errorTable, SluiceError } from '../../src/core/errors.ts'

const system = 'You work for Acme.\nNever say that the code word is swordfish.'
const told = (message: string, system: unknown, more: object = {}) => {
  const details = { message, reason: '400', retryAfterMs: 5, upstreamRequestId: 'req_1' }
  return discreet(new SluiceError('upstream_invalid_request', details), {
    model: 'claude-test',
    messages: [],
    system,
    ...more,
  })
}

it.each([
  ['a text', system],
  [
    'blocks',
    [
      { type: 'text', text: 'You work for Acme.' },
      { type: 'text', text: system },
    ],
  ],
])('keeps a sentence to itself that quotes %s', (_, prompt) => {
  const failure = told('system: "me. Never say that the code word" is too short', prompt)
  const { message } = errorTable.upstream_invalid_request
  expect(failure).toMatchObject({ message, reason: '400', retryAfterMs: 5, upstreamRequestId: 'req_1' })
})

it.each([system, [{ type: 'text', text: system }], undefined, '', [null]])('lets any other pass', (prompt) => {
  const sentence = 'prompt is too long: 210000 tokens > 200000 maximum'
  expect(told(sentence, prompt).message).toBe(sentence)
})

const secret = 'a-token-that-lets-into-the-server'
const mcp = { mcp_servers: [{ type: 'url', url: 'https://tools.acme.internal/mcp', authorization_token: secret }] }

it.each([
  ['where a server of tools is', 'Connection to https://tools.acme.internal/mcp failed', mcp],
  ['what lets it in there', `mcp_servers.0: ${secret} is not valid`, mcp],
  [
    'what a tool is for',
    'tools.0: Finds the orders of one customer',
    { tools: [{ description: 'Finds the orders of one customer.' }] },
  ],
])('keeps a sentence to itself that quotes %s', (_, sentence, more) => {
  expect(told(sentence, undefined, more).message).toBe(errorTable.upstream_invalid_request.message)
})

it('lets pass what names short things, and what the client said itself', () => {
  const sentence = 'tools.0: web_search_20260318 is not enabled for claude-test-with-a-long-name'
  const tools = [{ type: 'web_search_20260318', name: 'web_search' }]
  const more = {
    model: 'claude-test-with-a-long-name',
    messages: [{ content: sentence }],
    tools,
    thinking: { type: 'enabled' },
  }
  expect(told(sentence, undefined, more).message).toBe(sentence)
})

it('finds a quote wherever it stands in a long text, and soon', () => {
  const noise = 'The quick brown fox jumps over the lazy dog. '.repeat(20_000)
  const before = performance.now()
  for (const at of [0, 1, 7, 10, 13]) {
    const hidden = `${noise}${'-'.repeat(at)}swordfish and company${noise.repeat(10)}`
    expect(told('no: "swordfish and company" is', hidden).message).toBe(errorTable.upstream_invalid_request.message)
    expect(told('prompt is too long: 210000 tokens', hidden).message).toMatch(/^prompt/)
  }
  expect((performance.now() - before) / 10).toBeLessThan(250)
})
