import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventually } from '../support/client.ts'
import { answerJson, type Hook, type HookAnswer, hookTool, serveHook, toolEnv } from '../support/hook.ts'
import { readStream, startReader } from '../support/reader.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'
import { judge } from '../support/transcript.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as a client gets it
type Json = any

const patience = 20_000
const stack = new AsyncDisposableStack()
let redis: Redis
let heir: Rig
let hook: Hook
let answering = false
let answerLast = () => {}
const streams: Record<'between' | 'moment', ReturnType<typeof begin>> = {} as never

const onceAnswering: HookAnswer = (call, response) => {
  answerLast = () => answerJson({ content: 'at last' })(call, response)
  if (answering) answerLast()
}

function begin(bases: readonly string[], scenario: Record<string, string | number>) {
  const model = sim(scenario)
  const post = { preset: 'tools', prompt: 'hi', model, max_tokens: 1_000, on_disconnect: 'finish' }
  const reader = startReader({ bases: [...bases], path: '/stream', post })
  const frames = (): Json[] => reader.transcript.frames.map(({ data }) => JSON.parse(data ?? '{}'))
  const seen = (type: string): Json[] => frames().filter((frame) => frame.type === type)
  return { reader, frames, seen, model }
}

beforeAll(async () => {
  hook = stack.use(await serveHook({ held: onceAnswering }))
  redis = stack.use(await startRedis())
  const tools = { quick: hookTool(hook.url, 'quick'), held: hookTool(hook.url, 'held', { timeout_ms: 30_000 }) }
  const env = { ...toolEnv(tools), REDIS_URL: redis.url, SLUICE_RECOVERY__MAX_ATTEMPTS: '1' }
  heir = stack.adopt(await openRig({ env }), (rig) => rig.close())
  const owner = stack.use(await startReplica({ ...env, ANTHROPIC_BASE_URL: heir.simulator.url }))
  const bases = [owner.url, heir.url, heir.url]
  // Of the second answer nothing gets into the log.
  streams.between = begin(bases, { tool: 'quick', steps: 1, fail_step: 2, fail_first: 2, headers_ms: 60_000, text: 5 })
  streams.moment = begin(bases, { tool: 'held', steps: 1, text: 6 })
  const asked = (stream: (typeof streams)['between']) =>
    heir.simulator.requests.filter(({ body }) => (body as Json).model === stream.model).length
  await eventually(() => asked(streams.between) === 2, patience)
  await eventually(() => hook.of('held').length === 1, patience)
  await owner.kill()
  answering = true
}, 60_000)
afterAll(() => stack.disposeAsync())

async function ended({ reader, frames }: ReturnType<typeof begin>): Promise<void> {
  const transcript = await reader.ended
  const golden = await readStream({ bases: [heir.url], path: `/streams/${await reader.stream}` })
  expect(judge(transcript, golden)).toEqual(judge(golden))
  expect(frames().at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
}

it('a webhook whose result is in the log is not called again when the replica is killed before the next step', async () => {
  await ended(streams.between)
  expect(hook.of('quick')).toHaveLength(1)
  expect(streams.between.seen('tool_result')).toMatchObject([{ content: 'quick 1', is_error: false }])
})

it('one that had not answered by then is called again under the same key', async () => {
  await ended(streams.moment)
  const [first, second, ...more] = hook.of('held')
  expect(more).toEqual([])
  expect(second?.headers['idempotency-key']).toBe(first?.headers['idempotency-key'])
  expect([second?.id, second?.input, second?.stream]).toEqual([first?.id, first?.input, first?.stream])
  expect(streams.moment.seen('tool_result')).toMatchObject([{ content: 'at last' }])
})

it('Redis frozen while a tool is at work breaks no stream on its owner', async () => {
  answering = false
  const before = hook.of('held').length
  const stream = begin([heir.url], { tool: 'held', steps: 1, text: 6 })
  await eventually(() => hook.of('held').length > before)
  redis.freeze()
  try {
    answerLast()
    expect((await stream.reader.ended).end).toBe('whole')
    expect(stream.seen('tool_result')).toMatchObject([{ content: 'at last' }])
    expect(stream.frames().at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
  } finally {
    redis.thaw()
  }
})
