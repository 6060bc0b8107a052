import fc from 'fast-check'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import type { Cursor, OwnerSignals } from '../../src/core/ports.ts'
import { newStreamId } from '../../src/core/position.ts'
import { memoryStore } from '../../src/log/memory.ts'
import { done, failed, start } from '../support/logs.ts'

const text = (n: number): LogEvent => new Delta('text', 0, String(n))

function owner() {
  const counts: number[] = []
  const signals = {
    onReaders: (count: number) => void counts.push(count),
    onStop: vi.fn(async () => {}),
    onFenced: () => {},
  } satisfies OwnerSignals
  return { ...signals, counts }
}

function newLog(signals: OwnerSignals = owner()) {
  return memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 1e9 }).create(newStreamId(), { owner: signals })
}

function readAll(cursor: Cursor, limit = 512): LogEvent[] {
  const events: LogEvent[] = []
  for (let next = cursor.next(limit); next.length > 0; next = cursor.next(limit)) events.push(...next)
  return events
}

describe('a log in memory', () => {
  it('shows every reader one history, in order, to the end', async () => {
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ do: fc.constant('append' as const), count: fc.constantFrom(0, 1, 2, 40, 100, 900) }),
      },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('open' as const), eager: fc.boolean() }) },
      {
        weight: 5,
        arbitrary: fc.record({
          do: fc.constant('read' as const),
          who: fc.nat(),
          limit: fc.integer({ min: 1, max: 600 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const), who: fc.nat() }) },
      { weight: 1, arbitrary: fc.constant({ do: 'history' as const }) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { counts, ...signals } = owner()
        const log = newLog(signals)
        const all: LogEvent[] = [start]
        log.append(all)
        const readers: { cursor: Cursor; seen: LogEvent[]; wakes: number; open: boolean }[] = []
        const openReaders = () => readers.filter(({ open }) => open)
        for (const step of steps) {
          if (step.do === 'append') {
            const batch = Array.from({ length: step.count }, (_, n) => text(all.length + n))
            all.push(...batch)
            const before = readers.map(({ wakes }) => wakes)
            log.append(batch)
            expect(readers.map(({ wakes }) => wakes)).toEqual(
              readers.map(({ open }, n) => (before[n] as number) + Number(open)),
            )
          } else if (step.do === 'open') {
            const reader = { seen: [] as LogEvent[], wakes: 0, open: true, cursor: undefined as unknown as Cursor }
            reader.cursor = log.cursor(() => {
              reader.wakes++
              if (step.eager) reader.seen.push(...readAll(reader.cursor))
            })
            readers.push(reader)
            expect(counts.at(-1)).toBe(openReaders().length)
          } else if (step.do === 'history') {
            expect(await log.history()).toEqual(all)
          } else {
            const reader = openReaders()[step.who % Math.max(1, openReaders().length)]
            if (step.do === 'read') reader?.seen.push(...reader.cursor.next(step.limit))
            else if (reader) {
              reader.open = false
              reader.cursor.close()
              expect(counts.at(-1)).toBe(openReaders().length)
            }
          }
          for (const { seen } of readers) expect(seen).toEqual(all.slice(0, seen.length))
        }
        all.push(done)
        log.append([done])
        for (const { cursor, seen } of openReaders()) expect([...seen, ...readAll(cursor, 7)]).toEqual(all)
        expect(readAll(log.cursor(() => {}))).toEqual(all)
        expect(await log.history()).toEqual(all)
        expect(() => log.append([text(0)])).toThrow(/sealed/)
        expect(await log.history()).toEqual(all)
        expect(counts).toHaveLength(2 * readers.length - openReaders().length)
      }),
      { numRuns: 100 },
    )
  })

  it('counts a reader until it closes, once, and history never', async () => {
    const { counts, ...signals } = owner()
    const log = newLog(signals)
    const [first, second] = [log.cursor(() => {}), log.cursor(() => {})]
    await log.history()
    first.close()
    first.close()
    second.close()
    expect(counts).toEqual([1, 2, 1, 0])
  })

  it('tells its owner nothing once it is sealed', () => {
    const { counts, ...signals } = owner()
    const log = newLog(signals)
    const early = log.cursor(() => {})
    log.append([start, done])
    log.cursor(() => {}).close()
    early.close()
    expect(counts).toEqual([1])
  })

  it('wakes each reader once a batch, after the events are there', () => {
    const log = newLog()
    const seen: number[] = []
    const cursor: Cursor = log.cursor(() => void seen.push(readAll(cursor).length))
    log.append([start, text(1), text(2)])
    log.append([text(3)])
    expect(seen).toEqual([3, 1])
  })

  it('lets readers come and go while it wakes them', () => {
    const { counts, ...signals } = owner()
    const log = newLog(signals)
    const cursor: Cursor = log.cursor(() => {
      cursor.close()
      log.cursor(() => {})
    })
    log.append([start])
    expect(counts).toEqual([1, 0, 1])
  })

  it.each([
    done,
    failed,
    { type: 'cancelled', by: 'stop', usage: { input_tokens: 0, output_tokens: 0 } } as const,
  ])('is sealed by %j', (terminal) => {
    const log = newLog()
    log.append([start, text(1)])
    log.append([text(2), terminal])
    expect(() => log.append([])).toThrow(/sealed/)
  })

  it('asks its owner to stop while it is live, and nobody afterwards', async () => {
    const signals = owner()
    const log = newLog(signals)
    await log.stop()
    expect(signals.onStop).toHaveBeenCalledTimes(1)
    log.append([done])
    await log.stop()
    expect(signals.onStop).toHaveBeenCalledTimes(1)
  })
})

describe('memoryStore', () => {
  function storeWithFakeClock(retentionMs: number) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const store = memoryStore({ retentionMs, keyTtlMs: 60_000, maxBytes: 1e9 })
    onTestFinished(() => store.close())
    return store
  }

  it('finds what it has made, and nothing else', async () => {
    const store = storeWithFakeClock(1_000)
    const log = store.create('s_1', { owner: owner() })
    expect(await store.find('s_1')).toBe(log)
    expect(await store.find('s_2')).toBeUndefined()
    expect(log.id).toBe('s_1')
  })

  it('keeps a finished log for as long as it was told, and a live one for ever', async () => {
    const store = storeWithFakeClock(1_000)
    const finished = store.create('finished', { owner: owner() })
    store.create('live', { owner: owner() }).append([start])
    vi.advanceTimersByTime(600)
    finished.append([start, done])
    vi.advanceTimersByTime(999)
    expect(await (await store.find('finished'))?.history()).toEqual([start, done])
    vi.advanceTimersByTime(2)
    expect(await store.find('finished')).toBeUndefined()
    vi.advanceTimersByTime(1_000_000)
    expect(await store.find('live')).toBeDefined()
  })

  it('forgets each log at its own time', async () => {
    const store = storeWithFakeClock(1_000)
    for (let n = 0; n < 5; n++) {
      store.create(`${n}`, { owner: owner() }).append([done])
      vi.advanceTimersByTime(100)
    }
    for (let n = 0; n < 5; n++) {
      vi.advanceTimersByTime(n === 0 ? 501 : 100)
      const held = await Promise.all([0, 1, 2, 3, 4].map((each) => store.find(`${each}`)))
      expect(held.map((log) => log !== undefined)).toEqual([0, 1, 2, 3, 4].map((each) => each > n))
    }
    expect(vi.getTimerCount()).toBe(0)
  })

  it('lets a reader finish a log that has been forgotten meanwhile', async () => {
    const store = storeWithFakeClock(1_000)
    const log = store.create('s', { owner: owner() })
    const cursor = log.cursor(() => {})
    log.append([start, done])
    vi.advanceTimersByTime(2_000)
    expect(await store.find('s')).toBeUndefined()
    expect(readAll(cursor)).toEqual([start, done])
  })

  it('leaves no timer behind when it closes', () => {
    const store = storeWithFakeClock(1_000)
    store.create('s', { owner: owner() }).append([done])
    expect(vi.getTimerCount()).toBe(1)
    store.close()
    expect(vi.getTimerCount()).toBe(0)
  })
})

it('gives a finished log back as it was, in pieces of any size', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'grapheme', maxLength: 400 })),
      fc.integer({ min: 1, max: 700 }),
      async (texts, limit) => {
        const store = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 1e9 })
        const live = store.create(newStreamId(), { owner: owner() })
        const events = [start, ...texts.map((text) => new Delta('text', 0, escapeJson(text))), done]
        for (const event of events) live.append([event])
        const finished = await store.find(live.id)
        const cursor = finished?.cursor(() => {})
        const read: LogEvent[] = []
        for (let some = cursor?.next(limit) ?? []; some.length > 0; some = cursor?.next(limit) ?? []) read.push(...some)
        expect(read).toEqual(events)
        expect(await finished?.history()).toEqual(events)
        expect(await finished?.terminal()).toEqual(done)
        expect(finished?.createdAt).toEqual(live.createdAt)
        store.close()
      },
    ),
  )
})
