import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import type { MessageRequest } from '../../src/core/request.ts'
import { estimateInput } from '../../src/limits/estimate.ts'
import { eventually, fetchAll, jsonFrames, open } from '../support/client.ts'
import { type FakeTool, fakeTool, said, toolboxOf } from '../support/fake-tools.ts'
import { startRedis } from '../support/redis.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as a client gets it
type Json = any

const limited = (limits: object, tools: readonly FakeTool[] = [], env: Record<string, string> = {}) =>
  startRig({ env: { SLUICE_ACCESS__LIMITS: JSON.stringify(limits), ...env }, tools: toolboxOf(...tools) })

async function ask({ url }: Rig, scenario: Record<string, string | number>, body: object = {}): Promise<Json[]> {
  const asked = { prompt: 'Go', max_tokens: 60, model: sim(scenario), ...body }
  return jsonFrames((await fetchAll(`${url}/stream`, { body: asked })).frames)
}

const usedBy = ({ usage }: Json): number => usage.input_tokens + usage.output_tokens
const typesOf = (frames: Json[]): string[] => frames.map(({ type }) => type)

async function standings({ url }: Rig): Promise<Record<string, number>> {
  const { limits } = JSON.parse((await fetchAll(`${url}/limits`)).body)
  return Object.fromEntries(limits.map(({ limit, left }: Json) => [limit, left]))
}

describe('streams in steps', () => {
  it.each(['memory', 'Redis'])('overspend by one reservation, two hundred at once (%s)', async (place) => {
    await using redis = place === 'Redis' ? await startRedis() : undefined
    const limit = 60_000
    const begun = Promise.withResolvers<void>()
    let calls = 0
    const tool = fakeTool('t', async () => {
      if (++calls === 200) begun.resolve()
      await begun.promise
      return said('fine')
    })
    const replica = () => limited({ tokens_per_day: limit }, [tool], redis && { REDIS_URL: redis.url })
    const rigs = redis ? [await replica(), await replica()] : [await replica()]
    const asked = Array.from({ length: 200 }, (_, n) =>
      ask(rigs[n % rigs.length] as Rig, { tool: 't', steps: 8, text: 4 }),
    )
    const ends = (await Promise.all(asked)).map((frames) => frames.at(-1))
    const requests = rigs.flatMap(({ simulator }) => simulator.requests.map(({ body }) => body as MessageRequest))
    const reservation = Math.max(...requests.map((request) => estimateInput(request) + request.max_tokens))
    const used = ends.reduce((sum, end) => sum + usedBy(end), 0)
    expect(used).toBeGreaterThan(limit - reservation)
    expect(used).toBeLessThanOrEqual(limit + reservation)
    for (const end of ends) {
      const codes = ['budget_reserved', 'token_budget_exhausted', undefined]
      expect(codes).toContain(end.error?.code)
      if (end.error) expect(end).toMatchObject({ type: 'error', partial: true })
    }
  })

  it('end before a step that is not afforded any more, with the round of tools before it', async () => {
    const rig = await limited({ tokens_per_day: 10, requests_per_minute: 5 }, [fakeTool('t')])
    const frames = await ask(rig, { tool: 't', steps: 3, text: 4 })
    expect(typesOf(frames).slice(-3)).toEqual(['tool_call', 'tool_result', 'error'])
    expect(frames.at(-1)).toMatchObject({
      error: { code: 'token_budget_exhausted', retryable: false },
      partial: true,
    })
    expect(usedBy(frames.at(-1))).toBeGreaterThan(10)
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('end so for clients of Anthropic and of OpenAI', async () => {
    const messages = [{ role: 'user' as const, content: 'Go' }]
    const model = sim({ tool: 't', steps: 3, text: 4 })
    const tool = fakeTool('t')
    const anthropic = await limited({ tokens_per_day: 10 }, [tool])
    const client = new Anthropic({ apiKey: 'unused', baseURL: anthropic.url, logLevel: 'off', maxRetries: 0 })
    const texts: string[] = []
    const stream = client.messages.stream({ model, max_tokens: 60, messages }).on('text', (text) => texts.push(text))
    const failure = await stream.finalMessage().catch((error) => error)
    expect(failure).toMatchObject({
      error: { error: { type: 'rate_limit_error', message: expect.stringMatching(/tokens are used up/) } },
    })
    expect(texts.join('')).not.toBe('')

    const openai = await limited({ tokens_per_day: 10 }, [tool])
    const other = new OpenAI({ apiKey: 'unused', baseURL: `${openai.url}/v1`, maxRetries: 0 })
    const chunks: string[] = []
    const reading = async () => {
      for await (const { choices } of await other.chat.completions.create({ model, messages, stream: true }))
        chunks.push(choices[0]?.delta.content ?? '')
    }
    await expect(reading()).rejects.toMatchObject({ type: 'insufficient_quota', code: 'token_budget_exhausted' })
    expect(chunks.join('')).not.toBe('')
    for (const { simulator } of [anthropic, openai]) expect(simulator.requests).toHaveLength(1)
  })

  it('count as one request and one stream, and are charged for all their steps', async () => {
    const rig = await limited({ requests_per_minute: 2, concurrent_streams: 1, tokens_per_day: 1e6 }, [fakeTool('t')])
    const frames = await ask(rig, { tool: 't', steps: 3, text: 4 })
    expect(frames.at(-1).type).toBe('done')
    expect(rig.simulator.requests).toHaveLength(4)
    expect(await standings(rig)).toEqual({
      requests_per_minute: 1,
      concurrent_streams: 1,
      tokens_per_day: 1e6 - usedBy(frames.at(-1)),
    })
  })

  it('show what earlier steps have used and the next one reserves; who hangs up on it then has had it read', async () => {
    const rig = await limited({ tokens_per_day: 1e6, concurrent_streams: 1 }, [fakeTool('t')])
    const model = sim({ tool: 't', steps: 1, fail_step: 2, headers_ms: 60_000 })
    const stream = await open(`${rig.url}/stream`, { body: { prompt: 'Go', max_tokens: 5_000, model } })
    await eventually(() => rig.simulator.requests.length === 2)
    const step = estimateInput(rig.simulator.requests[1]?.body as MessageRequest)
    const reserved = 1e6 - ((await standings(rig))['tokens_per_day'] ?? 0)
    await fetchAll(`${rig.url}/streams/${stream.headers['x-stream-id']}`, { method: 'DELETE' })
    const last = jsonFrames([{ data: (await stream.ended).match(/^data: (.*"cancelled".*)$/m)?.[1] ?? '' }])[0] as Json
    await eventually(async () => (await standings(rig))['concurrent_streams'] === 1)
    expect(usedBy(last)).toBeGreaterThan(0)
    expect(reserved).toBe(usedBy(last) + step + 5_000)
    expect(1e6 - ((await standings(rig))['tokens_per_day'] ?? 0)).toBe(usedBy(last) + step)
  })
})

describe('an answer that is lost', () => {
  it('in its middle is not gone on with when nothing is left', async () => {
    const rig = await limited({ tokens_per_day: 10 }, [], { SLUICE_RECOVERY__MAX_ATTEMPTS: '1' })
    const frames = await ask(rig, { text: 20, end_at: 12 })
    expect(frames.at(-1)).toMatchObject({ error: { code: 'token_budget_exhausted' }, partial: true })
    expect(typesOf(frames)).not.toContain('recovery')
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('before it has cost anything is asked for again, with what it had reserved', async () => {
    const rig = await limited({ tokens_per_day: 10 }, [], { SLUICE_RETRY__MAX_ATTEMPTS: '1' })
    const frames = await ask(rig, { text: 4, status: 529, fail_first: 1 })
    expect(frames.at(-1).type).toBe('done')
    expect(rig.simulator.requests).toHaveLength(2)
  })
})
