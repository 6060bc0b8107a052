import { describe, expect, it } from 'vitest'
import { type Frame, resume, SluiceClientError, stream } from '../../src/client/stream.ts'
import { eventually, fetchAll } from '../support/client.ts'
import { expectedOf, recordings } from '../support/recordings.ts'
import { sim, startRig } from '../support/sluice.ts'
import { spokenText } from '../support/transcript.ts'

async function allOf(frames: AsyncIterable<Frame>): Promise<Frame[]> {
  const all: Frame[] = []
  for await (const frame of frames) all.push(frame)
  return all
}

const failureOf = (promise: Promise<unknown>): Promise<SluiceClientError> =>
  promise.then(
    () => Promise.reject(new Error('it went well')),
    (error) => error,
  )

describe('an answer that goes well', () => {
  it('comes in frames, as a text, as a message and as a count', async () => {
    const rig = await startRig()
    const answer = stream(`${rig.url}/stream`, {
      prompt: 'hello',
      model: sim({ text: 12, thinking: 3, tool: 'clock' }),
    })
    const [frames, text, message, usage] = await Promise.all([allOf(answer), answer.text, answer.message, answer.usage])
    expect(frames.map(({ type }) => type)).toEqual(expect.arrayContaining(['start', 'message', 'text', 'tool_call']))
    expect(frames.at(-1)).toMatchObject({ type: 'done', usage })
    expect(text).toBe(spokenText(12))
    expect(message).toMatchObject({
      role: 'assistant',
      content: [
        { type: 'thinking', signature: expect.any(String) },
        { type: 'text', text },
        { type: 'tool_use', name: 'clock', input: { location: 'Zürich' } },
      ],
      stop_reason: 'tool_use',
      usage,
    })
    expect(answer.position).toBe(frames.length)
    expect(frames[0]).toMatchObject({ type: 'start', stream: answer.id })
  })

  it('needs no loop: who awaits the text has it read', async () => {
    const rig = await startRig()
    const answer = stream(`${rig.url}/stream`, { prompt: 'hello', model: sim({ text: 5 }) })
    expect(await answer.text).toBe(spokenText(5))
    expect((await answer.usage).output_tokens).toBeGreaterThan(0)
    expect(() => answer[Symbol.asyncIterator]()).toThrow('can be taken once')
  })

  it.each([...recordings.keys()])('puts %s together as the server does', async (recording) => {
    const rig = await startRig()
    const answer = stream(`${rig.url}/stream`, { prompt: 'hello', model: sim({ recording }) })
    const { whole, text } = expectedOf(recordings.get(recording) as Buffer)
    if (!whole) {
      expect(await failureOf(answer.text)).toMatchObject({ partial: true })
      return
    }
    const message = await answer.message
    const { body } = await fetchAll(`${rig.url}/streams/${answer.id}`, { headers: { accept: 'application/json' } })
    const told = JSON.parse(body).message
    expect(await answer.text).toBe(text)
    expect(message.content).toEqual(told.content.map(withoutEmptyCitations).filter(isNoEmptyText))
    expect([message.id, message.model, message.stop_reason]).toEqual([told.id, told.model, told.stop_reason])
  })

  it('is begun under a key, with the headers it was given, at a path of its own', async () => {
    const rig = await startRig({ env: { CORS_ORIGINS: 'http://127.0.0.1:1' } })
    const seen: { url: string; headers: Headers }[] = []
    const watching: typeof fetch = (url, init) => {
      seen.push({ url: String(url), headers: new Headers(init?.headers) })
      return fetch(String(url).replace('/sluice/', '/'), init)
    }
    const headers = async () => ({ authorization: `Bearer ${seen.length}` })
    const options = { fetch: watching, headers }
    const first = stream(`${rig.url}/sluice/stream`, { prompt: 'hello' }, { ...options, idempotencyKey: 'mine' })
    await first.text
    const again = stream(`${rig.url}/sluice/stream`, { prompt: 'hello' }, { ...options, idempotencyKey: 'mine' })
    await again.text
    await resume(`${rig.url}/sluice/stream`, String(again.id), options).text
    expect(again.id).toBe(first.id)
    expect(seen.map(({ headers }) => headers.get('authorization'))).toEqual(['Bearer 0', 'Bearer 1', 'Bearer 2'])
    expect(seen.map(({ headers }) => headers.get('idempotency-key'))).toEqual(['mine', 'mine', null])
    expect(seen[2]?.url).toBe(`${rig.url}/sluice/streams/${first.id}`)
    expect(rig.simulator.requests).toHaveLength(1)
  })
})

// A snapshot keeps what Claude opened a block with; frames tell what came.
const withoutEmptyCitations = ({ citations, ...block }: Record<string, unknown>) =>
  Array.isArray(citations) && citations.length > 0 ? { ...block, citations } : block
const isNoEmptyText = (block: Record<string, unknown>) => block['type'] !== 'text' || block['text'] !== ''

describe('an answer that is there already', () => {
  it('is read from wherever one wants to go on', async () => {
    const rig = await startRig()
    const first = stream(`${rig.url}/stream`, { prompt: 'hello', model: sim({ text: 8 }), smooth: 'word' })
    const frames = await allOf(first)
    const id = String(first.id)
    const rest = resume(`${rig.url}/stream`, id, { after: 4, smooth: 'word' })
    expect(await allOf(rest)).toEqual(frames.slice(4))
    expect(await failureOf(rest.message)).toMatchObject({ code: 'begun_before' })
    expect(await resume(`${rig.url}/stream`, id).text).toBe(spokenText(8))
  })

  it('ends at once where nothing is left', async () => {
    const rig = await startRig()
    const first = stream(`${rig.url}/stream`, { prompt: 'hello', model: sim({ text: 2 }) })
    await first.text
    const rest = resume(`${rig.url}/stream`, String(first.id), { after: first.position })
    expect(await allOf(rest)).toEqual([])
    expect(await failureOf(rest.usage)).toMatchObject({ code: 'already_finished' })
  })

  it('is an error when it is not there', async () => {
    const rig = await startRig()
    const rest = resume(`${rig.url}/stream`, 's_AAAAAAAAAAAAAAAAAAAAAA')
    const failure = await failureOf(allOf(rest))
    expect(failure).toBeInstanceOf(SluiceClientError)
    expect(failure).toMatchObject({ code: 'stream_not_found', status: 404, retryable: false, partial: false })
    expect(await failureOf(rest.text)).toBe(failure)
  })
})

describe('an answer that fails', () => {
  it('before it has begun, rejects everything with what the server says', async () => {
    const rig = await startRig()
    const answer = stream(`${rig.url}/stream`, { messages: [] })
    const failure = await failureOf(allOf(answer))
    expect(failure).toMatchObject({ code: 'invalid_request', status: 400, retryable: false, partial: false })
    expect(failure.message).toContain('messages')
    expect(failure.requestId).toMatch(/^req_/)
    expect(await failureOf(answer.message)).toBe(failure)
  })

  it('in its middle, gives the frame of the error and rejects the text', async () => {
    const rig = await startRig()
    const model = sim({ text: 9, error_at: 6, error: 'overloaded_error' })
    const answer = stream(`${rig.url}/stream`, { prompt: 'hello', model })
    expect((await allOf(answer)).at(-1)).toMatchObject({ type: 'error', partial: true })
    const expected = { code: 'upstream_overloaded', retryable: true, partial: true }
    expect(await failureOf(answer.text)).toMatchObject(expected)
    expect(await answer.usage).toMatchObject({ measured: false })
  })

  it('asks again, under the same key, only where that may help, and not often', async () => {
    const rig = await startRig()
    const delays: number[] = []
    const options = {
      retry: { minMs: 1 },
      onReconnect: ({ delayMs }: { delayMs: number }) => void delays.push(delayMs),
    }
    const busy = stream(
      `${rig.url}/stream`,
      { prompt: 'a', model: sim({ status: 529, error: 'overloaded_error' }) },
      {
        ...options,
        retry: { minMs: 1, maxMs: 1 },
      },
    )
    // The server asks for two seconds, which is more than this client waits.
    expect(await failureOf(busy.text)).toMatchObject({ code: 'upstream_overloaded', retryAfterMs: 2_000 })
    const healing = { status: 500, error: 'api_error', fail_first: 2 }
    expect(await stream(`${rig.url}/stream`, { prompt: 'b', model: sim({ ...healing, text: 4 }) }, options).text).toBe(
      spokenText(4),
    )
    expect(delays).toHaveLength(2)
    const broken = stream(
      `${rig.url}/stream`,
      { prompt: 'c', model: sim({ status: 500, error: 'api_error' }) },
      options,
    )
    expect(await failureOf(broken.text)).toMatchObject({ code: 'upstream_error', status: 502 })
    expect(rig.simulator.requests).toHaveLength(1 + 3 + 4)
  })
})

describe('an answer that is not wanted any more', () => {
  it('is stopped at Claude, and the loop ends', async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__ON_DISCONNECT: 'finish' } })
    const answer = stream(`${rig.url}/stream`, { prompt: 'hello', model: sim({ text: 500, delay_ms: 10 }) })
    const types: string[] = []
    for await (const { type } of answer) {
      types.push(type)
      if (type === 'text') await answer.abort()
    }
    expect(types.at(-1)).toBe('text')
    expect(await failureOf(answer.text)).toMatchObject({ code: 'cancelled', partial: true })
    await eventually(() => rig.simulator.requests[0]?.abortedAt)
  })

  it('is stopped before the server has said a word', async () => {
    const env = { SLUICE_STREAMS__ON_DISCONNECT: 'finish', SLUICE_STREAMS__COMMIT_AFTER_MS: '150' }
    const rig = await startRig({ env })
    const controller = new AbortController()
    const answer = stream(
      `${rig.url}/stream`,
      { prompt: 'hello', model: sim({ text: 500, delay_ms: 10, first_ms: 1_000 }) },
      { signal: controller.signal },
    )
    const read = allOf(answer)
    await eventually(() => rig.simulator.requests.length === 1)
    controller.abort()
    expect(await read).toEqual([])
    await answer.abort()
    await eventually(() => rig.simulator.requests[0]?.abortedAt)
  })

  it('is left to the server when it is only closed', async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__ON_DISCONNECT: 'finish' } })
    const answer = stream(`${rig.url}/stream`, { prompt: 'hello', model: sim({ text: 40, delay_ms: 5 }) })
    for await (const { type } of answer) if (type === 'text') break
    expect(await failureOf(answer.text)).toMatchObject({ code: 'closed', partial: true })
    expect(await resume(`${rig.url}/stream`, String(answer.id)).text).toBe(spokenText(40))
    expect(rig.simulator.requests[0]?.abortedAt).toBeUndefined()
  })
})
