import { describe, expect, it, vi } from 'vitest'
import { SluiceError } from '../../src/core/errors.ts'
import type { LogStore } from '../../src/core/ports.ts'
import { eventually } from '../support/client.ts'
import { asked, complete, newStore, newStreams, slowToClaim } from './fakes.ts'

describe('admission', () => {
  it.each(['with', 'without'])('lets in as many as there may be, %s keys', async (how) => {
    const all = newStreams({ maxStreams: 2 })
    const key = (n: number) => (how === 'with' ? { key: `key ${n}` } : {})
    await all.streams.begin(asked(key(1)))
    await all.streams.begin(asked(key(2)))
    expect(all.streams.live).toBe(2)
    await expect(all.streams.begin(asked(key(3)))).rejects.toMatchObject({
      code: 'too_many_streams',
      retryAfterMs: 1_000,
    })
    expect(all.upstream.answers).toHaveLength(2)
    await complete(all)
    const { run } = await all.streams.begin(asked(key(3)))
    expect(run).toBeDefined()
    await eventually(() => all.upstream.answers.length === 3)
    await complete(all)
    expect(all.reports.map(({ terminal }) => terminal.type)).toEqual(['done', 'done', 'done'])
  })

  it('counts a claim as the run that it may become', async () => {
    const { store, answer } = slowToClaim()
    const all = newStreams({ maxStreams: 1, store })
    const first = all.streams.begin(asked({ key: 'a' }))
    await expect(all.streams.begin(asked({ key: 'b' }))).rejects.toMatchObject({ code: 'too_many_streams' })
    expect(() => all.streams.start(asked())).toThrow(expect.objectContaining({ code: 'too_many_streams' }))
    answer({ id: 's_gone', fingerprint: 'of another request' })
    await expect(first).rejects.toMatchObject({ code: 'key_reused' })
    all.streams.start(asked())
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
  })

  it.each<[string, object, object]>([
    ['the store is full', { store: { ...newStore(), full: true } }, { code: 'too_many_streams', retryAfterMs: 1_000 }],
    ['the process is', { pressure: { reason: 'heap' } }, { code: 'too_many_streams', reason: 'heap' }],
  ])('refuses while %s, before anybody is asked', async (_, options, error) => {
    const { streams, upstream, store } = newStreams(options)
    const claim = vi.spyOn(store, 'claim')
    await expect(streams.begin(asked())).rejects.toMatchObject(error)
    await expect(streams.begin(asked({ key: 'key' }))).rejects.toMatchObject(error)
    expect(claim).not.toHaveBeenCalled()
    expect(upstream.answers).toEqual([])
  })

  it('refuses once it drains, and still finds what there is', async () => {
    const all = newStreams()
    const { log } = await all.streams.begin(asked({ alias: 'chat', key: 'key' }))
    all.streams.refuse()
    expect(all.streams.draining).toBe(true)
    for (const options of [{}, { key: 'key' }, { key: 'new' }]) {
      await expect(all.streams.begin(asked(options))).rejects.toMatchObject({
        code: 'shutting_down',
        retryAfterMs: 1_000,
      })
    }
    expect(await all.streams.find(log.id, '')).toBe(log)
    expect(await all.streams.findLive('chat', '')).toBe(log)
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
  })
})

describe('a key', () => {
  it('gives the stream that it began, to the same request', async () => {
    const all = newStreams()
    const create = vi.spyOn(all.store, 'create')
    const first = await all.streams.begin(asked({ key: 'key', alias: 'chat' }))
    const again = await all.streams.begin(asked({ key: 'key' }))
    expect(again).toEqual({ log: first.log, run: undefined })
    expect(create.mock.calls.map(([id, { key, alias }]) => ({ id, key, alias }))).toEqual([
      { id: first.log.id, key: 'key', alias: 'chat' },
    ])
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
    const later = await all.streams.begin(asked({ key: 'key' }))
    expect((await later.log.terminal())?.type).toBe('done')
    expect(later.run).toBeUndefined()
    expect(all.upstream.answers).toHaveLength(1)
  })

  it('begins one run however many ask at once', async () => {
    const all = newStreams({ maxStreams: 100 })
    const begun = await Promise.all(Array.from({ length: 50 }, () => all.streams.begin(asked({ key: 'key' }))))
    expect(new Set(begun.map(({ log }) => log.id)).size).toBe(1)
    expect(begun.filter(({ run }) => run)).toHaveLength(1)
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
  })

  it('tells its claim the stream, the other name and the request, and nothing that it says', async () => {
    const all = newStreams()
    const claim = vi.spyOn(all.store, 'claim')
    const { log } = await all.streams.begin(asked({ key: 'key', alias: 'chat', prompt: 'secret' }))
    const [key, claimed] = claim.mock.calls[0] ?? []
    expect(key).toBe('key')
    expect(claimed).toEqual({
      id: log.id,
      principal: '',
      alias: 'chat',
      fingerprint: expect.stringMatching(/^[\w-]{43}$/),
    })
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
  })

  it('is refused to another request', async () => {
    const all = newStreams()
    await all.streams.begin(asked({ key: 'key' }))
    await expect(all.streams.begin(asked({ key: 'key', prompt: 'Another?' }))).rejects.toMatchObject({
      code: 'key_reused',
    })
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
    expect(all.upstream.answers).toHaveLength(1)
  })

  it('whose stream is not held any more is no new question', async () => {
    const gone: LogStore = { ...newStore(), find: async () => undefined }
    const all = newStreams({ store: gone })
    await all.streams.begin(asked({ key: 'key' }))
    await expect(all.streams.begin(asked({ key: 'key' }))).rejects.toMatchObject({ code: 'resume_unavailable' })
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
    expect(all.upstream.answers).toHaveLength(1)
  })

  it.each(['claim', 'find'] as const)('that nobody can tell of buys nothing: %s fails', async (what) => {
    const fail = async () => {
      throw new SluiceError('store_unavailable', { retryAfterMs: 1_000 })
    }
    const all = newStreams({ maxStreams: 2, store: { ...newStore(), [what]: fail } })
    if (what === 'find') await all.streams.begin(asked({ key: 'key' }))
    for (let n = 0; n < 3; n++) {
      await expect(all.streams.begin(asked({ key: 'key' }))).rejects.toMatchObject({ code: 'store_unavailable' })
    }
    expect(all.streams.live).toBe(what === 'find' ? 1 : 0)
    // Those without a key need no such word.
    expect((await all.streams.begin(asked())).run).toBeDefined()
    const runs = what === 'find' ? 2 : 1
    await eventually(() => all.upstream.answers.length === runs)
    await complete(all)
    expect(all.upstream.answers).toHaveLength(runs)
  })
})
