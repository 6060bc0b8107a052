import { describe, expect, it } from 'vitest'
import type { Frame } from '../../src/client/stream.ts'
import type { WaitingCall } from '../../src/commands/chat/consent.ts'
import { Conversation } from '../../src/commands/chat/conversation.ts'
import { tellDecision } from '../../src/commands/chat/decision.ts'
import { eventually } from '../support/client.ts'
import { decide, fakeTool, toolboxOf } from '../support/fake-tools.ts'
import { serve } from '../support/serve.ts'
import { sim, startRig } from '../support/sluice.ts'

const nothing = () => ({ onFrame() {}, async onApproval() {}, signal: new AbortController().signal })

async function begin(scenario: Record<string, string | number>) {
  const rig = await startRig()
  const conversation = new Conversation({ url: rig.url, model: sim(scenario), system: 'Be brief.' })
  const asked = () => rig.simulator.requests.at(-1)?.body as { messages: unknown[]; system: unknown; model: string }
  return { rig, conversation, asked }
}

it('asks with all that was said before, until it is to forget it', async () => {
  const { conversation, asked } = await begin({ text: 2 })
  await conversation.ask('one', nothing())
  await conversation.ask('two', nothing())
  expect(asked()).toMatchObject({
    system: 'Be brief.',
    messages: [
      { role: 'user', content: 'one' },
      { role: 'assistant', content: [{ type: 'text', text: 'A sluice ' }] },
      { role: 'user', content: 'two' },
    ],
  })
  conversation.forget()
  conversation.model = sim({ text: 1 })
  await conversation.ask('three', nothing())
  expect(asked()).toMatchObject({ model: sim({ text: 1 }), messages: [{ role: 'user', content: 'three' }] })
})

it('gives back of a call that nobody answers, and of an answer that failed, the text alone', async () => {
  const { conversation, asked } = await begin({ text: 2, tool: 'weather' })
  await conversation.ask('one', nothing())
  conversation.model = sim({ text: 9, error_at: 6 })
  await expect(conversation.ask('two', nothing())).rejects.toMatchObject({ code: 'upstream_overloaded', partial: true })
  conversation.model = sim({ status: 400 })
  await expect(conversation.ask('three', nothing())).rejects.toMatchObject({ code: 'upstream_invalid_request' })
  conversation.model = sim({ text: 1 })
  await conversation.ask('four', nothing())
  expect(asked().messages).toEqual([
    { role: 'user', content: 'one' },
    { role: 'assistant', content: 'A sluice' },
    { role: 'user', content: 'two' },
    { role: 'assistant', content: 'A sluice lets' },
    { role: 'user', content: 'four' },
  ])
})

it('stops at Claude, too, and goes on from what it had said', async () => {
  const { conversation, rig, asked } = await begin({ text: 500, delay_ms: 20 })
  const stopping = new AbortController()
  await conversation.ask('one', {
    ...nothing(),
    onFrame: (frame: Frame) => {
      if (frame.type === 'text') stopping.abort()
    },
    signal: stopping.signal,
  })
  await eventually(() => rig.simulator.requests.at(-1)?.abortedAt)
  conversation.model = sim({ text: 1 })
  await conversation.ask('two', nothing())
  expect(asked().messages).toHaveLength(3)
})

it('says at once that nothing is there, and what to do', async () => {
  const { conversation, rig } = await begin({})
  await rig.close()
  await expect(conversation.ask('hi', nothing())).rejects.toMatchObject({
    code: 'connection_lost',
    message: expect.stringMatching(/^Nothing answers at .*ECONNREFUSED.*npm run demo.*--url/),
  })
})

describe('a call that waits for consent', () => {
  async function beginWithTools(...names: string[]) {
    const tools = names.map((name) => fakeTool(name, undefined, { approval: 'required' }))
    const rig = await startRig({ tools: toolboxOf(...tools) })
    const model = sim({ tool: names.join(','), steps: 1, text: 2 })
    return { rig, tools, conversation: new Conversation({ url: rig.url, model }) }
  }

  it('is asked about after the one before it, while frames go on', async () => {
    const { conversation, tools } = await beginWithTools('one', 'two')
    const seen: string[] = []
    await conversation.ask('go', {
      ...nothing(),
      onFrame: ({ type }) => void seen.push(type),
      async onApproval({ name, decide: say }) {
        seen.push(`${name}?`)
        await eventually(() => seen.filter((each) => each === 'tool_approval').length === 2)
        await say(name === 'one' ? { decision: 'deny', reason: 'not now' } : { decision: 'approve', input: { n: 1 } })
        seen.push(`${name}!`)
      },
    })
    expect(seen.filter((each) => /[?!]/.test(each))).toEqual(['one?', 'one!', 'two?', 'two!'])
    expect(tools.map(({ calls }) => calls.map(({ input }) => input))).toEqual([[], [{ n: 1 }]])
  })

  it('needs no word any more once somebody else has decided', async () => {
    const { conversation, rig, tools } = await beginWithTools('one')
    const left: WaitingCall[] = []
    await conversation.ask('go', {
      ...nothing(),
      async onApproval(call) {
        const [run] = rig.app.streams.list()
        await decide(rig.url, `${run?.stream}`, call.id, { decision: 'approve' })
        await eventually(() => call.signal.aborted)
        await call.decide({ decision: 'deny' })
        left.push(call)
      },
    })
    expect([left.length, tools[0]?.calls.length]).toEqual([1, 1])
  })

  it('stops the answer when nobody can decide on it', async () => {
    const { conversation, rig } = await beginWithTools('one')
    const onApproval = () => Promise.reject(new Error('no terminal'))
    await expect(conversation.ask('go', { ...nothing(), onApproval })).rejects.toThrow('no terminal')
    await eventually(() => rig.app.streams.live === 0)
  })
})

describe('a decision', () => {
  const yes = { decision: 'approve' } as const

  async function serverWith(...answers: [status: number, code?: string][]) {
    const told: unknown[] = []
    const url = await serve(async (request, response) => {
      let body = ''
      for await (const bytes of request) body += bytes
      const [status, code] = answers[told.length] ?? [500]
      told.push([request.headers.authorization, JSON.parse(body)])
      response.writeHead(status, { 'retry-after': '0' })
      response.end(JSON.stringify(code ? { error: { code, message: 'No.', retryable: status === 503 } } : {}))
    })
    return { url, told }
  }

  it('is told again to a server that cannot take it yet, and well told where there is one already', async () => {
    const { url, told } = await serverWith([503, 'upstream_overloaded'], [409, 'tool_call_decided'])
    await tellDecision(url, { authorization: 'Bearer k' }, yes, new AbortController().signal)
    expect(told).toEqual(Array(2).fill(['Bearer k', yes]))
  })

  it('fails with what the server says against it', async () => {
    const { url, told } = await serverWith([404, 'tool_call_not_found'])
    const fault = { code: 'tool_call_not_found', message: 'No.', status: 404 }
    await expect(tellDecision(url, {}, yes, new AbortController().signal)).rejects.toMatchObject(fault)
    expect(told).toHaveLength(1)
  })

  it('is not waited for when the call does not wait', async () => {
    const over = new AbortController()
    const telling = tellDecision('http://127.0.0.1:1', {}, yes, over.signal)
    over.abort()
    await telling
  })
})
