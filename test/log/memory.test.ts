import fc from 'fast-check'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { newStreamId } from '../../src/core/position.ts'
import { memoryStore } from '../../src/log/memory.ts'
import { done, nobody, start } from '../support/logs.ts'
import { owner, readAll, texts } from './stores.ts'

describe('memoryStore', () => {
  function storeWithFakeClock(retentionMs: number) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const store = memoryStore({ retentionMs, keyTtlMs: 60_000, maxBytes: 1e9 })
    onTestFinished(() => store.close())
    return store
  }

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
    const cursor = log.cursor(nobody)
    log.append([start, done])
    vi.advanceTimersByTime(2_000)
    expect(await store.find('s')).toBeUndefined()
    expect(readAll(cursor)).toEqual([start, done])
  })

  it('keeps a key, and the log it began, for as long as it was told', async () => {
    const store = storeWithFakeClock(1_000)
    const claim = (id: string) => store.claim('key', { id, fingerprint: 'print' })
    await claim('first')
    store.create('first', { owner: owner(), key: 'key' }).append([start, done])
    vi.advanceTimersByTime(59_999)
    expect(await claim('second')).toEqual({ id: 'first', fingerprint: 'print' })
    expect(await store.find('first')).toBeDefined()
    vi.advanceTimersByTime(2)
    expect(await claim('second')).toBeUndefined()
    expect(await store.find('first')).toBeUndefined()
  })

  it('forgets finished logs early when there is no room, the oldest first, and those with keys last', async () => {
    const store = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 100_000 })
    onTestFinished(() => store.close())
    const held = async (ids: string[]) => (await Promise.all(ids.map((id) => store.find(id)))).map((log) => log?.id)
    const batch = [...texts(1_000), new Delta('text', 0, 'x'.repeat(30_000)), done]
    store.create('with key', { owner: owner(), key: 'key' }).append(batch)
    store.create('1', { owner: owner() }).append(batch)
    store.create('2', { owner: owner() }).append(batch)
    expect(await held(['with key', '1', '2'])).toEqual(['with key', undefined, '2'])
    expect(store.full).toBe(false)
    store.reserve(200_000)
    expect(await held(['with key', '1', '2'])).toEqual([undefined, undefined, undefined])
    expect(store.full).toBe(true)
    store.reserve(-200_000)
    expect(store.full).toBe(false)
  })

  it('is full while live logs take up all the room', () => {
    const store = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 100_000 })
    onTestFinished(() => store.close())
    const log = store.create('live', { owner: owner(), alias: 'chat' })
    log.append([...texts(1_000), new Delta('text', 0, 'x'.repeat(120_000))])
    expect(store.full).toBe(true)
    store.forget('live')
    expect(store.full).toBe(false)
    log.append([done])
    expect(store.full).toBe(false)
  })

  it('lets go of a live log and its other name, and not of a finished one', async () => {
    const store = storeWithFakeClock(1_000)
    const log = store.create('s', { owner: owner(), alias: 'chat' })
    const cursor = log.cursor(nobody)
    store.forget('s')
    expect(await store.find('s')).toBeUndefined()
    expect(await store.findLive('chat')).toBeUndefined()
    log.append([start, done])
    expect(readAll(cursor)).toEqual([start, done])
    expect(await store.find('s')).toBeUndefined()
    store.create('finished', { owner: owner() }).append([done])
    store.forget('finished')
    expect(await store.find('finished')).toBeDefined()
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
        const cursor = finished?.cursor(nobody)
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

it('makes room also where one name has had two finished logs', async () => {
  const store = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 4_000 })
  const fill = (id: string) =>
    store.create(id, { owner: owner() }).append([start, new Delta('text', 0, 'x'.repeat(2_000)), done])
  fill('twice')
  fill('twice')
  fill('other')
  expect(await store.find('twice')).toBeUndefined()
  expect(await store.find('other')).toBeDefined()
  expect(store.full).toBe(false)
  await store.close()
})

it('counts events that are kept as objects for a reader that lags, until it has them', () => {
  const store = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 100_000 })
  onTestFinished(() => store.close())
  const log = store.create('s_1', { owner: owner() })
  const cursor = log.cursor(nobody)
  log.append(Array.from({ length: 1_000 }, () => new Delta('text', 0, 'word')))
  // It may yet read them at once.
  expect(store.full).toBe(false)
  log.append(Array.from({ length: 1_000 }, () => new Delta('text', 0, 'word')))
  expect(store.full).toBe(true)
  while (cursor.next(512).length > 0);
  expect(store.full).toBe(false)
})
