import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, jsonFrames, open, parseFrames, type StreamResponse } from '../support/client.ts'
import { deaf, decide, fakeTool, said, toolboxOf } from '../support/fake-tools.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as a client gets it
type Json = any

const careful = fakeTool('careful', ({ input }) => said(`did ${JSON.stringify(input)}`), { approval: 'required' })
const hangs = fakeTool('hangs', deaf)
const quick = fakeTool('quick')
const tools = toolboxOf(careful, hangs, quick)

let redis: Redis
let alone: Rig
let first: Rig
let second: Rig
beforeAll(async () => {
  redis = await startRedis()
  const env = { SLUICE_STREAMS__HEARTBEAT_MS: '50', SLUICE_TOOL_LIMITS__MAX_RESULT_BYTES: '4096' }
  alone = await openRig({ env, tools })
  first = await openRig({ env: { ...env, REDIS_URL: redis.url }, tools })
  second = await openRig({ env: { ...env, REDIS_URL: redis.url, ANTHROPIC_BASE_URL: first.simulator.url }, tools })
})
afterAll(async () => {
  for (const each of [alone, second, first, redis]) await each.close()
})

const places = [
  { place: 'in memory', near: () => alone, far: () => alone },
  { place: 'in Redis', near: () => first, far: () => first },
  { place: 'on another replica', near: () => first, far: () => second },
]

interface Waiting {
  readonly response: StreamResponse
  readonly id: string
  readonly asked: Json
}

const framesOf = (body: string): Json[] => jsonFrames(parseFrames(body))

/** Asks for something that needs consent, and waits until it is asked for. */
async function wait(
  rig: Rig,
  scenario: Record<string, string | number> = { tool: 'careful', steps: 1 },
): Promise<Waiting> {
  const response = await open(`${rig.url}/stream`, {
    body: { prompt: 'x', model: sim({ input: '{"n":1}', ...scenario }) },
  })
  const body = await response.until(/"type":"tool_approval".*\n\n/)
  const asked = framesOf(body).find(({ type }) => type === 'tool_approval')
  return { response, id: String(response.headers['x-stream-id']), asked }
}

async function ended({ response }: Waiting): Promise<Json[]> {
  return framesOf(await response.ended)
}

const resultIn = (frames: Json[]) => frames.find(({ type }) => type === 'tool_result')
const decisionIn = (frames: Json[]) => frames.find(({ type }) => type === 'tool_decision')

describe.each(places)('a call that needs consent, $place,', ({ near, far }) => {
  it('waits, while the connection is kept open, and is made once somebody agrees', async () => {
    const waiting = await wait(near())
    const { asked, id, response } = waiting
    expect(asked).toMatchObject({ name: 'careful', input: { n: 1 } })
    expect(Date.parse(asked.expires_at) - Date.now()).toBeGreaterThan(250_000)
    await response.until(': heartbeat')
    const before = careful.calls.length
    const answer = await decide(far().url, id, asked.id, { decision: 'approve' })
    expect([answer.status, JSON.parse(answer.body)]).toEqual([200, { id, call: asked.id, decision: 'approve' }])
    const frames = await ended(waiting)
    expect(decisionIn(frames)).toEqual({ type: 'tool_decision', id: asked.id, name: 'careful', decision: 'approved' })
    expect(resultIn(frames)).toMatchObject({ id: asked.id, content: 'did {"n":1}', is_error: false })
    expect(careful.calls.slice(before)).toEqual([{ id: asked.id, name: 'careful', input: { n: 1 } }])
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })

    const late = await decide(far().url, id, asked.id, { decision: 'deny' })
    expect([late.status, JSON.parse(late.body).error.code]).toEqual([409, 'tool_call_decided'])
  })

  it('is made with another input, of which Claude hears', async () => {
    const waiting = await wait(near())
    await decide(far().url, waiting.id, waiting.asked.id, { decision: 'approve', input: { n: 2 } })
    const frames = await ended(waiting)
    expect(decisionIn(frames)).toMatchObject({ decision: 'approved', input: { n: 2 } })
    expect(resultIn(frames).content).toEqual([
      { type: 'text', text: 'The user changed the input of this call to {"n":2}' },
      { type: 'text', text: 'did {"n":2}' },
    ])
    expect(careful.calls.at(-1)?.input).toEqual({ n: 2 })
    const sent = near().simulator.requests.at(-1)?.body as Json
    expect(sent.messages.at(-2).content.at(-1).input).toEqual({ n: 1 })
  })

  it('is not made when somebody says no, and Claude hears why', async () => {
    const before = careful.calls.length
    const waiting = await wait(near())
    await decide(far().url, waiting.id, waiting.asked.id, { decision: 'deny', reason: 'too expensive' })
    const frames = await ended(waiting)
    expect(decisionIn(frames)).toMatchObject({ decision: 'denied' })
    expect(resultIn(frames)).toMatchObject({ content: 'The user denied this call: too expensive', is_error: true })
    expect(frames.at(-1)).toMatchObject({ type: 'done', stop_reason: 'end_turn' })
    expect(careful.calls).toHaveLength(before)
  })

  it('has the result of whoever ran it himself', async () => {
    const before = careful.calls.length
    const waiting = await wait(near())
    const result = [{ type: 'text', text: '48° N, with blanks and – dashes' }]
    await decide(far().url, waiting.id, waiting.asked.id, { result })
    const frames = await ended(waiting)
    expect(decisionIn(frames)).toMatchObject({ decision: 'answered' })
    expect(resultIn(frames)).toMatchObject({ content: result, is_error: false })
    const sent = near().simulator.requests.at(-1)?.body as Json
    expect(sent.messages.at(-1).content).toEqual([
      { type: 'tool_result', tool_use_id: waiting.asked.id, content: result },
    ])
    expect(careful.calls).toHaveLength(before)
  })

  it('of two who decide in the same moment hears one', async () => {
    const waiting = await wait(near())
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => decide(far().url, waiting.id, waiting.asked.id, { decision: 'approve' })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409])
    expect((await ended(waiting)).filter(({ type }) => type === 'tool_decision')).toHaveLength(1)
  })

  it('waits beside others that are made meanwhile', async () => {
    const waiting = await wait(near(), { tool: 'quick,careful', steps: 1 })
    await waiting.response.until(/"type":"tool_result".*"name":"quick"/)
    await decide(far().url, waiting.id, waiting.asked.id, { decision: 'approve' })
    expect((await ended(waiting)).at(-1)).toMatchObject({ type: 'done' })
  })

  it('ends with its stream', async () => {
    const waiting = await wait(near())
    await fetchAll(`${far().url}/streams/${waiting.id}`, { method: 'DELETE' })
    expect((await ended(waiting)).at(-1)).toMatchObject({ type: 'cancelled', by: 'stop' })
    const late = await decide(far().url, waiting.id, waiting.asked.id, { decision: 'approve' })
    expect(late.status).toBe(409)
  })
})

describe('a decision', () => {
  it.each([
    ['nothing', {}],
    ['another word', { decision: 'maybe' }],
    ['an input that is no object', { decision: 'approve', input: [1] }],
    ['a reason without end', { decision: 'deny', reason: 'x'.repeat(2_001) }],
    ['a result that Claude would not take', { result: [{ type: 'text' }] }],
    ['a result that is too large', { result: 'x'.repeat(5_000) }],
    ['an input that is too large', { decision: 'approve', input: { x: 'x'.repeat(5_000) } }],
    ['two things at once', { decision: 'approve', result: 'x' }],
  ])('that says %s is refused, and the call waits on', async (_, body) => {
    const waiting = await wait(alone)
    const answer = await decide(alone.url, waiting.id, waiting.asked.id, body)
    expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([400, 'invalid_request'])
    expect((await decide(alone.url, waiting.id, waiting.asked.id, { decision: 'deny' })).status).toBe(200)
    await waiting.response.ended
  })

  it('on a call that there is not is told from one on a call that needs none', async () => {
    const waiting = await wait(alone, { tool: 'careful,hangs' })
    const unknown = await decide(alone.url, waiting.id, 'toolu_other', { decision: 'approve' })
    expect([unknown.status, JSON.parse(unknown.body).error.code]).toEqual([404, 'tool_call_not_found'])
    await eventually(() => hangs.calls.length > 0)
    const atWork = await decide(alone.url, waiting.id, hangs.calls.at(-1)?.id ?? '', { decision: 'approve' })
    expect([atWork.status, JSON.parse(atWork.body).error.code]).toEqual([409, 'tool_call_decided'])
    const nowhere = await decide(alone.url, 's_nothing', 'toolu_other', { decision: 'approve' })
    expect([nowhere.status, JSON.parse(nowhere.body).error.code]).toEqual([404, 'stream_not_found'])
    await fetchAll(`${alone.url}/streams/${waiting.id}`, { method: 'DELETE' })
  })

  it('that nobody makes in time is a no', async () => {
    const rig = await openRig({ tools, env: { SLUICE_TOOL_LIMITS__APPROVAL_MS: '50' } })
    const waiting = await wait(rig)
    const frames = await ended(waiting)
    expect(decisionIn(frames)).toMatchObject({ decision: 'expired' })
    expect(resultIn(frames)).toMatchObject({
      content: expect.stringContaining('nobody decided in time'),
      is_error: true,
    })
    expect(frames.at(-1)).toMatchObject({ type: 'done' })
    await rig.close()
  })

  it('is the owner’s alone to make', async () => {
    const [alice, bob] = [holder('alice'), holder('bob')]
    const rig = await openRig({ tools, env: lettingIn(alice, bob) })
    const headers = (key: string) => ({ authorization: `Bearer ${key}` })
    const response = await open(`${rig.url}/stream`, {
      headers: headers(alice.key),
      body: { prompt: 'x', model: sim({ tool: 'careful', steps: 1 }) },
    })
    const body = await response.until(/"type":"tool_approval".*\n\n/)
    const { id } = framesOf(body).find(({ type }) => type === 'tool_approval')
    const url = `${rig.url}/streams/${response.headers['x-stream-id']}/tools/${id}`
    const asBob = await fetchAll(url, { headers: headers(bob.key), body: { decision: 'approve' } })
    expect([asBob.status, JSON.parse(asBob.body).error.code]).toEqual([404, 'stream_not_found'])
    const asNobody = await fetchAll(url, { body: { decision: 'approve' } })
    expect(asNobody.status).toBe(401)
    expect((await fetchAll(url, { headers: headers(alice.key), body: { decision: 'deny' } })).status).toBe(200)
    await response.ended
    await rig.close()
  })
})
