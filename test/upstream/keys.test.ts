import fc from 'fast-check'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { type ErrorCode, SluiceError } from '../../src/core/errors.ts'
import type { MessageRequest } from '../../src/core/request.ts'
import { Simulator } from '../../src/simulator/server.ts'
import { anthropicUpstream } from '../../src/upstream/anthropic.ts'
import { KeyRing } from '../../src/upstream/keys.ts'
import { serve } from '../support/serve.ts'
import { sim, startRig } from '../support/sluice.ts'

const limited = (retryAfterMs?: number) => new SluiceError('upstream_rate_limited', { reason: '429', retryAfterMs })
const overloaded = (retryAfterMs?: number) => new SluiceError('upstream_overloaded', { reason: '529', retryAfterMs })
const refused = (reason: '401' | '403') => new SluiceError('upstream_auth', { reason })

function ringOf(keys: number) {
  const told: [number, string | undefined][] = []
  const ring = new KeyRing({ keys, onRefused: (key, reason) => void told.push([key, reason]) })
  /** A key, or why there is none and for how long. */
  function take(model: string, now: number): unknown {
    try {
      return ring.take(model, now)
    } catch (thrown) {
      const { code, retryAfterMs, reason } = thrown as SluiceError
      expect(reason).toBe('cooldown')
      return [code, retryAfterMs]
    }
  }
  return { ring, told, take }
}

describe('KeyRing', () => {
  it('uses its keys in turn', () => {
    const { take } = ringOf(3)
    expect([1, 2, 3, 4, 5].map((now) => take('m', now))).toEqual([0, 1, 2, 0, 1])
  })

  it.each<[string, SluiceError, number]>([
    ['a 429, for as long as it says', limited(7_000), 7_000],
    ['a 429 that does not say, for a second', limited(), 1_000],
    ['an overload that says how long', overloaded(2_000), 2_000],
    ['a day, for five minutes', limited(86_400_000), 300_000],
  ])('leaves a model alone after %s', (_, failure, forMs) => {
    const { ring, take } = ringOf(1)
    const { code } = failure
    expect(ring.failed(0, 'm', failure, 50)).toMatchObject({ code, reason: failure.reason, retryAfterMs: forMs })
    expect(take('m', 50)).toEqual([code, forMs])
    expect(take('m', 50.5)).toEqual([code, forMs])
    expect(take('m', 50 + forMs - 26)).toEqual([code, 26])
    expect(take('other', 51)).toBe(0)
    // Timers are a little early.
    expect(take('m', 50 + forMs - 25)).toBe(0)
  })

  it.each<[string, SluiceError]>([
    ['an overload that does not say', overloaded()],
    ['a 429 that says: now', limited(0)],
    ['a spending limit', new SluiceError('budget_exhausted', { retryAfterMs: 5_000 })],
    ['a failure that has nothing to do with limits', new SluiceError('upstream_error', { retryAfterMs: 5_000 })],
    ['the refusal of the only key', refused('401')],
  ])('goes on after %s', (_, failure) => {
    const { ring, take, told } = ringOf(1)
    const { code, retryAfterMs } = failure
    expect(ring.failed(0, 'm', failure, 0)).toMatchObject({ code, retryAfterMs: retryAfterMs || undefined })
    expect([take('m', 0), told]).toEqual([0, []])
  })

  it('uses the other keys meanwhile, and says so to whoever may try again', () => {
    const { ring, take } = ringOf(3)
    expect(ring.failed(0, 'm', limited(9_000), 0)).toMatchObject({ reason: '429', retryAfterMs: undefined })
    expect([1, 2, 3, 4].map((now) => take('m', now))).toEqual([1, 2, 1, 2])
    ring.failed(1, 'm', limited(3_000), 0)
    expect(ring.failed(2, 'm', overloaded(6_000), 0)).toMatchObject({ retryAfterMs: 3_000 })
    expect(take('m', 1_000)).toEqual(['upstream_rate_limited', 2_000])
    expect([take('m', 3_000), take('m', 3_000), take('m', 6_000)]).toEqual([1, 1, 2])
  })

  it('keeps the longer one of what calls were told that were under way together', () => {
    const { ring, take } = ringOf(1)
    ring.failed(0, 'm', limited(5_000), 0)
    expect(ring.failed(0, 'm', limited(), 10)).toMatchObject({ retryAfterMs: 4_990 })
    expect(take('m', 1_000)).toEqual(['upstream_rate_limited', 4_000])
  })

  it('puts a key that is refused aside for a minute, for all models, and tells it once', () => {
    const { ring, take, told } = ringOf(2)
    expect(ring.failed(0, 'm', refused('401'), 0)).toMatchObject({ shouldRetry: true, retryAfterMs: undefined })
    expect(['m', 'n', 'o'].map((model) => take(model, 1))).toEqual([1, 1, 1])
    // The last one is used whatever it is told: there is nothing else.
    expect(ring.failed(1, 'm', refused('401'), 2).shouldRetry).toBeUndefined()
    expect(take('m', 3)).toBe(1)
    expect([take('m', 60_000), take('m', 60_000)]).toEqual([0, 1])
    ring.failed(0, 'm', refused('401'), 60_000)
    expect(told).toEqual([[0, '401']])
  })

  it('puts a key that may not use a model aside for that model: which one it is, is the client’s choice', () => {
    const { ring, take } = ringOf(2)
    ring.failed(0, 'm', refused('403'), 0)
    expect(['m', 'm', 'n', 'n'].map((model) => take(model, 1))).toEqual([1, 1, 0, 1])
  })

  it('waits for a limit, not for a key that was refused', () => {
    const { ring, take } = ringOf(2)
    ring.failed(0, 'm', refused('401'), 0)
    ring.failed(1, 'm', limited(200_000), 0)
    expect(take('m', 0)).toEqual(['upstream_rate_limited', 200_000])
    expect(take('m', 60_000)).toBe(0)
  })

  it('remembers a bounded number of models, and forgets what is over first', () => {
    const { ring, take } = ringOf(1)
    ring.failed(0, 'first', limited(200_000), 0)
    for (let n = 0; n < 999; n++) ring.failed(0, `short ${n}`, limited(1_000), 0)
    ring.failed(0, 'late', limited(200_000), 1_000)
    expect([take('first', 1_000), take('late', 1_000)]).toEqual([
      ['upstream_rate_limited', 199_000],
      ['upstream_rate_limited', 200_000],
    ])
    for (let n = 0; n < 998; n++) ring.failed(0, `long ${n}`, limited(200_000), 1_000)
    expect(take('first', 1_000)).toEqual(['upstream_rate_limited', 199_000])
    ring.failed(0, 'one more', limited(200_000), 1_000)
    expect([take('first', 1_000), take('late', 1_000)]).toEqual([0, ['upstream_rate_limited', 200_000]])
  })

  it('never gives a key for a model within a cooldown, and always one outside', () => {
    const step = fc.record({
      waitMs: fc.integer({ min: 0, max: 3_000 }),
      model: fc.constantFrom('m', 'n'),
      fails: fc.option(fc.integer({ min: 0, max: 5_000 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 100 }), (keys, steps) => {
        const { ring, take } = ringOf(keys)
        const until = new Map<string, number>()
        let now = 0
        for (const { waitMs, model, fails } of steps) {
          now += waitMs
          const ends = Array.from({ length: keys }, (_, key) => until.get(`${key} ${model}`) ?? 0)
          const taken = take(model, now)
          if (typeof taken !== 'number') {
            expect(taken).toEqual(['upstream_rate_limited', Math.min(...ends) - now])
            expect(Math.min(...ends) - now).toBeGreaterThan(25)
            continue
          }
          expect((ends[taken] as number) - now).toBeLessThanOrEqual(25)
          if (fails !== undefined) ring.failed(taken, model, limited(fails), now)
          if (fails !== undefined) until.set(`${taken} ${model}`, Math.max(ends[taken] as number, now + fails))
        }
      }),
    )
  })
})

/** The way to Claude with a clock of the test's own. */
function upstreamAt(baseUrl: string, apiKeys: string[] = ['one']) {
  vi.useFakeTimers({ toFake: ['performance'] })
  const told: unknown[] = []
  const upstream = anthropicUpstream({
    apiKeys,
    onKeyRefused: (key, reason) => void told.push([key, reason]),
    baseUrl,
    connectTimeoutMs: 1_000,
    maxEventBytes: 1_000_000,
    forwardTimeoutMs: 1_000,
    log: { warn: () => {} },
  })
  onTestFinished(async () => {
    vi.useRealTimers()
    await upstream.close()
  })
  async function ask(model: string): Promise<SluiceError | undefined> {
    const request: MessageRequest = { model, max_tokens: 5, messages: [{ role: 'user', content: 'hello' }] }
    try {
      const stream = await upstream.open(request, new AbortController().signal)
      stream.abandon()
      return undefined
    } catch (thrown) {
      return thrown as SluiceError
    }
  }
  return { upstream, ask, told }
}

async function simulator() {
  const simulator = await Simulator.start()
  onTestFinished(() => simulator.close())
  return simulator
}

describe('anthropicUpstream', () => {
  it.each<[ErrorCode, Record<string, string | number>, number]>([
    ['upstream_rate_limited', { status: 429, retry_after: '7' }, 7_000],
    ['upstream_rate_limited', { status: 429 }, 1_000],
    ['upstream_overloaded', { status: 529, retry_after: '7' }, 7_000],
  ])('asks nothing more of a key that got %s until it may: %j', async (code, scenario, forMs) => {
    const claude = await simulator()
    const { ask } = upstreamAt(claude.url)
    const model = sim({ ...scenario, fail_first: 1 })
    expect(await ask(model)).toMatchObject({ code, reason: String(scenario['status']), retryAfterMs: forMs })
    vi.advanceTimersByTime(forMs - 100)
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => ask(model)))
    expect(claude.requests.length).toBe(1)
    for (const answer of answers) expect(answer).toMatchObject({ code, reason: 'cooldown', retryAfterMs: 100 })
    expect(await ask('claude-sim')).toBeUndefined()
    vi.advanceTimersByTime(100)
    expect([await ask(model), await ask(model), claude.requests.length]).toEqual([undefined, undefined, 4])
  })

  it('goes on asking after a spending limit and an overload without a time', async () => {
    const claude = await simulator()
    const { ask } = upstreamAt(claude.url)
    for (const scenario of [{ status: 429, error_code: 'enforced_spend_limit_reached' }, { status: 529 }]) {
      const first = await ask(sim(scenario))
      expect((await ask(sim(scenario)))?.reason).toBe(first?.reason)
    }
    expect(claude.requests.length).toBe(4)
  })

  it('sends each key in its turn, and not the one that is refused', async () => {
    const used: unknown[] = []
    const url = await serve((request, response) => {
      const key = request.headers.authorization?.replace('Bearer ', '')
      used.push(key)
      if (key === 'bad') response.writeHead(401).end('{}')
      else response.writeHead(200, { 'content-type': 'text/event-stream' }).end()
    })
    const { ask, told } = upstreamAt(url, ['one', 'bad', 'two'])
    const answers = []
    for (let n = 0; n < 6; n++) answers.push(await ask('m'))
    expect(used).toEqual(['one', 'bad', 'two', 'one', 'two', 'one'])
    expect(answers.map((answer) => answer?.code)).toEqual([undefined, 'upstream_auth', ...Array(4).fill(undefined)])
    expect(answers[1]?.shouldRetry).toBe(true)
    expect(told).toEqual([[1, '401']])
  })

  it('holds a route that is limited back, and no other', async () => {
    const used: unknown[] = []
    const url = await serve((request, response) => {
      used.push(request.url)
      if (request.url === '/v1/models') response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
      else response.writeHead(429, { 'retry-after': '5' }).end('{}')
    })
    const { upstream } = upstreamAt(url)
    const count = () => upstream.forward('POST', '/v1/messages/count_tokens', { body: {} })
    await expect(count()).rejects.toMatchObject({ code: 'upstream_rate_limited', reason: '429', retryAfterMs: 5_000 })
    await expect(count()).rejects.toMatchObject({ code: 'upstream_rate_limited', reason: 'cooldown' })
    expect(await upstream.forward('GET', '/v1/models', {})).toEqual({})
    expect(used).toEqual(['/v1/messages/count_tokens', '/v1/models'])
  })
})

it('says in the log which key is refused by its number, and nowhere what it is', async () => {
  const keys = ['sk-one-1111', 'sk-two-2222']
  const rig = await startRig({ env: { ANTHROPIC_API_KEY: keys.join(',') } })
  const model = sim({ status: 401, fail_first: 1 })
  const ask = () => fetch(`${rig.url}/stream?${new URLSearchParams({ model, prompt: 'hello', format: 'text' })}`)
  for (let n = 0; n < 3; n++) await (await ask()).text()
  const sent = rig.simulator.requests.map(({ headers }) => headers.authorization)
  expect(sent).toEqual([keys[0], keys[1], keys[1]].map((key) => `Bearer ${key}`))
  const lines = rig.log.filter(({ level }) => level === 'warn')
  expect(lines).toMatchObject([{ key: 1, keys: 2, reason: '401' }])
  for (const key of keys) expect(JSON.stringify(rig.log)).not.toContain(key)
})
