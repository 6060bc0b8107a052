import { describe, expect, it } from 'vitest'
import { newStreamId } from '../../../src/core/position.ts'
import { eventually } from '../../support/client.ts'
import { done, start } from '../../support/logs.ts'
import { startRedis } from '../../support/redis.ts'
import { ended, found, newPrefix, owner, readEagerly, soonMs, testStore, text } from '../stores.ts'

describe('a Redis that lets nobody in', () => {
  async function tryWith(password: string | undefined) {
    await using locked = await startRedis({ settings: { requirepass: 'secret' } })
    const url = password === undefined ? locked.url : locked.url.replace('//', `//:${password}@`)
    const prefix = newPrefix()
    const near = await testStore({ prefix, url })
    const openedAt = performance.now()
    const log = near.store.create(newStreamId(), { owner: owner() })
    const reader = readEagerly(log)
    await log.append([start, text(1)])
    expect(log.append([text(2)])).toBeUndefined()
    expect(reader.seen).toEqual([start, text(1), text(2)])
    expect(log.shared).toBe(false)
    await expect(near.store.find(newStreamId())).rejects.toMatchObject({ code: 'store_unavailable' })
    await expect(near.store.claim('key', { id: newStreamId(), fingerprint: 'f' })).rejects.toMatchObject({
      code: 'store_unavailable',
    })
    // Long enough for a connection that never comes up to be given up for another.
    await eventually(() => performance.now() - openedAt > 3_500, soonMs)
    expect(near.warnings.length).toBeGreaterThan(0)
    expect(near.warnings.join()).not.toContain('wrong')
    await locked.command('CONFIG', 'SET', 'requirepass', password ?? '')
    await eventually(() => log.shared, soonMs)
    await log.append([done])
    expect(reader.seen).toEqual([start, text(1), text(2), done])
    const far = await testStore({ prefix, url })
    const there = await found(far.store, log.id)
    await ended(there)
    expect(await there.history()).toEqual(reader.seen)
  }

  it('is like none, until it lets one in', async () => {
    await Promise.all([tryWith(undefined), tryWith('wrong')])
  })
})
