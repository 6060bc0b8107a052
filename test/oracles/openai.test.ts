import OpenAI from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import type { ChatCompletionChunk, ChatCompletionMessageParam } from 'openai/resources/chat/completions'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { eventually, fetchAll } from '../support/client.ts'
import { type Expected, expectedOf, recordings } from '../support/recordings.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

const clientOf = ({ url }: Rig) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 })

let rig: Rig
let client: OpenAI
beforeAll(async () => {
  rig = await openRig()
  client = clientOf(rig)
})
afterAll(() => rig.close())

const messages: ChatCompletionMessageParam[] = [{ role: 'user', content: 'hello' }]
const upstreamBody = () => rig.simulator.requests.at(-1)?.body as Record<string, unknown>

interface Heard {
  text: string
  reasoning: string
  readonly chunks: ChatCompletionChunk[]
  readonly calls: { id: string; name: string; json: string }[]
  error: unknown
}

/** Puts a stream together as applications do. */
async function listen(stream: AsyncIterable<ChatCompletionChunk>): Promise<Heard> {
  const heard: Heard = { text: '', reasoning: '', chunks: [], calls: [], error: undefined }
  try {
    for await (const chunk of stream) {
      heard.chunks.push(chunk)
      const delta = chunk.choices[0]?.delta as
        | (ChatCompletionChunk.Choice.Delta & { reasoning_content?: string })
        | undefined
      heard.text += delta?.content ?? ''
      heard.reasoning += delta?.reasoning_content ?? ''
      for (const { index, id = '', function: called } of delta?.tool_calls ?? []) {
        heard.calls[index] ??= { id, name: called?.name ?? '', json: '' }
        heard.calls[index].json += called?.arguments ?? ''
      }
    }
  } catch (error) {
    heard.error = error
  }
  return heard
}

const finishReasons: Record<string, string> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  tool_use: 'tool_calls',
  refusal: 'content_filter',
}

/** What a recording comes to in OpenAI's words; tools that ran at Anthropic are not the client's to run. */
function wanted(expected: Expected) {
  const count = (name: string) => Number(expected.usage[name] ?? 0)
  const input = ['input_tokens', 'cache_read_input_tokens', 'cache_creation_input_tokens']
  const prompt_tokens = input.reduce((sum, name) => sum + count(name), 0)
  return {
    tools: expected.tools.filter(({ id }) => id.startsWith('toolu_')),
    finish: finishReasons[expected.stopReason ?? ''],
    usage: {
      prompt_tokens,
      completion_tokens: count('output_tokens'),
      total_tokens: prompt_tokens + count('output_tokens'),
    },
  }
}

const parsedCalls = (calls: { id: string; name: string; json: string }[]) =>
  calls.map(({ id, name, json }) => ({ id, name, input: JSON.parse(json) }))

const callsOf = (message: OpenAI.ChatCompletionMessage | undefined) =>
  (message?.tool_calls ?? []).map((call) => {
    if (call.type !== 'function') throw new Error(call.type)
    return { id: call.id, name: call.function.name, input: JSON.parse(call.function.arguments) }
  })

describe.each(
  [...recordings.keys()].filter((name) => expectedOf(recordings.get(name) as Buffer).whole),
)('the official client reading %s', (recording) => {
  const expected = expectedOf(recordings.get(recording) as Buffer)
  const { tools, finish, usage } = wanted(expected)
  const request = { model: sim({ recording }), messages }

  it('hears all of it as a stream', async () => {
    const heard = await listen(
      await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } }),
    )
    expect(heard.error).toBeUndefined()
    expect(heard.text).toBe(expected.text)
    expect(heard.reasoning).toBe(expected.thinking)
    expect(parsedCalls(heard.calls)).toEqual(tools)
    const reasons = heard.chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean)
    expect(reasons).toEqual([finish])
    expect(heard.chunks.at(-1)).toMatchObject({ choices: [], usage })
    expect(heard.chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
    expect(new Set(heard.chunks.map(({ id, created, model }) => `${id} ${created} ${model}`)).size).toBe(1)
    expect(heard.chunks[0]).toMatchObject({ model: expected.model, id: expect.stringMatching(/^chatcmpl-msg_/) })
  })

  it('hears all of it with the helper', async () => {
    const stream = client.chat.completions.stream({ ...request, stream_options: { include_usage: true } })
    const completion = await stream.finalChatCompletion()
    const [choice] = completion.choices
    expect(choice?.message.content ?? '').toBe(expected.text)
    expect(callsOf(choice?.message)).toEqual(tools)
    expect(choice?.finish_reason).toBe(finish)
    expect(completion).toMatchObject({ usage, model: expected.model })
  })

  it('hears all of it at once', async () => {
    const completion = await client.chat.completions.create(request)
    const [choice] = completion.choices
    expect(choice?.message.content ?? '').toBe(expected.text)
    const message = choice?.message as { reasoning_content?: string } | undefined
    expect(message?.reasoning_content ?? '').toBe(expected.thinking)
    expect(callsOf(choice?.message)).toEqual(tools)
    expect(choice?.finish_reason).toBe(finish)
    expect(completion).toMatchObject({ object: 'chat.completion', usage, model: expected.model })
  })

  it('can be resumed after every frame', async () => {
    const body = { ...request, stream: true, stream_options: { include_usage: true } }
    const whole = await fetchAll(`${rig.url}/v1/chat/completions`, { body })
    const url = `${rig.url}/streams/${whole.headers['x-stream-id']}?format=openai`
    expect(whole.frames.at(-1)).toEqual({ data: '[DONE]' })
    for (const [index, frame] of whole.frames.slice(0, -2).entries()) {
      const rest = await fetchAll(url, { headers: { 'last-event-id': frame.id as string } })
      expect(rest.frames).toEqual(whole.frames.slice(index + 1))
    }
  })
})

describe('an overload in the middle of the answer', () => {
  const recording = 'derived__overloaded-mid-text'
  const expected = expectedOf(recordings.get(recording) as Buffer)
  const request = { model: sim({ recording }), messages }

  it('is an APIError behind the text that came', async () => {
    const { text, error, chunks } = await listen(await client.chat.completions.create({ ...request, stream: true }))
    expect(text).toBe(expected.text)
    expect(error).toBeInstanceOf(OpenAI.APIError)
    expect(error).toMatchObject({ status: undefined, code: 'upstream_overloaded', type: 'server_error' })
    expect(chunks.some((chunk) => chunk.choices[0]?.finish_reason)).toBe(false)
  })

  it('is an APIError of the helper, which keeps the text', async () => {
    const stream = client.chat.completions.stream(request)
    let text = ''
    stream.on('content', (piece) => {
      text += piece
    })
    await expect(stream.finalChatCompletion()).rejects.toMatchObject({ code: 'upstream_overloaded' })
    expect(text).toBe(expected.text)
  })

  it('is a 503 for a client that does not stream', async () => {
    await expect(client.chat.completions.create(request)).rejects.toMatchObject({
      status: 503,
      code: 'upstream_overloaded',
    })
  })

  it.each([{ end_at: 8 }, { reset_at: 8 }, { junk_at: 8 }])('so is whatever else breaks it: %j', async (fault) => {
    const model = sim({ text: 20, delay_ms: 1, ...fault })
    const { text, error } = await listen(await client.chat.completions.create({ model, messages, stream: true }))
    expect(text).not.toBe('')
    expect(error).toBeInstanceOf(OpenAI.APIError)
  })
})

describe('a failure before the answer', () => {
  it.each([
    [
      { status: 429, error: 'rate_limit_error', retry_after: 7 },
      OpenAI.RateLimitError,
      429,
      'upstream_rate_limited',
      'true',
    ],
    [{ status: 529, error: 'overloaded_error' }, OpenAI.InternalServerError, 503, 'upstream_overloaded', 'true'],
    [{ status: 401, error: 'authentication_error' }, OpenAI.InternalServerError, 502, 'upstream_auth', 'false'],
    [{ status: 404, error: 'not_found_error' }, OpenAI.NotFoundError, 404, 'upstream_not_found', 'false'],
    [{ status: 402, error: 'billing_error' }, OpenAI.RateLimitError, 429, 'budget_exhausted', 'false'],
    [{ status: 400, error: 'invalid_request_error' }, OpenAI.BadRequestError, 400, 'upstream_invalid_request', 'false'],
  ])('has a status: %j', async (scenario, type, status, code, retry) => {
    for (const stream of [true, false]) {
      const failure = await client.chat.completions.create({ model: sim(scenario), messages, stream }).then(
        () => undefined,
        (error: unknown) => error,
      )
      expect(failure).toBeInstanceOf(type)
      expect(failure).toMatchObject({ status, code, param: null, requestID: expect.stringMatching(/^req_/) })
      const { headers } = failure as InstanceType<typeof OpenAI.APIError>
      expect(headers?.get('x-should-retry')).toBe(retry)
      if (status === 429 && retry === 'true') expect(headers?.get('retry-after')).toBe('7')
    }
  })

  it('names the field that cannot be mapped, and asks nobody', async () => {
    const before = rig.simulator.requests.length
    const refused = client.chat.completions.create({ model: 'claude-sim', messages, n: 3, logprobs: true })
    await expect(refused).rejects.toMatchObject({
      status: 400,
      type: 'invalid_request_error',
      code: 'invalid_request',
      param: 'n',
      message: expect.stringContaining('logprobs: '),
    })
    expect(rig.simulator.requests.length).toBe(before)
  })

  it('has OpenAI’s shape for what is no request at all', async () => {
    const { status, body } = await fetchAll(`${rig.url}/v1/chat/completions`, { body: 'hello' })
    expect(status).toBe(400)
    expect(JSON.parse(body)).toEqual({
      error: { message: expect.any(String), type: 'invalid_request_error', param: null, code: 'invalid_request' },
    })
  })
})

const weatherTool = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'The weather in a place.',
    parameters: { type: 'object', properties: { location: { type: 'string' } }, required: ['location'] },
  },
}

describe('tools', () => {
  it('go round in two turns', async () => {
    const turns: ChatCompletionMessageParam[] = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Ask get_weather.' },
    ]
    const model = sim({ text: 12, thinking: 3 })
    const first = await client.chat.completions
      .stream({ model, messages: turns, tools: [weatherTool] })
      .finalChatCompletion()
    const answer = first.choices[0]?.message
    const [call] = callsOf(answer)
    expect(call).toMatchObject({ name: 'get_weather', input: { location: 'Zürich', unit: 'celsius', days: 3 } })
    if (!answer || !call) throw new Error('no call')

    turns.push(answer, { role: 'tool', tool_call_id: call.id, content: 'Rain' })
    const second = await client.chat.completions.create({ model, messages: turns, tools: [weatherTool] })
    expect(second.choices[0]?.message.content).toMatch(/^The tool said: Rain\n\n/)
    const signed = { type: 'thinking', thinking: expect.any(String), signature: expect.any(String) }
    expect(upstreamBody()).toMatchObject({
      system: 'Be brief.',
      messages: [
        turns[1],
        {
          role: 'assistant',
          content: [signed, { type: 'text', text: answer.content }, { type: 'tool_use', ...call }],
        },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: 'Rain' }] },
      ],
      tools: [
        { name: 'get_weather', description: 'The weather in a place.', input_schema: weatherTool.function.parameters },
      ],
    })
  })

  it.each([true, false])('go round by themselves with the client’s own runner, streaming: %s', async (stream) => {
    const asked: unknown[] = []
    const tool = {
      ...weatherTool,
      function: {
        ...weatherTool.function,
        parse: JSON.parse as (json: string) => object,
        function: (input: object) => {
          asked.push(input)
          return 'Sunshine'
        },
      },
    }
    const request = { model: 'claude-sim?text=6', messages: [{ role: 'user' as const, content: 'Ask get_weather.' }] }
    const runner = stream
      ? client.chat.completions.runTools({ ...request, stream, tools: [tool] })
      : client.chat.completions.runTools({ ...request, tools: [tool] })
    expect(await runner.finalContent()).toMatch(/^The tool said: Sunshine\n\n/)
    expect(asked).toEqual([{ location: 'Zürich', unit: 'celsius', days: 3 }])
  })
})

describe('what a request asks for', () => {
  it('is usage only if it asks', async () => {
    const { chunks } = await listen(
      await client.chat.completions.create({ model: sim({ text: 3 }), messages, stream: true }),
    )
    expect(chunks.every((chunk) => !('usage' in chunk) && chunk.choices.length === 1)).toBe(true)
  })

  it('reaches Claude under Claude’s names', async () => {
    const shape = z.strictObject({ city: z.string() })
    await client.chat.completions.create({
      model: sim({ text: 3 }),
      messages,
      max_completion_tokens: 77,
      temperature: 0.3,
      stop: ['END'],
      user: 'u1',
      reasoning_effort: 'high',
      response_format: zodResponseFormat(shape, 'place'),
    })
    expect(upstreamBody()).toMatchObject({
      max_tokens: 77,
      temperature: 0.3,
      stop_sequences: ['END'],
      metadata: { user_id: 'u1' },
      stream: true,
      output_config: {
        effort: 'high',
        format: { type: 'json_schema', schema: { type: 'object', properties: { city: { type: 'string' } } } },
      },
    })
  })

  it('is cut at max_tokens with finish_reason length', async () => {
    const completion = await client.chat.completions.create({ model: 'claude-sim', messages, max_tokens: 4 })
    expect(completion.choices[0]?.finish_reason).toBe('length')
  })
})

describe('the connection', () => {
  it('is kept open by what the client does not see', async () => {
    const own = await startRig({ env: { SLUICE_STREAMS__HEARTBEAT_MS: '50', SLUICE_STREAMS__COMMIT_AFTER_MS: '0' } })
    const request = { model: sim({ text: 5, first_ms: 300 }), messages, stream: true as const }
    const { text, error } = await listen(await clientOf(own).chat.completions.create(request))
    expect(error).toBeUndefined()
    expect(text).not.toBe('')
    const { body } = await fetchAll(`${own.url}/v1/chat/completions`, { body: request })
    expect(body).toContain(': heartbeat\n\n')
  })

  it('ends the answer when the client aborts its stream', async () => {
    const own = await startRig()
    const model = sim({ text: 2000, delay_ms: 5 })
    const stream = await clientOf(own).chat.completions.create({ model, messages, stream: true })
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
    await expectClosed(own, () => stream.controller.abort())
  })

  it('ends the answer when the client aborts its request', async () => {
    const own = await startRig()
    const controller = new AbortController()
    const { signal } = controller
    const model = sim({ text: 2000, delay_ms: 5 })
    const request = clientOf(own).chat.completions.create({ model, messages }, { signal })
    request.catch(() => {})
    await eventually(() => own.simulator.requests[0])
    await expectClosed(own, () => controller.abort())
    await expect(request).rejects.toBeInstanceOf(OpenAI.APIUserAbortError)
  })

  async function expectClosed({ simulator, app }: Rig, leave: () => void): Promise<void> {
    const left = performance.now()
    leave()
    const abortedAt = await eventually(() => simulator.requests[0]?.abortedAt)
    expect(abortedAt - left).toBeLessThan(200)
    await eventually(() => app.streams.live === 0)
  }

  it('told of a stop throws', async () => {
    const model = sim({ text: 2000, delay_ms: 5 })
    const { data, response } = await client.chat.completions.create({ model, messages, stream: true }).withResponse()
    const heard = listen(data)
    await fetchAll(`${rig.url}/streams/${response.headers.get('x-stream-id')}`, { method: 'DELETE' })
    expect((await heard).error).toMatchObject({ code: 'stopped' })
  })
})
