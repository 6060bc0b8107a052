import { describe, expect, it } from 'vitest'
import { costOf, estimateUsage, mergeUsage, noUsage, type Price } from '../../src/core/usage.ts'

describe('mergeUsage', () => {
  it('takes what the update has and keeps what it lacks', () => {
    const seen = { input_tokens: 10, output_tokens: 1, cache_read_input_tokens: 5 }
    const update = { output_tokens: 7, server_tool_use: { web_search_requests: 1 } }
    expect(mergeUsage(seen, update)).toEqual({ ...seen, ...update })
  })

  it('never lets null or undefined wipe a count', () => {
    const seen = { input_tokens: 10, output_tokens: 1 }
    const update = { input_tokens: null, output_tokens: undefined, cache_creation_input_tokens: null }
    expect(mergeUsage(seen, update)).toEqual(seen)
  })

  it.each([null, undefined, {}])('is unmoved by %s', (update) => {
    expect(mergeUsage(noUsage, update)).toEqual({ input_tokens: 0, output_tokens: 0 })
  })

  it('lets zero overwrite, and leaves its arguments alone', () => {
    const seen = Object.freeze({ input_tokens: 10, output_tokens: 3 })
    expect(mergeUsage(seen, Object.freeze({ output_tokens: 0 }))).toEqual({ input_tokens: 10, output_tokens: 0 })
  })
})

describe('estimateUsage', () => {
  it.each([
    [0, 0, 0],
    [0, 1, 1],
    [0, 400, 100],
    [0, 401, 101],
    [120, 400, 120],
    [3, 40, 10],
  ])('makes of %i reported tokens and %i characters %i tokens, marked as not measured', (reported, characters, expected) => {
    const usage = estimateUsage({ input_tokens: 9, output_tokens: reported }, characters)
    expect(usage).toEqual({ input_tokens: 9, output_tokens: expected, measured: false })
  })
})

describe('costOf', () => {
  const price: Price = { input: 3, output: 15, cache_read: 0.3, cache_write_5m: 3.75, cache_write_1h: 6 }
  const million = 1_000_000

  it('knows no cost without a price, rather than a cost of nothing', () => {
    expect(costOf(noUsage, undefined)).toBeNull()
    expect(costOf(noUsage, price)).toBe(0)
  })

  it.each([
    [{ input_tokens: million, output_tokens: 0 }, 3],
    [{ input_tokens: 0, output_tokens: million }, 15],
    [{ input_tokens: 0, output_tokens: 0, cache_read_input_tokens: million }, 0.3],
    [{ input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: million }, 3.75],
    [
      {
        input_tokens: 0,
        output_tokens: 0,
        cache_creation_input_tokens: million,
        cache_creation: { ephemeral_1h_input_tokens: million },
      },
      6,
    ],
    [
      {
        input_tokens: 0,
        output_tokens: 0,
        cache_creation_input_tokens: 2 * million,
        cache_creation: { ephemeral_1h_input_tokens: million },
      },
      9.75,
    ],
    [
      {
        input_tokens: 0,
        output_tokens: 0,
        cache_creation_input_tokens: million,
        cache_creation: { ephemeral_1h_input_tokens: 2 * million },
      },
      6,
    ],
    [{ input_tokens: million, output_tokens: million, cache_read_input_tokens: null, cache_creation: null }, 18],
  ])('charges %j', (usage, dollars) => {
    expect(costOf(usage, price)).toBeCloseTo(dollars, 9)
  })
})
