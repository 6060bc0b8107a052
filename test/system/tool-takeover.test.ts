import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../support/client.ts'
import { decide, remoteTools } from '../support/fake-tools.ts'
import { readStream, startReader } from '../support/reader.ts'
import { startRedis } from '../support/redis.ts'
import { portOf } from '../support/relay.ts'
import { startReplica } from '../support/replica.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'
import { judge } from '../support/transcript.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as a client gets it
type Json = any

const program = join(import.meta.dirname, '../support/tool-replica.ts')
const patience = 20_000

/** Where the tools are: answers at once, but for what is held up. */
async function openToolServer() {
  const asked: { readonly id: string; readonly name: string; readonly input: Json }[] = []
  let holding = true
  const server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const call = JSON.parse(text)
    asked.push(call)
    if (!holding || (call.name !== 'gone' && call.input.n !== 9)) response.end(`result of ${call.name}`)
  }).listen(0, '127.0.0.1')
  await eventually(() => server.listening)
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    of: (call: string) => asked.filter(({ id }) => id === call),
    letGo: () => {
      holding = false
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** A stream, and what its reader has seen. */
function begin(bases: readonly string[], scenario: Record<string, string | number>) {
  const query = new URLSearchParams({ prompt: 'hi', model: sim(scenario), max_tokens: '1000' })
  const reader = startReader({ bases: [...bases], path: `/stream?${query}` })
  const frames = (): Json[] => reader.transcript.frames.map(({ data }) => JSON.parse(data ?? '{}'))
  const seen = (type: string): Json[] => frames().filter((frame) => frame.type === type)
  return { reader, frames, seen, model: sim(scenario) }
}

describe('the streams of a replica that dies', () => {
  const stack = new AsyncDisposableStack()
  let heir: Rig
  let tools: Awaited<ReturnType<typeof openToolServer>>
  const streams: Record<'later' | 'between' | 'atWork' | 'waiting' | 'gone', ReturnType<typeof begin>> = {} as never
  let agreedOn = ''

  /** All of them are where they are to be lost; then one process is killed. */
  beforeAll(async () => {
    tools = stack.use(await openToolServer())
    const redis = stack.use(await startRedis())
    const env = { REDIS_URL: redis.url, SLUICE_RECOVERY__MAX_ATTEMPTS: '1' }
    heir = stack.adopt(await openRig({ env, tools: remoteTools(tools.url, ['t', 'careful']) }), (rig) => rig.close())
    const besides = { TEST_TOOL_URL: tools.url, TEST_TOOLS: 't,careful,gone', ANTHROPIC_BASE_URL: heir.simulator.url }
    const owner = stack.use(await startReplica({ ...env, ...besides }, program))
    const bases = [owner.url, heir.url, heir.url]
    streams.later = begin(bases, { tool: 't', steps: 2, text: 150, delay_ms: 5 })
    // Claude takes so long over the second answer that nothing of it gets into the log.
    streams.between = begin(bases, { tool: 't', steps: 1, fail_step: 2, fail_first: 2, headers_ms: 60_000, text: 5 })
    streams.atWork = begin(bases, { tool: 't,careful,t', steps: 1, text: 6 })
    streams.waiting = begin(bases, { tool: 'careful', steps: 1, text: 7 })
    streams.gone = begin(bases, { tool: 'gone', steps: 1, text: 8 })

    const { later, between, atWork, waiting, gone } = streams
    agreedOn = (await eventually(() => atWork.seen('tool_approval')[0], patience)).id
    await eventually(() => atWork.seen('tool_result').length === 2, patience)
    await decide(owner.url, await atWork.reader.stream, agreedOn, { decision: 'approve', input: { n: 9 } })
    await eventually(() => tools.of(agreedOn).length === 1, patience)
    await eventually(() => waiting.seen('tool_approval').length === 1, patience)
    await eventually(() => tools.of(gone.seen('tool_call')[0]?.id).length === 1, patience)
    await eventually(() => requestsOf(between).length === 2, patience)
    await eventually(() => later.seen('message').length === 2 && later.frames().at(-1)?.type === 'text', patience)
    await owner.kill()
    tools.letGo()
    await eventually(() => heir.app.streams.live > 0, patience)
  }, 60_000)
  afterAll(() => stack.disposeAsync())

  const requestsOf = ({ model }: { model: string }) =>
    heir.simulator.requests.filter(({ body }) => (body as Json).model === model)

  /** Waits for the end: the reader has exactly what everybody gets who comes later. */
  async function ended({ reader, frames }: ReturnType<typeof begin>) {
    const transcript = await reader.ended
    expect(transcript.end).toBe('whole')
    const golden = await readStream({ bases: [heir.url], path: `/streams/${await reader.stream}` })
    expect(judge(transcript, golden)).toEqual(judge(golden))
    expect(frames().at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    return frames().at(-1)
  }

  it('wait on where a call waits for consent, and the next replica takes the decision', async () => {
    const { waiting } = streams
    const [{ id }] = waiting.seen('tool_approval')
    const stream = await waiting.reader.stream
    const statuses: number[] = []
    const agree = async () => (await decide(heir.url, stream, id, { decision: 'approve' })).status
    await eventually(async () => statuses.push(await agree()) && statuses.at(-1) === 200, patience)
    // Until it has been taken over nobody can tell, but nobody says that it has been decided on.
    expect(statuses.filter((status) => status !== 200 && status !== 503)).toEqual([])
    await ended(waiting)
    expect(waiting.seen('tool_approval')).toHaveLength(1)
    expect(tools.of(id)).toHaveLength(1)
  })

  it('go on with a later step, and make no call again', async () => {
    const { later } = streams
    expect(await ended(later)).toMatchObject({ recovered: 1 })
    const results = later.seen('tool_result')
    expect(results).toHaveLength(2)
    for (const { id } of results) expect(tools.of(id)).toHaveLength(1)
    expect(later.seen('message')).toHaveLength(3)
    expect(requestsOf(later)).toHaveLength(4)
  })

  it('take the next step when they had a result and not yet that', async () => {
    const { between } = streams
    expect(await ended(between)).toMatchObject({ recovered: 0 })
    const [{ id }] = between.seen('tool_result')
    expect(tools.of(id)).toHaveLength(1)
    expect(between.seen('recovery')).toEqual([])
    const [, before, after] = requestsOf(between)
    expect(after?.body).toEqual(before?.body)
  })

  it('make calls again that have no result, with the same id, and ask nobody twice', async () => {
    const { atWork } = streams
    await ended(atWork)
    expect(atWork.seen('tool_approval')).toHaveLength(1)
    expect(atWork.seen('tool_decision')).toHaveLength(1)
    expect(tools.of(agreedOn).map(({ input }) => input)).toEqual([{ n: 9 }, { n: 9 }])
    const others = atWork.seen('tool_result').filter(({ id }) => id !== agreedOn)
    expect(others).toHaveLength(2)
    for (const { id } of others) expect(tools.of(id)).toHaveLength(1)
    expect(requestsOf(atWork)).toHaveLength(2)
  })

  it('tell Claude when the next replica has no such tool', async () => {
    const { gone } = streams
    await ended(gone)
    expect(gone.seen('tool_result')).toMatchObject([
      { content: expect.stringContaining('not available'), is_error: true },
    ])
  })
})
