import { expect, it } from 'vitest'
import type { Frame } from '../../src/client/stream.ts'
import { Conversation } from '../../src/commands/chat/conversation.ts'
import { eventually } from '../support/client.ts'
import { sim, startRig } from '../support/sluice.ts'

const nothing = () => ({ onFrame() {}, signal: new AbortController().signal })

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
