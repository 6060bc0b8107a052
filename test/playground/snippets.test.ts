import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { snippet, snippetKinds } from '../../src/playground/snippets.ts'
import { openaiBody } from '../../src/playground/snippets-openai.ts'
import { startRig } from '../support/sluice.ts'

const run = promisify(execFile)
/** All that a shell, JSON or JavaScript could take for something of its own. */
const nasty = `it's "quoted" $HOME \`id\` $(id) \\ !! \n new line \u2028 ünï 🌊 '; exit 1 #`
const body = { model: 'claude-sim?text=3', messages: [{ role: 'user', content: nasty }] }

describe('a request as a program', () => {
  it('asks the same with curl, whatever is in it', async () => {
    const rig = await startRig()
    const { stdout } = await run('sh', ['-c', snippet('curl', { base: rig.url, body, needsKey: false })])
    expect(stdout).toContain('data: [DONE]')
    expect(rig.simulator.requests[0]?.body).toMatchObject({ messages: body.messages })
  })

  it('never contains a key, and says where one goes', () => {
    for (const kind of snippetKinds) {
      expect(snippet(kind, { base: 'http://a', body, needsKey: true })).toMatch(/SLUICE_KEY/)
      expect(snippet(kind, { base: 'http://a', body, needsKey: false })).not.toMatch(/SLUICE_KEY/)
    }
  })

  it.each(['fetch', 'Anthropic SDK', 'OpenAI SDK'] as const)('asks the same with %s', async (kind) => {
    const rig = await startRig()
    const code = snippet(kind, { base: rig.url, body, needsKey: false })
    const args = ['--input-type=module', '-e', code]
    const { stdout } = await run(process.execPath, args, { cwd: new URL('../..', import.meta.url).pathname })
    expect(stdout).toContain('sluice')
    expect(JSON.stringify(rig.simulator.requests.at(-1)?.body)).toContain(JSON.stringify(nasty))
  })

  it('asks with fetch what EventSource then reads', async () => {
    const rig = await startRig()
    const code = snippet('EventSource', { base: rig.url, body, needsKey: false })
    const source = `import { EventSource } from 'eventsource'\n${code}`
    const cwd = new URL('../..', import.meta.url).pathname
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source], { cwd })
    expect(stdout).toContain('sluice')
    onTestFinished(() => expect(rig.simulator.requests).toHaveLength(1))
  })
})

it('puts files, tools and results into the words of OpenAI', () => {
  const source = { type: 'base64', media_type: 'image/png', data: 'AAAA' }
  const turns = [
    {
      role: 'user',
      content: [
        { type: 'image', source },
        { type: 'text', text: 'look' },
      ],
    },
    { role: 'assistant', content: [{ type: 'tool_use', id: 't1', name: 'f', input: { a: 1 } }] },
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: 't1', content: 'ok' }] },
  ]
  const tools = [
    { name: 'f', description: 'd', input_schema: { type: 'object' } },
    { type: 'web_search_20250305', name: 'web_search' },
  ]
  expect(openaiBody({ preset: 'p', system: 's', max_tokens: 5, messages: turns, tools })).toEqual({
    model: 'p',
    max_completion_tokens: 5,
    messages: [
      { role: 'system', content: 's' },
      {
        role: 'user',
        content: [
          { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } },
          { type: 'text', text: 'look' },
        ],
      },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: 't1', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }],
      },
      { role: 'tool', tool_call_id: 't1', content: 'ok' },
    ],
    tools: [{ type: 'function', function: { name: 'f', description: 'd', parameters: { type: 'object' } } }],
    stream: true,
    stream_options: { include_usage: true },
  })
})
