import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Expiry } from '../../src/log/expiry.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

function expiry(afterMs: number) {
  const gone: string[] = []
  return { gone, of: new Expiry<string>(afterMs, (item) => void gone.push(item)) }
}

describe('an expiry', () => {
  it('forgets each thing at its own time, in the order they came', () => {
    const { gone, of } = expiry(1_000)
    of.add('a')
    vi.advanceTimersByTime(300)
    of.add('b')
    of.add('c')
    expect(of.oldest).toBe('a')
    vi.advanceTimersByTime(699)
    expect(gone).toEqual([])
    vi.advanceTimersByTime(2)
    expect(gone).toEqual(['a'])
    expect(of.oldest).toBe('b')
    vi.advanceTimersByTime(300)
    expect(gone).toEqual(['a', 'b', 'c'])
    expect(of.oldest).toBeUndefined()
  })

  it('has one timer however much it holds, and none when it holds nothing', () => {
    const { gone, of } = expiry(1_000)
    expect(vi.getTimerCount()).toBe(0)
    for (let n = 0; n < 100; n++) of.add(String(n))
    expect(vi.getTimerCount()).toBe(1)
    vi.advanceTimersByTime(1_001)
    expect(gone).toHaveLength(100)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('leaves alone what was taken out before its time', () => {
    const { gone, of } = expiry(1_000)
    for (const each of ['a', 'b', 'c']) of.add(each)
    of.delete('a')
    of.delete('never there')
    expect(of.oldest).toBe('b')
    of.delete('c')
    vi.advanceTimersByTime(2_000)
    expect(gone).toEqual(['b'])
  })

  it('lets its callback add and take out', () => {
    const gone: string[] = []
    const of = new Expiry<string>(1_000, (item) => {
      gone.push(item)
      if (item === 'a') {
        of.delete('b')
        of.add('d')
      }
    })
    for (const each of ['a', 'b', 'c']) of.add(each)
    vi.advanceTimersByTime(1_001)
    expect(gone).toEqual(['a', 'c'])
    vi.advanceTimersByTime(1_001)
    expect(gone).toEqual(['a', 'c', 'd'])
  })

  it('says nothing once it is closed', () => {
    const { gone, of } = expiry(1_000)
    of.add('a')
    of.close()
    expect(vi.getTimerCount()).toBe(0)
    expect(of.oldest).toBeUndefined()
    vi.advanceTimersByTime(5_000)
    expect(gone).toEqual([])
  })

  it('keeps nothing longer, and lets nothing go sooner, than it was told', () => {
    const what = fc.record({ wait: fc.integer({ min: 0, max: 400 }), take: fc.option(fc.nat(30)) })
    fc.assert(
      fc.property(fc.array(what, { maxLength: 30 }), fc.integer({ min: 1, max: 500 }), (steps, afterMs) => {
        const ends = new Map<string, number>()
        const lateness: number[] = []
        const of = new Expiry<string>(afterMs, (item) => {
          lateness.push(performance.now() - (ends.get(item) ?? Number.NaN))
          ends.delete(item)
        })
        for (const [n, { wait, take }] of steps.entries()) {
          vi.advanceTimersByTime(wait)
          of.add(String(n))
          ends.set(String(n), performance.now() + afterMs)
          if (take === null) continue
          of.delete(String(take))
          ends.delete(String(take))
        }
        vi.advanceTimersByTime(afterMs + 2)
        expect([...ends.keys()]).toEqual([])
        for (const late of lateness) {
          expect(late).toBeGreaterThanOrEqual(0)
          expect(late).toBeLessThanOrEqual(2)
        }
        expect(vi.getTimerCount()).toBe(0)
      }),
    )
  })
})
