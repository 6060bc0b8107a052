import { describe, expect, it, vi } from 'vitest'
import { SluiceError } from '../../src/core/errors.ts'
import type { LogStore, StreamLog } from '../../src/core/ports.ts'
import { eventually } from '../support/client.ts'
import { start } from '../support/logs.ts'
import { asked, complete, failing, newStore, newStreams, slowToClaim } from './fakes.ts'

const nobody = { onReaders() {}, async onStop() {}, onFenced() {} }
const never = () => new AbortController().signal

describe('draining', () => {
  it('is over at once when nothing is under way', async () => {
    await newStreams().streams.drain(60_000, never())
  })

  it('waits for the runs', async () => {
    const all = newStreams()
    await all.streams.begin(asked())
    await eventually(() => all.upstream.answers.length === 1)
    const drained = all.streams.drain(60_000, never())
    await complete(all)
    await drained
    expect(all.reports.map(({ terminal }) => terminal.type)).toEqual(['done'])
  })

  it('waits for claims under way, and for what they become', async () => {
    const { store, answer } = slowToClaim()
    const all = newStreams({ store })
    const begun = all.streams.begin(asked({ key: 'key' }))
    const over = vi.fn()
    const drained = all.streams.drain(60_000, never()).then(over)
    answer()
    expect((await begun).run).toBeDefined()
    await eventually(() => all.upstream.answers.length === 1)
    expect(over).not.toHaveBeenCalled()
    await complete(all)
    await drained
    expect(all.reports.map(({ terminal }) => terminal.type)).toEqual(['done'])
  })

  it('is over when the last claim comes to nothing', async () => {
    const { store, fail } = slowToClaim()
    const all = newStreams({ store })
    const begun = all.streams.begin(asked({ key: 'key' }))
    const drained = all.streams.drain(60_000, never())
    fail(new SluiceError('store_unavailable'))
    await expect(begun).rejects.toMatchObject({ code: 'store_unavailable' })
    await drained
    expect(all.upstream.answers).toEqual([])
  })

  it('begins nothing once it is over', async () => {
    const { store, answer } = slowToClaim()
    const all = newStreams({ store })
    const begun = all.streams.begin(asked({ key: 'key' }))
    await all.streams.drain(0, never())
    answer()
    await expect(begun).rejects.toMatchObject({ code: 'shutting_down' })
    expect(all.streams.live).toBe(0)
  })

  it.each(['its time is up', 'it is told to hurry', 'it was told before'])('ends the runs when %s', async (when) => {
    const all = newStreams()
    const { log } = await all.streams.begin(asked())
    await eventually(() => all.upstream.answers.length === 1)
    const hurry = new AbortController()
    if (when === 'it was told before') hurry.abort()
    const drained = all.streams.drain(when === 'its time is up' ? 10 : 60_000, hurry.signal)
    hurry.abort()
    await drained
    expect(await log.terminal()).toMatchObject({ type: 'error', error: { code: 'shutting_down' }, partial: false })
    expect(all.upstream.answers[0]?.aborted).toBe(true)
    expect(all.streams.live).toBe(0)
  })

  it('leaves behind a run that cannot end', async () => {
    const store = newStore()
    const stuck: LogStore = {
      ...store,
      create(id, options) {
        const log = store.create(id, options)
        log.append = () => new Promise(() => {})
        return log
      },
    }
    const all = newStreams({ store: stuck })
    await all.streams.begin(asked())
    await all.streams.drain(0, never())
    expect(all.streams.live).toBe(1)
  })
})

describe('a defect', () => {
  it.each(['start', 'done'])('in storing %s is told, and ends the run', async (bad) => {
    const all = newStreams({ store: failing((type) => type === bad) })
    const { run } = await all.streams.begin(asked())
    if (bad === 'done') {
      await eventually(() => all.upstream.answers.length === 1)
      all.upstream.answers[0]?.complete()
    }
    await eventually(() => all.streams.live === 0)
    await expect(run?.ended).rejects.toThrow('defect')
    expect(all.faults).toEqual([expect.objectContaining({ message: 'defect' })])
    expect(all.reports).toEqual([])
    // Others go on, and it is not looked at any more.
    expect(all.sweep.size).toBe(0)
    await all.streams.drain(0, never())
  })

  it('before the first event is known to whoever waits for it', async () => {
    const all = newStreams({ store: failing((type) => type === 'start') })
    const { run } = await all.streams.begin(asked())
    await eventually(() => all.streams.live === 0)
    expect(await Promise.race([run?.opened, Promise.resolve('nobody told')])).toMatchObject({ code: 'internal' })
  })

  it('in storing the answer ends it with an error', async () => {
    const all = newStreams({ store: failing((type) => type === 'message_stop') })
    const { log } = await all.streams.begin(asked())
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
    expect(all.faults).toEqual([])
    expect(await log.terminal()).toMatchObject({ type: 'error', error: { code: 'internal' } })
    expect(all.sweep.size).toBe(0)
  })
})

describe('a log whose run is gone', () => {
  it('is brought to its end and reported', async () => {
    const all = newStreams()
    const log: StreamLog = all.store.create('s_orphan', { owner: nobody })
    await log.append([start])
    await all.streams.adopt(log)
    expect(await log.terminal()).toMatchObject({ type: 'error', error: { code: 'replica_lost' }, partial: false })
    expect(all.reports.map(({ stream }) => stream)).toEqual(['s_orphan'])
    expect(all.faults).toEqual([])
  })

  it('and cannot be ended is told of', async () => {
    const all = newStreams({ store: failing((type) => type === 'error') })
    await all.streams.adopt(all.store.create('s_orphan', { owner: nobody }))
    expect(all.faults).toEqual([expect.objectContaining({ message: 'defect' })])
    expect(all.reports).toEqual([])
  })
})
