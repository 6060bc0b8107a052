import { describe, expect, it } from 'vitest'
import type { Limits } from '../../src/core/caller.ts'
import { SluiceError } from '../../src/core/errors.ts'
import type { TerminalEvent } from '../../src/core/events.ts'
import type { More } from '../../src/core/limits.ts'
import type { RunReport } from '../../src/core/report.ts'
import { Book } from '../../src/limits/book.ts'
import { Limiter } from '../../src/limits/limiter.ts'
import { report } from '../support/reports.ts'
import { newName } from './places.ts'

const price = { input: 1, output: 10, cache_read: 0.1, cache_write_5m: 2, cache_write_1h: 4 }
const request = { model: 'known', max_tokens: 1_000, messages: [{ role: 'user', content: 'hi' }] }
const timing = { ttft_ms: null, duration_ms: 0, tokens_per_second: null }

function limiterOf(each: Limits, total: Limits = {}): Limiter {
  return new Limiter({ accounts: new Book(), each, total, prices: new Map([['known', price]]) })
}

const asking = (principal: string, limits?: Limits, ip = '192.0.2.1') => ({
  caller: { principal, key: '', limits },
  ip,
})

const reportOf = (stream: string, terminal: TerminalEvent, more: Partial<RunReport> = {}): RunReport => ({
  ...report,
  stream,
  model: 'known',
  terminal,
  costUsd: 0,
  timing,
  ...more,
})

const cancelled = (input_tokens: number, output_tokens: number): TerminalEvent => ({
  type: 'cancelled',
  by: 'client',
  usage: { input_tokens, output_tokens, cache_creation_input_tokens: 5, cache_read_input_tokens: 7 },
})

describe('a limiter', () => {
  it('covers only whom something limits', () => {
    const nobody = limiterOf({})
    expect(nobody.covers(asking('alice'))).toBe(false)
    expect(nobody.covers(asking('alice', {}))).toBe(false)
    expect(nobody.covers(asking('alice', { tokens_per_day: 1 }))).toBe(true)
    expect(limiterOf({}, { tokens_per_day: 1 }).covers(asking('alice'))).toBe(true)
  })

  it("takes a caller's own limits in the place of everybody's, field by field", async () => {
    const limiter = limiterOf({ requests_per_minute: 5, concurrent_streams: 5 })
    const standings = await limiter.look(asking('alice', { concurrent_streams: 9, tokens_per_day: 7 }))
    expect(standings.map(({ limit, allowed }) => [limit, allowed])).toEqual([
      ['requests_per_minute', 5],
      ['concurrent_streams', 9],
      ['tokens_per_day', 7],
    ])
  })

  it.each<[string, TerminalEvent, Partial<RunReport>, number, number]>([
    ['what was seen, caches and all', cancelled(100, 50), { costUsd: 0.000_25 }, 162, 250],
    [
      'nothing of what failed before Claude said anything',
      {
        type: 'error',
        error: new SluiceError('upstream_error').toPublic(),
        partial: false,
        usage: { input_tokens: 0, output_tokens: 0 },
        timing,
      },
      {},
      0,
      0,
    ],
    [
      'dollars as reserved, where the price of some of it is not known',
      cancelled(100, 50),
      { costUsd: null },
      162,
      10_010,
    ],
  ])('charges %s', async (_, terminal, more, tokens, microdollars) => {
    const limiter = limiterOf({ tokens_per_day: 1_000_000, usd_per_day: 1 })
    const stream = newName()
    await limiter.take(stream, asking('alice'), request)
    limiter.settle(reportOf(stream, terminal, more))
    const [inTokens, inDollars] = await limiter.look(asking('alice'))
    expect(1_000_000 - (inTokens?.left ?? 0)).toBe(tokens)
    // The rough estimate of its input is worth a few.
    expect(Math.abs(1e6 - (inDollars?.left ?? 0) * 1e6 - microdollars)).toBeLessThan(20)
  })

  it('settles what it has let in, and what another replica had, and no other stream', async () => {
    const settled: string[] = []
    const accounts = Object.assign(new Book(), { settle: (stream: string) => void settled.push(stream) })
    const limiter = new Limiter({ accounts, each: { concurrent_streams: 5 }, total: {}, prices: new Map() })
    await limiter.take('taken', asking('alice'), request)
    limiter.settle(reportOf('unlimited', cancelled(1, 1)))
    limiter.settleUnknown('unlimited')
    limiter.settle(reportOf('adopted', cancelled(1, 1), { adopted: true }))
    limiter.settle(reportOf('taken', cancelled(1, 1)))
    expect(settled).toEqual(['adopted', 'taken'])
  })

  it('asks for more only where something of a day is limited, and for what another replica had', async () => {
    const asked: string[] = []
    const accounts = Object.assign(new Book(), { takeMore: ({ stream }: More) => void asked.push(stream) })
    const limiter = new Limiter({ accounts, each: { concurrent_streams: 5 }, total: {}, prices: new Map() })
    await limiter.take('streams', asking('alice'), request)
    await limiter.take('tokens', asking('alice', { tokens_per_day: 5 }), request)
    const next = { request, usage: { input_tokens: 1, output_tokens: 1 }, costUsd: null }
    for (const stream of ['streams', 'tokens', 'unlimited']) await limiter.takeMore({ ...next, stream, adopted: false })
    await limiter.takeMore({ ...next, stream: 'adopted', adopted: true })
    expect(asked).toEqual(['tokens', 'adopted'])
  })

  it('refuses a next call as it refuses a stream, and says when it is the limit of all together', async () => {
    const limiter = limiterOf({ usd_per_day: 1 }, { usd_per_day: 0.01 })
    const stream = newName()
    await limiter.take(stream, asking('alice'), request)
    const next = { stream, adopted: false, request, usage: { input_tokens: 10, output_tokens: 900 } }
    await limiter.takeMore({ ...next, costUsd: 0.009_01 })
    const more = limiter.takeMore({ ...next, costUsd: 0.010_01 })
    await expect(more).rejects.toMatchObject({
      code: 'spend_limit_reached',
      message: expect.stringMatching(/all clients together/),
    })
  })

  it('charges what was reserved when a defect took the stream away, and nothing when it never began', async () => {
    const limiter = limiterOf({ tokens_per_day: 1_000_000, concurrent_streams: 2 })
    const [lost, never] = [newName(), newName()]
    for (const stream of [lost, never]) await limiter.take(stream, asking('alice'), request)
    limiter.settleUnknown(lost)
    limiter.giveBack(never)
    const [streams, tokens] = await limiter.look(asking('alice'))
    expect(streams?.left).toBe(2)
    expect(1_000_000 - (tokens?.left ?? 0)).toBeGreaterThan(1_000)
    expect(1_000_000 - (tokens?.left ?? 0)).toBeLessThan(1_050)
  })

  describe('of dollars, with requests that name more models than one', () => {
    const cheap = { input: 1, output: 1, cache_read: 1, cache_write_5m: 1, cache_write_1h: 1 }
    const dear = { ...cheap, input: 10, output: 50 }
    const prices = new Map([
      ['known', cheap],
      ['dear', dear],
    ])
    const open = () => new Limiter({ accounts: new Book(), each: { usd_per_day: 1 }, total: {}, prices })
    const take = (limiter: Limiter, more: object, stream = newName()) =>
      limiter.take(stream, asking('alice'), { ...request, ...more })

    it.each([
      ['a fallback', { fallbacks: [{ model: 'unknown' }] }],
      ['whichever Claude likes', { fallbacks: 'default' }],
      ['that of a tool', { tools: [{ type: 'advisor_20260301', name: 'advisor', model: 'unknown' }] }],
      ['another speed', { speed: 'fast' }],
      ['another speed of a fallback', { fallbacks: [{ model: 'dear', speed: 'fast' }] }],
    ])('refuses %s whose price it does not know', async (_, more) => {
      await expect(take(open(), more)).rejects.toMatchObject({ code: 'model_without_price' })
      const free = new Limiter({ accounts: new Book(), each: { tokens_per_day: 1e6 }, total: {}, prices })
      expect((await take(free, more)).refusal).toBeUndefined()
    })

    it('reserves and charges as if the dearest of them answered', async () => {
      const limiter = open()
      const spent = async () => 1e6 - ((await limiter.look(asking('alice')))[0]?.left ?? 0) * 1e6
      const stream = newName()
      await take(limiter, { fallbacks: [{ model: 'dear' }], speed: 'standard' }, stream)
      expect(await spent()).toBeGreaterThanOrEqual(request.max_tokens * dear.output)
      const terminal = { ...cancelled(100, 50), usage: { input_tokens: 100, output_tokens: 50 } }
      limiter.settle(reportOf(stream, terminal, { costUsd: 0.000_15 }))
      expect(await spent()).toBeCloseTo(100 * dear.input + 50 * dear.output, 3)
    })
  })
})
