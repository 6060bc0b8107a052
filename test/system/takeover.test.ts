import { expect, it } from 'vitest'
import { eventually } from '../support/client.ts'
import { readStream, startReader } from '../support/reader.ts'
import { startRedis } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { openRig, sim } from '../support/sluice.ts'
import { judge, textOf } from '../support/transcript.ts'

/** Two replicas on one Redis, in front of one Claude; the first is a process of its own, which can die. */
async function startPair(settings: Record<string, string> = {}) {
  await using stack = new AsyncDisposableStack()
  const redis = stack.use(await startRedis())
  const limits = JSON.stringify({ concurrent_streams: 1, tokens_per_day: 1_000_000 })
  const env = {
    REDIS_URL: redis.url,
    SLUICE_RECOVERY__MAX_ATTEMPTS: '1',
    SLUICE_ACCESS__LIMITS: limits,
    ...settings,
  }
  const heir = stack.adopt(await openRig({ env }), (rig) => rig.close())
  const owner = stack.use(await startReplica({ ...env, ANTHROPIC_BASE_URL: heir.simulator.url }))
  const all = stack.move()
  return { owner, heir, claude: heir.simulator, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

const terminal = (transcript: { frames: readonly { data?: string }[] }) =>
  JSON.parse(transcript.frames.at(-1)?.data ?? '')

it.concurrent.each([
  'json',
  'text',
])('the reader of a replica that dies sees the answer complete itself (%s)', async (format) => {
  await using pair = await startPair()
  const { owner, heir, claude } = pair
  const deltas = 300
  const query = new URLSearchParams({
    prompt: 'hi',
    model: sim({ text: deltas, delay_ms: 5 }),
    max_tokens: '1000',
    format,
  })
  const reader = startReader({ bases: [owner.url, heir.url, heir.url], path: `/stream?${query}`, format })
  await eventually(() => reader.transcript.frames.length > 50, 10_000)
  await owner.kill()
  const transcript = await reader.ended
  expect(transcript.end).toBe('whole')
  const golden = await readStream({
    bases: [heir.url],
    path: `/streams/${await reader.stream}?format=${format}`,
    format,
  })
  expect(judge(transcript, golden)).toEqual(judge(golden))
  // Its place is free again, and both replicas' share of it is paid.
  const left = await eventually(async () => {
    const { limits } = (await (await fetch(`${heir.url}/limits`)).json()) as { limits: { left: number }[] }
    return limits[0]?.left === 1 && limits[1]?.left
  })
  if (format === 'json') {
    const { input_tokens, output_tokens } = terminal(transcript).usage
    expect(left).toBe(1_000_000 - input_tokens - output_tokens)
  }
  const undisturbed = await readStream({ bases: [heir.url], path: `/stream?${query}`, format })
  expect(textOf(transcript)).toEqual(textOf(undisturbed))
  expect(claude.requests).toHaveLength(3)
  if (format === 'json') expect(terminal(transcript)).toMatchObject({ type: 'done', recovered: 1 })
})

it.concurrent.each([
  ['a tool call', { text: 4, tool: 'weather', delay_ms: 400 }, 'tool_start'],
  ['thinking', { thinking: 200, text: 4, delay_ms: 20 }, 'thinking'],
])('with %s open it ends, and says that it is partial', async (_, scenario, type) => {
  await using pair = await startPair()
  const { owner, heir, claude } = pair
  const query = new URLSearchParams({ prompt: 'hi', model: sim(scenario), max_tokens: '1000' })
  const reader = startReader({ bases: [owner.url, heir.url, heir.url], path: `/stream?${query}` })
  await eventually(() => reader.transcript.frames.some(({ data }) => data?.includes(`"type":"${type}"`)), 10_000)
  await owner.kill()
  expect(terminal(await reader.ended)).toMatchObject({
    type: 'error',
    partial: true,
    error: { code: 'replica_lost', retryable: true },
  })
  expect(claude.requests).toHaveLength(1)
})

it.concurrent('with `fast` readers may be ahead of Redis, so it ends', async () => {
  await using pair = await startPair({ SLUICE_STORE__DURABILITY: 'fast' })
  const { owner, heir } = pair
  const query = new URLSearchParams({ prompt: 'hi', model: sim({ text: 300, delay_ms: 10 }), max_tokens: '1000' })
  const reader = startReader({ bases: [owner.url, heir.url, heir.url], path: `/stream?${query}` })
  await eventually(() => reader.transcript.frames.length > 20, 10_000)
  await owner.kill()
  const transcript = await reader.ended
  const said = [...transcript.frames, ...transcript.announcement].map(({ data }) => data ?? '').join()
  expect(said).toMatch(/replica_lost|resume_unavailable/)
})
