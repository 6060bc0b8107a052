import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TerminalEvent } from '../../src/core/events.ts'
import type { LogStore, StreamLog } from '../../src/core/ports.ts'
import { newStreamId } from '../../src/core/position.ts'
import { eventually } from '../support/client.ts'
import { done, failed, start } from '../support/logs.ts'
import { owner, type Replicas, soonMs, stopped, storePlaces, text } from './stores.ts'

const { places, close } = storePlaces()
afterAll(close)

interface Names {
  readonly id?: string
  readonly principal?: string
  readonly alias?: string
  readonly key?: string
}

async function begin(store: LogStore, { id = newStreamId(), ...names }: Names = {}): Promise<StreamLog> {
  const log = store.create(id, { owner: owner(), ...names })
  await log.append([start])
  return log
}

/** Claims the key as a run does, and begins what it claimed. */
async function beginWithKey(store: LogStore, key: string, alias?: string): Promise<StreamLog> {
  const id = newStreamId()
  expect(await store.claim(key, { id, fingerprint: 'print', alias })).toBeUndefined()
  return begin(store, { id, key, ...(alias !== undefined && { alias }) })
}

const newKey = () => `key ${newStreamId()} \n*:{é}`
const claim = (store: LogStore, key: string) => store.claim(key, { id: newStreamId(), fingerprint: 'other' })

/** It came to nothing: none of the answer had been sent. */
const nothing: TerminalEvent = { ...failed, partial: false }
/** So it did, but Claude may be at work on it still. */
const late: TerminalEvent = { ...failed, partial: false, error: { ...failed.error, code: 'upstream_timeout' } }
const left: TerminalEvent = { ...stopped, by: 'client' }

describe.each(places)('logs $name', ({ open }) => {
  let replicas: Replicas
  let writer: LogStore
  let reader: LogStore
  beforeAll(async () => {
    replicas = await open({ retentionMs: 60_000, keyTtlMs: 60_000 })
    writer = replicas.writer
    reader = replicas.reader
  })

  it('are found by their ids, and nothing else is', async () => {
    const log = await begin(writer)
    expect((await reader.find(log.id))?.id).toBe(log.id)
    await log.append([done])
    expect((await reader.find(log.id))?.id).toBe(log.id)
    expect(await reader.find(newStreamId())).toBeUndefined()
    expect(await reader.findLive(log.id)).toBeUndefined()
    expect(reader.full).toBe(false)
  })

  it('are found by their other name while they are the latest of that name and live', async () => {
    const alias = `chat ${newStreamId()}\n*`
    const [first, second] = [await begin(writer, { alias }), await begin(writer, { alias })]
    expect((await reader.findLive(alias))?.id).toBe(second.id)
    await first.append([done])
    expect((await reader.findLive(alias))?.id).toBe(second.id)
    await second.append([done])
    expect(await reader.findLive(alias)).toBeUndefined()
    const third = await beginWithKey(writer, newKey(), alias)
    expect((await reader.findLive(alias))?.id).toBe(third.id)
    await third.append([stopped])
    expect(await reader.findLive(alias)).toBeUndefined()
  })

  it('keep whose they are, live and ended, with a key and without', async () => {
    const id = newStreamId()
    const key = newKey()
    expect(await writer.claim(key, { id, fingerprint: 'print', principal: 'bob' })).toBeUndefined()
    const all = [
      [await begin(writer, { principal: 'alice' }), 'alice'],
      [await begin(writer, { id, key, principal: 'bob' }), 'bob'],
      [await begin(writer), ''],
    ] as const
    for (const [log, principal] of all) {
      expect([log.principal, (await reader.find(log.id))?.principal]).toEqual([principal, principal])
      await log.append([text(1), done])
      expect([log.principal, (await reader.find(log.id))?.principal]).toEqual([principal, principal])
    }
  })

  it('have no other name once they were begun and ended in one batch', async () => {
    const alias = `chat ${newStreamId()}`
    await writer.create(newStreamId(), { owner: owner(), alias }).append([start, text(1), done])
    expect(await reader.findLive(alias)).toBeUndefined()
  })

  it('are begun once by a key, whoever claims it in the same moment', async () => {
    for (let round = 0; round < 4; round++) {
      const key = newKey()
      const ids = Array.from({ length: 50 }, newStreamId)
      const claims = await Promise.all(
        ids.map((id, n) => (n % 2 === 0 ? writer : reader).claim(key, { id, fingerprint: `of_${id}` })),
      )
      const winners = ids.filter((_, n) => claims[n] === undefined)
      expect(winners).toHaveLength(1)
      const [winner] = winners
      for (const earlier of claims.filter((each) => each !== undefined))
        expect(earlier).toEqual({ id: winner, fingerprint: `of_${winner}` })
    }
  })

  it('are given by their keys, live and ended, with what they were claimed for', async () => {
    const key = newKey()
    const log = await beginWithKey(writer, key)
    const known = { id: log.id, fingerprint: 'print' }
    expect(await claim(reader, key)).toEqual(known)
    await log.append([text(1), done])
    expect(await claim(reader, key)).toEqual(known)
    expect(await claim(writer, key)).toEqual(known)
    expect(await (await reader.find(log.id))?.history()).toEqual([start, text(1), done])
  })

  it.each([
    ['keep', 'done', [text(1), done]],
    ['keep', 'partly failed', [text(1), failed]],
    ['keep', 'left after a piece', [text(1), left]],
    ['keep', 'stopped', [stopped]],
    ['free', 'failed at once', [nothing]],
    ['keep', 'left at once', [left]],
    ['keep', 'too slow at once', [late]],
  ] as const)('%s their key when they are %s', async (what, _, events) => {
    const key = newKey()
    const log = await beginWithKey(writer, key)
    await log.append(events)
    if (what === 'free') return void (await eventually(async () => !(await claim(reader, key)), soonMs))
    expect((await claim(reader, key))?.id).toBe(log.id)
  })

  it('leave a key alone that has become that of another', async () => {
    const key = newKey()
    const first = await beginWithKey(writer, key)
    // As when the key has run out meanwhile.
    const other = await begin(writer, { key })
    await other.append([nothing])
    await eventually(async () => (await reader.find(other.id))?.terminal(), soonMs)
    expect((await claim(reader, key))?.id).toBe(first.id)
    await first.append([done])
    expect((await claim(reader, key))?.id).toBe(first.id)
  })

  it('are kept for their time once they have ended, those with a key for as long as the key', async () => {
    const short = await open({ retentionMs: 300, keyTtlMs: 60_000 })
    const withKey = await beginWithKey(short.writer, newKey())
    await withKey.append([done])
    const cameToNothing = await beginWithKey(short.writer, newKey())
    await cameToNothing.append([nothing])
    const live = await begin(short.writer)
    const plain = await begin(short.writer)
    await plain.append([done])
    // Each look from another replica keeps what it found at hand for a while: none until the writer's own is gone.
    for (const { id } of [plain, cameToNothing]) {
      await eventually(async () => !(await short.writer.find(id)), soonMs)
      expect(await eventually(async () => (await short.reader.find(id)) === undefined, soonMs)).toBe(true)
    }
    expect(await (await short.reader.find(withKey.id))?.history()).toEqual([start, done])
    expect(await (await short.reader.find(live.id))?.history()).toEqual([start])
    await live.append([done])
  })

  it('are forgotten with their keys', async () => {
    const short = await open({ retentionMs: 300, keyTtlMs: 300 })
    const key = newKey()
    const log = await beginWithKey(short.writer, key)
    await log.append([done])
    const next = { id: newStreamId(), fingerprint: 'new' }
    await eventually(async () => !(await short.reader.claim(key, next)), soonMs)
    expect((await claim(short.writer, key))?.id).toBe(next.id)
  })
})
