import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, jsonFrames, open } from '../support/client.ts'
import { deaf, type FakeTool, fakeTool, said, toolboxOf, toolboxWith } from '../support/fake-tools.ts'
import { serve } from '../support/serve.ts'
import { openRig, type Rig, type RigOptions, sim, startRig } from '../support/sluice.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as a client gets it
type Json = any

/** A Sluice with these tools. */
async function withTools(tools: readonly FakeTool[], options: RigOptions = {}): Promise<Rig & AsyncDisposable> {
  const rig = await openRig({ ...options, tools: toolboxOf(...tools) })
  return { ...rig, [Symbol.asyncDispose]: () => rig.close() }
}

async function ask(rig: Rig, scenario: Record<string, string | number>, body: object = {}): Promise<Json[]> {
  const { frames } = await fetchAll(`${rig.url}/stream`, {
    body: { prompt: 'Go', max_tokens: 500, model: sim(scenario), ...body },
  })
  return jsonFrames(frames)
}

const of = (frames: Json[], type: string): Json[] => frames.filter((frame) => frame.type === type)
const textOf = (frames: Json[]) =>
  of(frames, 'text')
    .map(({ text }) => text)
    .join('')
const bodies = (rig: Rig): Json[] => rig.simulator.requests.map(({ body }) => body)
const errorOf = (frames: Json[]) => frames.at(-1).error?.code

describe('an answer in steps', () => {
  it('calls a tool, gives Claude its own words back with the result, and goes on in the same log', async () => {
    const weather = fakeTool('weather', () => said('sunny'))
    await using rig = await withTools([weather])
    const frames = await ask(rig, { tool: 'weather', steps: 1, thinking: 5, text: 4 })
    expect(weather.calls).toMatchObject([{ name: 'weather', input: { location: 'Zürich', unit: 'celsius', days: 3 } }])
    expect(of(frames, 'message')).toHaveLength(2)
    const [call] = of(frames, 'tool_call')
    expect(of(frames, 'tool_result')).toEqual([
      { type: 'tool_result', id: call.id, name: 'weather', content: 'sunny', is_error: false },
    ])
    expect(textOf(frames)).toContain('The tool said: sunny')
    const [first, second] = bodies(rig)
    expect(first.tools).toEqual([weather.definition])
    expect(second).toMatchObject({ model: first.model, tools: first.tools, max_tokens: 500 })
    const [question, said1, results] = second.messages
    expect(question).toEqual(first.messages[0])
    const signature = of(frames, 'block').map(({ content_block }) => content_block.signature)[0]
    const saidBefore = (type: string) =>
      of(frames.slice(0, frames.indexOf(call)), type)
        .map(({ text }) => text)
        .join('')
    expect(said1).toEqual({
      role: 'assistant',
      content: [
        { type: 'thinking', thinking: saidBefore('thinking'), signature },
        { type: 'text', text: saidBefore('text') },
        { type: 'tool_use', id: call.id, name: 'weather', input: call.input },
      ],
    })
    expect(results).toEqual({
      role: 'user',
      content: [{ type: 'tool_result', tool_use_id: call.id, content: 'sunny' }],
    })
    const { usage, stop_reason } = frames.at(-1)
    expect(stop_reason).toBe('end_turn')
    expect(usage.output_tokens).toBe(5 + 4 + 12 + 5 + 4)
    expect(usage.input_tokens).toBe(
      of(frames, 'message').reduce((sum: number, message: Json) => sum + message.usage.input_tokens, 0),
    )
    expect(usage.measured).toBeUndefined()
  })

  it('has ten of them', async () => {
    const weather = fakeTool('weather')
    await using rig = await withTools([weather])
    const frames = await ask(rig, { tool: 'weather', steps: 10, text: 6 })
    expect(weather.calls).toHaveLength(10)
    expect(of(frames, 'tool_result').map(({ content }) => content)).toEqual(
      Array.from({ length: 10 }, (_, n) => `weather ${n + 1}`),
    )
    expect(textOf(frames)).toContain('The tool said: weather 10')
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    expect(bodies(rig).at(-1).messages).toHaveLength(21)
  })

  it('makes calls of one message at the same time, and gives their results in the order of the calls', async () => {
    const both = Promise.withResolvers<void>()
    const first = fakeTool('first', async () => {
      await both.promise
      await eventually(() => second.calls.length === 1)
      return said('one')
    })
    const second = fakeTool('second', async () => {
      both.resolve()
      return said('two')
    })
    await using rig = await withTools([first, second])
    const frames = await ask(rig, { tool: 'first,second', steps: 1 })
    expect(of(frames, 'tool_result').map(({ content }) => content)).toEqual(['two', 'one'])
    expect(
      bodies(rig)[1]
        .messages.at(-1)
        .content.map(({ content }: Json) => content),
    ).toEqual(['one', 'two'])
    expect(textOf(frames)).toContain('one | two')
  })

  it('makes no more calls at a time than it may', async () => {
    let now = 0
    let most = 0
    const tool = fakeTool('t', async () => {
      most = Math.max(most, ++now)
      await new Promise((resolve) => setTimeout(resolve, 5))
      now--
      return said('x')
    })
    await using rig = await withTools([tool], { env: { SLUICE_TOOL_LIMITS__MAX_PARALLEL: '2' } })
    await ask(rig, { tool: 't,t,t,t,t', steps: 1 })
    expect(tool.calls).toHaveLength(5)
    expect(most).toBe(2)
  })

  it('tells Claude of a tool that fails, of one that is late and of an input that does not parse', async () => {
    const fails = fakeTool('fails', () => ({ content: 'no such city', is_error: true }))
    const late = fakeTool('late', deaf, { timeoutMs: 30 })
    const throws = fakeTool('throws', () => Promise.reject(new Error('a secret')))
    await using rig = await withTools([fails, late, throws])
    const frames = await ask(rig, { tool: 'fails,late,throws', steps: 1 })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    expect(bodies(rig)[1].messages.at(-1).content).toMatchObject([
      { content: 'no such city', is_error: true },
      { content: 'The tool did not answer in time.', is_error: true },
      { content: 'The tool failed.', is_error: true },
    ])
    expect(late.contexts[0]?.signal.aborted).toBe(true)
    expect(JSON.stringify(rig.log)).not.toContain('a secret')
    expect(rig.log.some(({ fault }) => fault !== undefined)).toBe(true)

    const broken = await ask(rig, { tool: 'fails', steps: 1, input: '{"city": "Zü' })
    expect(fails.calls).toHaveLength(1)
    expect(of(broken, 'tool_call')[0]).toMatchObject({ input: null, invalid: '{"city": "Zü' })
    const [, called, result] = bodies(rig).at(-1).messages
    expect(called.content.at(-1).input).toEqual({ INVALID_JSON: '{"city": "Zü' })
    expect(result.content[0].is_error).toBe(true)
  })

  it.each([
    ['refusal', { stop_reason: 'refusal' }],
    ['max_tokens', { stop_reason: 'max_tokens' }],
  ])('runs nothing of a message that ends with %s', async (reason, more) => {
    const tool = fakeTool('t')
    await using rig = await withTools([tool])
    const frames = await ask(rig, { tool: 't', ...more })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: reason })
    expect(tool.calls).toHaveLength(0)
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('answers its own share of calls that are the client’s as well, and leaves the rest to it', async () => {
    const ours = fakeTool('ours')
    await using rig = await withTools([ours])
    const tools = [{ name: 'theirs', input_schema: { type: 'object' } }]
    const frames = await ask(rig, { tool: 'ours,theirs', steps: 1 }, { tools })
    expect(of(frames, 'tool_result')).toMatchObject([{ name: 'ours', content: 'ours 1' }])
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'tool_use' })
    expect(frames.at(-1).usage.measured).toBeUndefined()
    expect(rig.simulator.requests).toHaveLength(1)
    expect(bodies(rig)[0].tools.map(({ name }: Json) => name)).toEqual(['theirs', 'ours'])
  })

  it('leaves the client’s own tools alone', async () => {
    const ours = fakeTool('ours')
    await using rig = await withTools([ours])
    const tools = [{ name: 'theirs', input_schema: { type: 'object' } }]
    const frames = await ask(rig, { tool: 'theirs', steps: 1 }, { tools })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'tool_use' })
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('refuses a client’s tool with the name of one of its own, before anything is asked', async () => {
    await using rig = await withTools([fakeTool('weather')])
    const body = { prompt: 'x', tools: [{ name: 'weather', input_schema: { type: 'object' } }] }
    const response = await fetchAll(`${rig.url}/stream`, { body })
    expect(response.status).toBe(400)
    expect(response.body).toContain('\\"weather\\" is a tool of this server')
    expect(rig.simulator.requests).toHaveLength(0)
  })

  it('forces a call once: with a choice that holds in every step there would be no answer', async () => {
    await using rig = await withTools([fakeTool('t')])
    await ask(
      rig,
      { tool: 't', steps: 2 },
      { tool_choice: { type: 'tool', name: 't', disable_parallel_tool_use: true } },
    )
    expect(bodies(rig).map(({ tool_choice }) => tool_choice.type)).toEqual(['tool', 'auto', 'auto'])
    expect(bodies(rig)[2].tool_choice.disable_parallel_tool_use).toBe(true)
  })

  it('goes on by itself where Claude pauses, but for clients of /v1 that know how to', async () => {
    await using rig = await withTools([])
    const tools = [{ type: 'web_search_20260318', name: 'web_search' }]
    const frames = await ask(rig, { pause: 2, text: 3 }, { tools })
    expect(of(frames, 'message')).toHaveLength(3)
    expect(of(frames, 'block').map(({ content_block }) => content_block.type)).toEqual([
      'web_search_tool_result',
      'web_search_tool_result',
    ])
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    const last = bodies(rig)[2].messages
    expect(last.map(({ role }: Json) => role)).toEqual(['user', 'assistant', 'assistant'])
    expect(last[2].content.map(({ type }: Json) => type)).toEqual(['web_search_tool_result', 'text', 'server_tool_use'])

    const plain = await fetchAll(`${rig.url}/v1/messages`, {
      body: { model: sim({ pause: 1 }), max_tokens: 99, tools, messages: [{ role: 'user', content: 'x' }] },
    })
    expect(JSON.parse(plain.body).stop_reason).toBe('pause_turn')
    expect(rig.simulator.requests).toHaveLength(4)
  })

  it('shows lines about how far a tool is, as many and as long as is good for a log', async () => {
    const tool = fakeTool('t', (_, { onProgress }) => {
      for (let n = 0; n < 200; n++) onProgress(`${n} of 200\nfiles ${'x'.repeat(1_000)}`)
      return said('done')
    })
    await using rig = await withTools([tool])
    const lines = of(await ask(rig, { tool: 't', steps: 1 }), 'tool_progress')
    expect(lines).toHaveLength(100)
    expect(lines[7]).toMatchObject({ name: 't', text: expect.stringMatching(/^7 of 200 files x+…$/) })
    expect(lines[7].text.length).toBeLessThanOrEqual(300)
  })

  it('shows no more of them than there is room for, however many calls there are', async () => {
    const tool = fakeTool('t', (_, { onProgress }) => {
      for (let n = 0; n < 100; n++) onProgress(`${n}`)
      return said('done')
    })
    await using rig = await withTools([tool])
    const frames = await ask(rig, { tool: Array.from({ length: 30 }, () => 't').join(), steps: 1 })
    expect(of(frames, 'tool_progress')).toHaveLength(2_000)
    expect(of(frames, 'tool_result')).toHaveLength(30)
  })

  it('says for whom and for which stream a tool is called', async () => {
    const tool = fakeTool('t')
    await using rig = await withTools([tool])
    const frames = await ask(rig, { tool: 't', steps: 1 })
    expect(tool.contexts[0]).toMatchObject({ stream: frames[0].stream, principal: '' })
  })

  it('has the tools that its preset names, as the settings declare them, and others have none', async () => {
    const called: Json[] = []
    const url = await serve(async (request, response) => {
      let text = ''
      for await (const chunk of request) text += chunk
      called.push(JSON.parse(text))
      response.setHeader('content-type', 'application/json').end('{"content":"rain"}')
    })
    const search = { type: 'web_search_20260318', name: 'web_search' }
    const input_schema = { type: 'object' }
    const weather = { kind: 'webhook', url, description: 'Weather', input_schema, allow_private: ['127.0.0.0/8'] }
    const preset = { model: sim({ tool: 'weather', steps: 1 }), tools: ['weather', search] }
    const env = { SLUICE_PRESETS__SUPPORT: JSON.stringify(preset), SLUICE_TOOLS__WEATHER: JSON.stringify(weather) }
    const rig = await startRig({ env })
    const { frames } = await fetchAll(`${rig.url}/stream`, { body: { preset: 'support', prompt: 'x' } })
    const [result] = of(jsonFrames(frames), 'tool_result')
    expect(result).toMatchObject({ name: 'weather', content: 'rain', is_error: false })
    expect(called).toMatchObject([{ id: result.id, tool: 'weather', input: { location: 'Zürich' } }])
    expect(bodies(rig)[0].tools).toMatchObject([search, { name: 'weather', description: 'Weather', input_schema }])
    await ask(rig, { text: 2 })
    expect(bodies(rig).at(-1).tools).toBeUndefined()
  })

  it('joins the stream of its key, whatever tools there are by now', async () => {
    const tools = [fakeTool('t'), fakeTool('u')]
    await using rig = await openRig({ tools: toolboxWith(tools) }).then((each) => ({
      ...each,
      [Symbol.asyncDispose]: () => each.close(),
    }))
    const asked = { body: { prompt: 'x', model: sim({ text: 2 }) }, headers: { 'idempotency-key': 'k' } }
    const first = await fetchAll(`${rig.url}/stream`, asked)
    tools.pop()
    const again = await fetchAll(`${rig.url}/stream`, asked)
    expect(again.body).toBe(first.body)
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('is one message in a snapshot', async () => {
    await using rig = await withTools([fakeTool('t')])
    const frames = await ask(rig, { tool: 't', steps: 1, text: 3 })
    const { body } = await fetchAll(`${rig.url}/streams/${frames[0].stream}`, {
      headers: { accept: 'application/json' },
    })
    const { message, usage } = JSON.parse(body)
    expect(message.content.map(({ type }: Json) => type)).toEqual(['text', 'tool_use', 'tool_result', 'text'])
    expect(message).toMatchObject({ id: of(frames, 'message')[0].id, stop_reason: 'end_turn' })
    expect(message.usage).toEqual(usage)
  })
})

describe('the limits', () => {
  it.each([
    ['tool_steps_exceeded', { MAX_STEPS: '3' }, { tool: 't' }, 2],
    ['tool_tokens_exceeded', { MAX_TOKENS: '60' }, { tool: 't', text: 20 }, 1],
    ['tool_output_exceeded', { MAX_RESULT_BYTES: '1024' }, { tool: 'big' }, 0],
    ['tool_output_exceeded', { MAX_RESULT_BYTES: '3000', MAX_TOTAL_RESULT_BYTES: '5000' }, { tool: 'big' }, 2],
    ['tool_time_exceeded', { TOTAL_MS: '50' }, { tool: 'hangs' }, 0],
  ])('ends a stream with %s', async (code, limits, scenario, results) => {
    const tools = [fakeTool('t'), fakeTool('big', () => said('x'.repeat(2_000))), fakeTool('hangs', deaf)]
    const env = Object.fromEntries(
      Object.entries(limits).map(([name, value]) => [`SLUICE_TOOL_LIMITS__${name}`, value]),
    )
    await using rig = await withTools(tools, { env })
    const frames = await ask(rig, scenario)
    expect(errorOf(frames)).toBe(code)
    expect(frames.at(-1)).toMatchObject({ partial: true, error: { retryable: false } })
    expect(of(frames, 'tool_result')).toHaveLength(results)
    const asked = of(frames, 'message').length
    expect(rig.simulator.requests).toHaveLength(asked)
    expect(frames.at(-1).usage.output_tokens).toBe(asked * (12 + ('text' in scenario ? scenario.text : 8)))
    expect(frames.at(-1).usage.measured).toBeUndefined()
    if (scenario.tool === 'hangs') expect(tools[2]?.contexts[0]?.signal.aborted).toBe(true)
  })

  it('of the whole stream holds while tools are at work, those of upstream do not', async () => {
    const slow = fakeTool('slow', async () => {
      await new Promise((resolve) => setTimeout(resolve, 300))
      return said('x')
    })
    const env = {
      SLUICE_TIMEOUTS__SILENCE_MS: '100',
      SLUICE_TIMEOUTS__STALL_MS: '100',
      SLUICE_STREAMS__HEARTBEAT_MS: '50',
    }
    await using rig = await withTools([slow, fakeTool('hangs', deaf)], { env })
    const { body, frames } = await fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'x', model: sim({ tool: 'slow', steps: 1 }) },
    })
    expect(jsonFrames(frames).at(-1)).toMatchObject({ type: 'done' })
    expect(body).toContain(': heartbeat')
    await using short = await withTools([fakeTool('hangs', deaf)], { env: { SLUICE_TIMEOUTS__TOTAL_MS: '200' } })
    expect(errorOf(await ask(short, { tool: 'hangs' }))).toBe('total_timeout')
  })
})

describe('a tool that hears nothing', () => {
  it('does not keep a stream that is stopped from ending', async () => {
    const tool = fakeTool('t', deaf)
    await using rig = await withTools([tool])
    const response = await open(`${rig.url}/stream`, { body: { prompt: 'x', model: sim({ tool: 't' }) } })
    await eventually(() => tool.calls.length === 1)
    const began = performance.now()
    await fetchAll(`${rig.url}/streams/${response.headers['x-stream-id']}`, { method: 'DELETE' })
    expect(performance.now() - began).toBeLessThan(1_000)
    expect(await response.ended).toMatch(/"type":"cancelled","by":"stop".*\n\ndata: \[DONE\]\n\n$/)
    expect(tool.contexts[0]?.signal.aborted).toBe(true)
  })

  it('is told to stop when the last reader has left', async () => {
    const tool = fakeTool('t', deaf)
    await using rig = await withTools([tool])
    const body = { prompt: 'x', model: sim({ tool: 't' }), on_disconnect: 'cancel' }
    const response = await open(`${rig.url}/stream`, { body })
    await eventually(() => tool.calls.length === 1)
    response.destroy()
    await eventually(() => tool.contexts[0]?.signal.aborted, 1_000)
    await eventually(() => rig.app.streams.live === 0, 1_000)
    expect(rig.log.find(({ message }) => message === 'stream ended')).toMatchObject({
      status: 'cancelled',
      by: 'client',
    })
  })

  it('says nothing any more once the stream is over', async () => {
    const late = Promise.withResolvers<void>()
    const tool = fakeTool('t', async (_, { onProgress, signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      onProgress('too late')
      late.resolve()
      return said('too late')
    })
    await using rig = await withTools([tool])
    const response = await open(`${rig.url}/stream`, { body: { prompt: 'x', model: sim({ tool: 't' }) } })
    await eventually(() => tool.calls.length === 1)
    await fetchAll(`${rig.url}/streams/${response.headers['x-stream-id']}`, { method: 'DELETE' })
    await late.promise
    expect(await response.ended).not.toContain('too late')
    expect(rig.log.filter(({ fault }) => fault !== undefined)).toEqual([])
  })
})

describe('a failure of Claude’s in a later step', () => {
  it('is tried again before content, with the same results, and no tool runs twice', async () => {
    const tool = fakeTool('t')
    await using rig = await withTools([tool], { env: { SLUICE_RETRY__MAX_ATTEMPTS: '1' } })
    const frames = await ask(rig, { tool: 't', steps: 2, fail_step: 2, fail_first: 2, status: 529 })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    expect(of(frames, 'recovery')).toEqual([])
    expect(tool.calls).toHaveLength(2)
    expect(rig.simulator.requests).toHaveLength(4)
  })

  it.each([1, 2, 3])('after content is made good in step %i, where only that step is gone on with', async (step) => {
    const tool = fakeTool('t', () => said('seen'))
    await using rig = await withTools([tool], { env: { SLUICE_RECOVERY__MAX_ATTEMPTS: '1' } })
    const scenario = { tool: 't', steps: 2, text: 20, thinking: 2 }
    const whole = await ask(rig, scenario)
    const frames = await ask(rig, { ...scenario, fail_step: step, reset_at: 15 })
    expect(textOf(frames)).toBe(textOf(whole))
    const done = frames.at(-1)
    expect(done).toMatchObject({ type: 'done', recovered: 1 })
    // What each message has used adds up to what the answer has: a step that was lost counts once.
    const { message } = JSON.parse(
      (await fetchAll(`${rig.url}/streams/${frames[0]?.['stream']}`, { headers: { accept: 'application/json' } })).body,
    )
    const { input_tokens, output_tokens } = message.usage
    expect(done).toMatchObject({ usage: { input_tokens, output_tokens } })
    expect(of(frames, 'tool_result')).toHaveLength(2)
    expect(of(frames, 'message')).toHaveLength(3)
    expect(tool.calls).toHaveLength(4)
    expect(rig.simulator.requests).toHaveLength(3 + 4)
  })

  it('ends the stream in an error where it cannot be', async () => {
    await using rig = await withTools([fakeTool('t')])
    const frames = await ask(rig, { tool: 't', steps: 2, fail_step: 2, status: 500 })
    expect(errorOf(frames)).toBe('upstream_error')
    expect(frames.at(-1).usage.output_tokens).toBe(20)
  })
})
