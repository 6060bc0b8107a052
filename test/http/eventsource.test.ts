import { EventSource } from 'eventsource'
import { expect, it } from 'vitest'
import { sim, startRig } from '../support/sluice.ts'

/** Reads a stream as a page would that never calls close(): until the server makes it stop. */
async function readToTheEnd(url: string) {
  const source = new EventSource(url)
  const messages: string[] = []
  const statuses: (number | undefined)[] = []
  source.onmessage = (event) => messages.push(event.data)
  await new Promise<void>((resolve) => {
    source.onerror = (event) => {
      statuses.push(event.code)
      if (source.readyState === source.CLOSED) resolve()
    }
  })
  return { messages, statuses }
}

it('a page that never closes its EventSource buys the answer once: the reconnect at the end gets 204', async () => {
  const rig = await startRig()
  const model = sim({ text: 12, delay_ms: 5 })
  const { messages, statuses } = await readToTheEnd(`${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model })}`)
  expect(messages.at(-1)).toBe('[DONE]')
  expect(messages.filter((data) => data.includes('"type":"text"'))).toHaveLength(12)
  expect(statuses.at(-1)).toBe(204)
  expect(rig.simulator.requests).toHaveLength(1)
}, 30_000)

it('text with line breaks of every kind comes out whole', async () => {
  const text = 'a\nb\r\nc\rd\n\n| x |\n| - |\n  indented \u2028 🌊\n'
  const events = [
    { type: 'message_start', message: { id: 'msg_1', model: 'm', usage: { input_tokens: 1, output_tokens: 1 } } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    ...[...text].map((piece) => ({
      type: 'content_block_delta',
      index: 0,
      delta: { type: 'text_delta', text: piece },
    })),
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 1 } },
    { type: 'message_stop' },
  ]
  const body = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')
  const rig = await startRig({ simulator: { recordings: new Map([['lines', Buffer.from(body)]]) } })
  const query = new URLSearchParams({ prompt: 'hi', model: sim({ recording: 'lines' }), format: 'text' })
  const { messages } = await readToTheEnd(`${rig.url}/stream?${query}`)
  expect(messages.slice(0, -1).join('')).toBe(text.replace(/\r\n?/g, '\n'))
}, 30_000)
