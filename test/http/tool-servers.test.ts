import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, fetchAll, jsonFrames, open, parseFrames } from '../support/client.ts'
import { answerJson, type Hook, hookTool, serveHook, toolEnv } from '../support/hook.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { startMcp } from '../support/mcp.ts'
import { openRig, type Rig, type RigOptions, sim, startRig } from '../support/sluice.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as a client gets it
type Json = any
type Scenario = Record<string, string | number>

const stdio = {
  kind: 'mcp',
  command: process.execPath,
  args: [join(import.meta.dirname, '../support/mcp-stdio.ts')],
  allow: ['echo'],
}
const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: png } }
const lines = 'application/x-ndjson'

const stack = new AsyncDisposableStack()
let hook: Hook
let rig: Rig
beforeAll(async () => {
  hook = stack.use(
    await serveHook({
      hangs: () => {},
      late: () => {},
      delays: (_, response) => setTimeout(() => answerJson({ content: 'after a while' })(_, response), 60),
      dies: (_, response) => response.destroy(),
      half: (_, response) =>
        response.writeHead(200, { 'content-type': 'application/json' }).write('{"content', () => response.destroy()),
      elsewhere: (_, response) => response.writeHead(302, { location: `${hook.url}/quick` }).end(),
      junk: (_, response) => response.setHeader('content-type', 'application/json').end('{"content":'),
      page: (_, response) => response.setHeader('content-type', 'text/html').end('<p>'),
      teapot: (_, response) => response.writeHead(418).end('short and\u0007 stout'),
      huge: (_, response) => response.setHeader('content-type', 'application/json').end(`"${'x'.repeat(300_000)}"`),
      flood(_, response) {
        response.setHeader('content-type', lines)
        const flood = () => {
          while (response.write('{"progress":"another line"}\n'.repeat(50)));
        }
        response.on('drain', flood)
        flood()
      },
      shown: answerJson({ content: [image, { type: 'text', text: ' \n' }, { type: 'text', text: 'a picture' }] }),
      broken: answerJson({ content: [image, { type: 'text', text: 'no picture' }], is_error: true }),
      blank: answerJson({ content: [{ type: 'text', text: '' }] }),
      silent: answerJson({ content: '', is_error: true }),
    }),
  )
  const names = [
    ...['quick', 'other', 'hangs', 'delays', 'dies', 'half', 'elsewhere', 'junk', 'page', 'teapot', 'huge', 'flood'],
    ...['shown', 'broken', 'blank', 'silent'],
  ]
  const tools = {
    ...Object.fromEntries(names.map((name) => [name, hookTool(hook.url, name)])),
    late: hookTool(hook.url, 'late', { timeout_ms: 120 }),
    careful: hookTool(hook.url, 'careful', { approval: 'required' }),
    here: stdio,
  }
  const offered = [...Object.keys(tools).filter((name) => name !== 'here'), 'here_echo']
  const env = { ...toolEnv(tools, offered), SLUICE_TOOL_LIMITS__MAX_PARALLEL: '16' }
  rig = stack.adopt(await openRig({ env }), (each) => each.close())
})
afterAll(() => stack.disposeAsync())

const body = (scenario: Scenario, more: object = {}) => ({
  prompt: 'Go',
  preset: 'tools',
  max_tokens: 500,
  model: sim(scenario),
  ...more,
})
async function ask(scenario: Scenario, at = rig): Promise<Json[]> {
  const { frames } = await fetchAll(`${at.url}/stream`, { body: body(scenario) })
  expectWholeJsonStream(frames)
  return jsonFrames(frames)
}
const begin = (scenario: Scenario, at = rig, more: object = {}) =>
  open(`${at.url}/stream`, { body: body(scenario, more) })
const of = (frames: Json[], type: string): Json[] => frames.filter((frame) => frame.type === type)
const sent = (at = rig): Json => at.simulator.requests.at(-1)?.body
const toldTo = (at = rig): Json[] => sent(at).messages.at(-1).content

describe('webhooks and MCP servers behind a whole Sluice', () => {
  it('take ten steps, each call once and under its own key', async () => {
    const before = hook.calls.length
    const frames = await ask({ tool: 'quick', steps: 10, text: 3 })
    const calls = hook.calls.slice(before)
    expect(calls).toHaveLength(10)
    expect(calls.map(({ id }) => id)).toEqual(of(frames, 'tool_call').map(({ id }) => id))
    expect(calls.map(({ headers }) => headers['idempotency-key'])).toEqual(calls.map(({ id }) => id))
    expect(new Set(calls.map(({ id }) => id)).size).toBe(10)
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
  })

  it('answer calls of one message together, over every transport, and Claude gets the results in its order', async () => {
    const files = await startMcp('old')
    const tools = {
      slow: hookTool(hook.url, 'delays'),
      fast: hookTool(hook.url, 'fast'),
      files: { kind: 'mcp', url: files.url, allow: ['echo'], allow_private: ['127.0.0.0/8'] },
      here: stdio,
    }
    const env = toolEnv(tools, ['slow', 'fast', 'files_echo', 'here_echo'])
    const both = await startRig({ env })
    const frames = await ask({ tool: 'slow,files_echo,fast,here_echo', steps: 1, input: '{"text":"Grüße 🌊"}' }, both)
    expect(of(frames, 'tool_result')).toHaveLength(4)
    expect(toldTo(both).map(({ content }) => content)).toEqual([
      'after a while',
      [{ type: 'text', text: 'Grüße 🌊' }],
      'fast 1',
      [{ type: 'text', text: 'Grüße 🌊' }],
    ])
  })

  it('are called no more often than an answer has steps, however long Claude would go on', async () => {
    const before = hook.calls.length
    const frames = await ask({ tool: 'quick' })
    expect(frames.at(-1).error.code).toBe('tool_steps_exceeded')
    expect(hook.calls.length - before).toBe(15)
  })

  it('fail in all ways that there are, of which Claude hears one sentence each and the log one line', async () => {
    const kinds = 'late,dies,half,elsewhere,junk,page,teapot,huge,flood'
    const quiet = rig.log.length
    const frames = await ask({ tool: kinds, steps: 1 })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    const told = toldTo()
    expect(told.map(({ is_error }) => is_error)).toEqual(told.map(() => true))
    expect(told.map(({ content }) => content)).toEqual([
      'The tool did not answer in time.',
      'The tool cannot be reached at the moment.',
      "The tool's answer was cut off before its end.",
      'The tool answered with a redirect, which is not followed.',
      "The tool's answer is not valid JSON.",
      "The tool's answer has a content type that is not taken.",
      'The tool answered with an error. It said: short and  stout',
      "The tool's answer is larger than it may be.",
      "The tool's answer is larger than it may be.",
    ])
    expect(of(frames, 'tool_progress')).toHaveLength(100)
    const logged = rig.log.slice(quiet).filter(({ message }) => message === 'tool call failed')
    expect(Object.fromEntries(logged.map(({ tool, reason }) => [tool, reason]))).toEqual({
      ...{ late: 'timeout', dies: 'unreachable', half: 'cut_off', elsewhere: 'redirect', junk: 'not_json' },
      ...{ page: 'content_type', teapot: 'status', huge: 'too_large', flood: 'too_large' },
    })
    expect(JSON.stringify(logged)).not.toContain('stout')
  })

  it('show pictures and fail with them: Claude gets what it takes of both', async () => {
    const frames = await ask({ tool: 'shown,broken,blank,silent', steps: 1 })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    expect(toldTo().map(({ content, is_error }) => [content, is_error ?? false])).toEqual([
      [[image, { type: 'text', text: 'a picture' }], false],
      [
        [
          { type: 'text', text: '[Left out, as an error can hold text alone: image]' },
          { type: 'text', text: 'no picture' },
        ],
        true,
      ],
      [[], false],
      ['The tool failed, and did not say why.', true],
    ])
    expect(of(frames, 'tool_result')[1]).toMatchObject({ name: 'broken', content: [image, { text: 'no picture' }] })
  })
})

describe('a tool at work', () => {
  it.each([
    'stop',
    'cancel',
  ])('is hung up on when its stream ends by %s, and every reader hears the end', async (how) => {
    const before = hook.of('hangs').length
    const response = await begin({ tool: 'hangs' }, rig, { on_disconnect: 'cancel' })
    const call = await eventually(() => hook.of('hangs')[before])
    const began = performance.now()
    if (how === 'stop') {
      await fetchAll(`${rig.url}/streams/${call.stream}`, { method: 'DELETE' })
      const end = expectWholeJsonStream(parseFrames(await response.ended))
      expect(end).toMatchObject({ type: 'cancelled', by: 'stop', usage: { output_tokens: 20 } })
    } else response.destroy()
    await eventually(() => call.hungUp)
    expect(performance.now() - began).toBeLessThan(1_000)
    await eventually(() => rig.app.streams.live === 0)
  })

  it('does not wait for a reader who takes nothing, and he finds all of it later', async () => {
    const response = await begin({ tool: 'flood', steps: 1, text: 2_000, bytes: 2_000 }, rig, { max_tokens: 10_000 })
    response.message.pause()
    await eventually(() => rig.app.streams.live === 0, 8_000)
    response.message.resume()
    const end = expectWholeJsonStream(parseFrames(await response.ended))
    expect(end).toMatchObject({ type: 'done' })
  })

  it('is paid for by whoever asked, with all steps, also when he leaves it', async () => {
    const tools = { quick: hookTool(hook.url, 'quick'), hangs: hookTool(hook.url, 'hangs') }
    const limits = { SLUICE_ACCESS__LIMITS: '{"tokens_per_day":100000}' }
    const limited = await startRig({ env: { ...toolEnv(tools), ...limits } })
    const used = async () => {
      const [limit] = JSON.parse((await fetchAll(`${limited.url}/limits`)).body).limits
      return limit.allowed - limit.left
    }
    const { usage } = (await ask({ tool: 'quick', steps: 3 }, limited)).at(-1)
    expect(await used()).toBe(usage.input_tokens + usage.output_tokens)
    const before = hook.of('hangs').length
    const spent = await used()
    const response = await begin({ tool: 'hangs' }, limited, { on_disconnect: 'cancel' })
    await eventually(() => hook.of('hangs').length > before)
    const [message] = of(jsonFrames(parseFrames(response.body)), 'message')
    response.destroy()
    await eventually(() => limited.app.streams.live === 0)
    expect(await used()).toBe(spent + message.usage.input_tokens + 20)
  })

  it('and a call that waits go on while the process drains, and are ended in time with every server closed', async () => {
    const tools = { hangs: hookTool(hook.url, 'hangs'), careful: hookTool(hook.url, 'c', { approval: 'required' }) }
    const env = {
      ...toolEnv({ ...tools, here: stdio }, ['hangs', 'careful', 'here_echo']),
      SLUICE_SERVER__DRAIN_MS: '300',
      SLUICE_STREAMS__HEARTBEAT_MS: '50',
    }
    const draining = await openRig({ env })
    const before = hook.of('hangs').length
    const atWork = await begin({ tool: 'hangs' }, draining)
    const waiting = await begin({ tool: 'careful' }, draining)
    await eventually(() => hook.of('hangs').length > before)
    await waiting.until('"tool_approval"')
    const began = performance.now()
    const beats = (text: string) => text.split(': heartbeat').length
    const silent = beats(waiting.body)
    await draining.close()
    expect(performance.now() - began).toBeLessThan(300 + 2_000)
    for (const response of [atWork, waiting]) {
      const end = expectWholeJsonStream(parseFrames(await response.ended))
      expect(end).toMatchObject({ type: 'error', error: { code: 'shutting_down', retryable: true } })
    }
    expect(beats(waiting.body)).toBeGreaterThan(silent + 2)
  })
})

describe('a call that needs consent', () => {
  async function waiting(options: RigOptions = {}) {
    const at = options.env ? await startRig(options) : rig
    const response = await begin({ tool: 'careful', steps: 1, input: '{"n":1}' }, at)
    const frames = () => jsonFrames(parseFrames(response.body)) as Json[]
    await response.until(/"type":"tool_approval".*\n\n/)
    const { id } = of(frames(), 'tool_approval')[0]
    const url = `${at.url}/streams/${response.headers['x-stream-id']}/tools/${id}`
    return {
      id,
      decide: async (decision: object) => (await fetchAll(url, { body: decision })).status,
      end: async () => {
        expectWholeJsonStream(parseFrames(await response.ended))
        return frames()
      },
    }
  }

  it('is made with the input that somebody chose, under the key of Claude’s call', async () => {
    const call = await waiting()
    expect(await call.decide({ decision: 'approve', input: { n: 2 } })).toBe(200)
    const frames = await call.end()
    expect(hook.of('careful').at(-1)).toMatchObject({ id: call.id, input: { n: 2 } })
    expect(of(frames, 'tool_result')[0].content[1].text).toMatch(/^careful \d+$/)
  })

  it.each([
    ['a no', { decision: 'deny' }, 'denied'],
    ['a result', { result: 'mine' }, 'answered'],
  ])('is not made after %s, and of those who race with another word one is heard', async (_, decision, as) => {
    const before = hook.of('careful').length
    const call = await waiting()
    const statuses = await Promise.all([
      call.decide(decision),
      call.decide({ decision: 'approve' }),
      call.decide(decision),
    ])
    expect(statuses.toSorted()).toEqual([200, 409, 409])
    const frames = await call.end()
    const [said, ...more] = of(frames, 'tool_decision')
    expect(more).toEqual([])
    const isMade = said.decision === 'approved'
    expect(said.decision).toBe(statuses[1] === 200 ? 'approved' : as)
    expect(hook.of('careful').length - before).toBe(isMade ? 1 : 0)
  })

  it('is a no when nobody says anything', async () => {
    const tools = { careful: hookTool(hook.url, 'careful', { approval: 'required' }) }
    const before = hook.of('careful').length
    const call = await waiting({ env: { ...toolEnv(tools), SLUICE_TOOL_LIMITS__APPROVAL_MS: '50' } })
    expect(of(await call.end(), 'tool_decision')).toMatchObject([{ decision: 'expired' }])
    expect(hook.of('careful')).toHaveLength(before)
  })
})

describe('counting tokens', () => {
  it('counts the tools that a preset offers, and refuses one of the client’s of that name', async () => {
    const url = `${rig.url}/v1/messages/count_tokens`
    const asked = { model: 'tools', messages: [{ role: 'user', content: 'hi' }] }
    const { status, body: counted } = await fetchAll(url, { body: asked })
    expect([status, JSON.parse(counted).input_tokens > 0]).toEqual([200, true])
    expect(sent().tools).toContainEqual({
      name: 'quick',
      description: 'The tool quick',
      input_schema: { type: 'object' },
    })
    expect(sent().tools.map(({ name }: Json) => name)).toContain('here_echo')
    expect(sent().max_tokens).toBeUndefined()
    const own = { ...asked, tools: [{ name: 'quick', input_schema: { type: 'object' } }] }
    expect((await fetchAll(url, { body: own })).status).toBe(400)
  })
})
