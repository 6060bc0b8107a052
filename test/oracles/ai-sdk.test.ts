import {
  DefaultChatTransport,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithToolCalls,
  readUIMessageStream,
  type UIMessage,
  type UIMessageChunk,
} from 'ai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, fetchAll, open } from '../support/client.ts'
import { expectedOf, recordings } from '../support/recordings.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig({ env: { SLUICE_STREAMS__COMMIT_AFTER_MS: '0' } })
})
afterAll(() => rig.close())

let chats = 0
const newChatId = () => `chat-${++chats}`
const question: UIMessage = { id: 'u1', role: 'user', parts: [{ type: 'text', text: 'Hello' }] }

interface Asked {
  readonly chatId?: string
  readonly messages?: UIMessage[]
  readonly body?: object
  readonly trigger?: 'submit-message' | 'regenerate-message'
  readonly abortSignal?: AbortSignal
}

const transportTo = (url: string) => new DefaultChatTransport({ api: `${url}/api/chat` })

function send(model: string, asked: Asked = {}, url = rig.url): Promise<ReadableStream<UIMessageChunk>> {
  return transportTo(url).sendMessages({
    chatId: asked.chatId ?? newChatId(),
    messages: asked.messages ?? [question],
    trigger: asked.trigger ?? 'submit-message',
    messageId: undefined,
    abortSignal: asked.abortSignal,
    body: { model, ...asked.body },
  })
}

/** What the official client makes of a stream; `message` is what it continues. */
async function read(stream: ReadableStream<UIMessageChunk>, message?: UIMessage) {
  const chunks: UIMessageChunk[] = []
  const errors: unknown[] = []
  const seen = new TransformStream<UIMessageChunk, UIMessageChunk>({
    transform(chunk, controller) {
      chunks.push(chunk)
      controller.enqueue(chunk)
    },
  })
  let last: UIMessage | undefined
  const messages = readUIMessageStream({
    stream: stream.pipeThrough(seen),
    onError: (error) => void errors.push(error),
    ...(message && { message }),
  })
  for await (const each of messages) last = each
  return { message: last as UIMessage, chunks, errors: errors.map(String) }
}

interface Sent {
  readonly messages: { role: string; content: { type: string; [field: string]: unknown }[] }[]
}

const lastRequest = () => rig.simulator.requests.at(-1)?.body as Sent

const partsOf = <T extends UIMessage['parts'][number]['type']>({ parts }: UIMessage, type: T) =>
  parts.filter((part): part is Extract<UIMessage['parts'][number], { type: T }> => part.type === type)
const textOf = (message: UIMessage) =>
  partsOf(message, 'text')
    .map((part) => part.text)
    .join('')

const finishReasons: Record<string, string> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  tool_use: 'tool-calls',
  max_tokens: 'length',
  refusal: 'content-filter',
}

describe.each([...recordings])('%s, read by the official client', (name, recording) => {
  it('is what Claude said', async () => {
    const expected = expectedOf(recording)
    const { message, chunks, errors } = await read(await send(sim({ recording: name })))
    expect(textOf(message)).toBe(expected.text)
    const reasoning = partsOf(message, 'reasoning')
    expect(reasoning.map((part) => part.text).join('')).toBe(expected.thinking)
    const signatures = reasoning.map((part) => part.providerMetadata?.['anthropic']?.['signature'])
    expect(signatures.filter((each) => each !== undefined)).toEqual(expected.signatures)
    const tools = message.parts.filter(isToolUIPart)
    expect(
      tools.map((part) => ({
        id: part.toolCallId,
        name: part.type === 'dynamic-tool' ? part.toolName : part.type.slice(5),
        input: part.input,
      })),
    ).toEqual(expected.tools)
    const citations = partsOf(message, 'text').flatMap(
      (part) => part.providerMetadata?.['anthropic']?.['citations'] ?? [],
    )
    expect(citations).toEqual(expected.citations)
    for (const part of [...partsOf(message, 'text'), ...reasoning]) expect(part.state).toBe('done')
    const metadata = message.metadata as { usage: object; stop_reason: string | null; model: string }
    expect(metadata).toMatchObject({ model: expected.model })
    expect(chunks.at(-1)).toEqual({
      type: 'finish',
      finishReason: expected.whole ? finishReasons[expected.stopReason ?? ''] : 'error',
    })
    if (expected.whole) {
      expect(metadata).toMatchObject({ usage: expected.usage, stop_reason: expected.stopReason })
      expect(errors).toEqual([])
    } else {
      expect(errors).toEqual(['Error: Claude is overloaded. Try again shortly.'])
    }
  })

  it('goes back to Claude as it came', async () => {
    const expected = expectedOf(recording)
    const { message } = await read(await send(sim({ recording: name })))
    for (const part of message.parts) {
      if (isToolUIPart(part) && !part.providerExecuted) Object.assign(part, { state: 'output-available', output: 'ok' })
    }
    const model = sim({ text: 1, stamp: 0 })
    const follow: UIMessage = { id: 'u2', role: 'user', parts: [{ type: 'text', text: 'And?' }] }
    await read(await send(model, { messages: [question, JSON.parse(JSON.stringify(message)), follow] }))
    const { messages } = lastRequest()
    const blocks = messages.filter(({ role }) => role === 'assistant').flatMap(({ content }) => content)
    const of = (type: string | RegExp) => blocks.filter((each) => each.type.search(type) >= 0)
    expect(of(/tool_use$/).map(({ id, name, input }) => ({ id, name, input }))).toEqual(expected.tools)
    expect(of(/_tool_result$|redacted/)).toEqual(expected.otherBlocks)
    expect(of(/^thinking$/).map((each) => each['signature'])).toEqual(expected.signatures)
    expect(
      of(/^text$/)
        .map((each) => each['text'])
        .join(''),
    ).toBe(expected.text)
    expect(messages.at(-1)?.content.at(-1)).toEqual({ type: 'text', text: 'And?' })
  })
})

describe('sources', () => {
  it('come from a search, each page once', async () => {
    const { message } = await read(await send(sim({ recording: 'ruby-llm__web-search' })))
    const urls = partsOf(message, 'source-url').map((part) => part.url)
    expect(urls.length).toBeGreaterThan(3)
    expect(new Set(urls).size).toBe(urls.length)
    const search = message.parts.find(isToolUIPart)
    expect(search).toMatchObject({ type: 'tool-web_search', state: 'output-available', providerExecuted: true })
  })

  it('come from the documents that Claude cites', async () => {
    const { message } = await read(await send(sim({ recording: 'prism__citations-document' })))
    expect(partsOf(message, 'source-document')).toMatchObject([{ title: 'Document 1', mediaType: 'text/plain' }])
  })
})

describe('an answer that does not come to its end', () => {
  it('keeps what had come when Claude is overloaded, and raises the error', async () => {
    const { message, errors, chunks } = await read(
      await send(sim({ text: 30, error_at: 12, error: 'overloaded_error' })),
    )
    expect(textOf(message).length).toBeGreaterThan(20)
    expect(errors).toEqual(['Error: Claude is overloaded. Try again shortly.'])
    expect(chunks.slice(-2).map(({ type }) => type)).toEqual(['error', 'finish'])
  })

  it('tells that somebody stopped it', async () => {
    const reading = read(await send(sim({ text: 500, delay_ms: 10 })))
    const id = await eventually(liveStreamId)
    await fetchAll(`${rig.url}/streams/${id}`, { method: 'DELETE' })
    const { message, errors, chunks } = await reading
    expect(errors).toEqual([])
    expect(message.id).toBe(id)
    expect(chunks.slice(-2)).toEqual([
      { type: 'abort', reason: 'stop' },
      { type: 'finish', finishReason: 'other' },
    ])

    async function liveStreamId() {
      const { headers, destroy } = await open(`${rig.url}/api/chat/chat-${chats}/stream`)
      destroy()
      return headers['x-stream-id'] as string | undefined
    }
  })

  it('is refused before the stream with a status and the JSON body as the message', async () => {
    const slow = await startRig()
    const refused = send(sim({ status: 429, error: 'rate_limit_error', retry_after: '7' }), {}, slow.url)
    const error = (await refused.catch((thrown) => thrown)) as Error & { statusCode: number }
    expect(error.statusCode).toBe(429)
    expect(JSON.parse(error.message)).toMatchObject({ error: { code: 'upstream_rate_limited', retryable: true } })
  })

  it('stops at Claude when the page stops it and the policy says so', async () => {
    const page = new AbortController()
    const model = sim({ text: 5_000, delay_ms: 10 })
    const body = { on_disconnect: 'cancel' }
    const stream = await send(model, { body, abortSignal: page.signal })
    await stream.getReader().read()
    page.abort()
    await eventually(() => rig.app.streams.live === 0)
  })
})

describe('resuming a chat', () => {
  it('finds nothing where nothing is live', async () => {
    const chatId = newChatId()
    expect(await transportTo(rig.url).reconnectToStream({ chatId })).toBeNull()
    await read(await send(sim({ text: 3 }), { chatId }))
    expect(await transportTo(rig.url).reconnectToStream({ chatId })).toBeNull()
  })

  it.each([
    'ä/?#%.',
    'x'.repeat(91),
    'ü'.repeat(91),
  ])('gives a live answer of %s from its start, and asks nothing', async (id) => {
    const chatId = `${id}${newChatId()}`
    const page = new AbortController()
    const first = await send(sim({ text: 60, delay_ms: 8 }), { chatId, abortSignal: page.signal })
    await first.getReader().read()
    const asked = rig.simulator.requests.length
    page.abort()
    const resumed = await transportTo(rig.url).reconnectToStream({ chatId })
    const { message, chunks, errors } = await read(resumed as ReadableStream<UIMessageChunk>)
    expect(errors).toEqual([])
    expect(chunks[0]).toEqual({ type: 'start', messageId: message.id })
    expect(chunks.filter(({ type }) => type === 'text-delta')).toHaveLength(60)
    expect(rig.simulator.requests).toHaveLength(asked)
  })
})

describe('a tool of the page', () => {
  it('is not taken for answered when somebody stopped the answer in the middle of its call', async () => {
    const chatId = newChatId()
    const stream = await send(sim({ text: 1, tool: 'weather', delay_ms: 80 }), { chatId })
    const [seen, rest] = stream.tee()
    const reader = seen.getReader()
    for (let chunk = await reader.read(); chunk.value?.type !== 'tool-input-delta'; ) chunk = await reader.read()
    const { headers, destroy } = await open(`${rig.url}/api/chat/${chatId}/stream`)
    destroy()
    await fetchAll(`${rig.url}/streams/${headers['x-stream-id']}`, { method: 'DELETE' })
    const { message, errors } = await read(rest)
    expect(errors).toEqual([])
    expect(message.parts.find(isToolUIPart)).toMatchObject({ state: 'input-streaming' })
    expect(lastAssistantMessageIsCompleteWithToolCalls({ messages: [question, message] })).toBe(false)
    const follow: UIMessage = { id: 'u2', role: 'user', parts: [{ type: 'text', text: 'Never mind.' }] }
    await read(await send(sim({ text: 1 }), { messages: [question, message, follow] }))
    expect(
      lastRequest()
        .messages.flatMap(({ content }) => content)
        .map(({ type }) => type),
    ).not.toContain('tool_use')
  })

  it('is called in one answer and answered in the next, in the same message', async () => {
    const chatId = newChatId()
    const tools = [{ name: 'weather', input_schema: { type: 'object' } }]
    const first = await read(
      await send(sim({ text: 3, tool: 'weather' }), { chatId, body: { tools, max_tokens: 900 } }),
    )
    const call = first.message.parts.find(isToolUIPart)
    expect(call).toMatchObject({ type: 'tool-weather', state: 'input-available' })
    Object.assign(call as object, { state: 'output-available', output: { sky: 'blue' } })

    const model = sim({ text: 4 })
    const messages = [question, JSON.parse(JSON.stringify(first.message))]
    const second = await read(await send(model, { chatId, messages, body: { tools } }), first.message)
    expect(second.message.id).toBe(first.message.id)
    expect(second.message.parts.filter(({ type }) => type === 'step-start')).toHaveLength(2)
    expect(second.message.parts.filter(isToolUIPart)).toHaveLength(1)
    expect(lastRequest()).toMatchObject({
      model,
      tools,
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'Hello' }] },
        { role: 'assistant', content: [{ type: 'text' }, { type: 'tool_use', id: call?.toolCallId, name: 'weather' }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: call?.toolCallId, content: '{"sky":"blue"}' }] },
      ],
    })
  })
})

describe('the other bodies of /api/chat', () => {
  it('stay as they are', async () => {
    const { frames, status } = await fetchAll(`${rig.url}/api/chat`, {
      body: { prompt: 'Hi', model: sim({ text: 2 }) },
    })
    expect(status).toBe(200)
    expect(JSON.parse(frames[0]?.data ?? '')).toMatchObject({ type: 'start', format_version: 1 })
  })

  it('need no chat id, and say of which family they are', async () => {
    const body = { messages: [question], model: sim({ text: 2 }) }
    const { headers, frames } = await fetchAll(`${rig.url}/api/chat`, { body })
    expect(headers).toMatchObject({
      'x-vercel-ai-ui-message-stream': 'v1',
      'content-type': 'text/event-stream; charset=utf-8',
    })
    expect(frames.at(-1)).toEqual({ data: '[DONE]' })
  })
})
