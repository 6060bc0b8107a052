import { describe, expect, it, vi } from 'vitest'
import { SluiceError } from '../../src/core/errors.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { snapshot } from '../../src/core/message.ts'
import type { LogStore, OrphanLog, StreamLog } from '../../src/core/ports.ts'
import { eventually } from '../support/client.ts'
import { decode, start } from '../support/logs.ts'
import { asked, complete, failing, fakeUpstream, newStore, newStreams, noRecovery, slowToClaim } from './fakes.ts'

const nobody = { onReaders() {}, async onStop() {}, onDecision: async () => false, onFenced() {} }
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

describe('a further call', () => {
  const refused = new SluiceError('upstream_unreachable')
  const retry = { max_attempts: 1, budget_ms: 60_000, max_retry_after_ms: 0, after_timeout: false }

  it('is asked for when the first has failed, and is not made once the run is to end', async () => {
    const made: string[] = []
    const limiter = {
      takeMore: async () => {
        made.push('asked for')
        stop()
      },
    }
    const upstream = {
      ...fakeUpstream(),
      open: async () => {
        made.push('made')
        throw refused
      },
    }
    const { streams, reports } = newStreams({ upstream, limiter, policy: { ...noRecovery, retry } })
    const run = streams.start(asked())
    const stop = () => void run.onStop()
    await run.ended
    expect(made).toEqual(['made', 'asked for'])
    expect(reports).toMatchObject([{ terminal: { type: 'cancelled', by: 'stop' }, tries: [{ kind: 'first' }] }])
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

/** A log that any run may take over. */
const orphanOf = (log: StreamLog): OrphanLog => Object.assign(log, { own() {} })

const lostBody = [
  { type: 'message_start', message: { id: 'm', model: 'claude-test', usage: { input_tokens: 4, output_tokens: 1 } } },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Said: ' } },
]
  .map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
  .join('')

describe('a log whose run is gone', () => {
  it('is brought to its end and reported', async () => {
    const all = newStreams()
    const log = orphanOf(all.store.create('s_orphan', { owner: nobody }))
    await log.append([start])
    await all.streams.adopt(log, undefined)
    expect(await log.terminal()).toMatchObject({ type: 'error', error: { code: 'replica_lost' }, partial: false })
    expect(all.reports.map(({ stream }) => stream)).toEqual(['s_orphan'])
    expect(all.faults).toEqual([])
  })

  it('is to be gone on with under the preset that it was begun by', async () => {
    const policy = { ...noRecovery, recovery: { max_attempts: 1, prefill_models: [] } }
    const all = newStreams({ policy })
    const create = vi.spyOn(all.store, 'create')
    await all.streams.begin(asked({ preset: 'support' }))
    const { request, onDisconnect, requestId } = asked()
    const plan = create.mock.calls[0]?.[1].plan?.()
    expect(JSON.parse(plan ?? '')).toEqual({ request, onDisconnect, requestId, preset: 'support' })
    await eventually(() => all.upstream.answers.length === 1)
    await complete(all)
    expect(all.reports).toMatchObject([{ preset: 'support' }])
  })

  it('is gone on with where that is allowed', async () => {
    const policy = { ...noRecovery, recovery: { max_attempts: 1, prefill_models: [] } }
    const all = newStreams({ policy })
    const log = orphanOf(all.store.create('s_orphan', { owner: nobody }))
    await log.append([start, ...(decode(lostBody) as LogEvent[])])
    const { request, onDisconnect, requestId } = asked()
    await all.streams.adopt(log, JSON.stringify({ request, onDisconnect, requestId, preset: 'support' }))
    const [answer] = await eventually(() => (all.upstream.answers.length === 1 ? all.upstream.answers : undefined))
    expect(answer?.request.messages).toMatchObject([
      { role: 'user' },
      { role: 'assistant', content: [{ text: 'Said: ' }] },
      { role: 'user', content: expect.stringContaining('Said: </end_of_response>') },
    ])
    await complete(all)
    const { message, terminal } = snapshot(await log.history())
    expect(message?.content).toEqual([{ type: 'text', text: 'Said: Hello' }])
    expect(terminal).toMatchObject({ type: 'done', recovered: 1, usage: { input_tokens: 9 } })
    expect(all.reports).toMatchObject([
      { stream: 's_orphan', requestId: 'r', preset: 'support', failedAttempts: ['replica_lost'] },
    ])
  })

  it.each([
    ['its readers went with it', '{"request":{"model":"m","messages":[]},"onDisconnect":"cancel","requestId":"r"}', 0],
    ['its plan cannot be read', 'of another version', 1],
  ])('ends as lost when %s', async (_, plan, faults) => {
    const policy = { ...noRecovery, recovery: { max_attempts: 1, prefill_models: [] } }
    const all = newStreams({ policy })
    const log = orphanOf(all.store.create('s_orphan', { owner: nobody }))
    await log.append([start, ...(decode(lostBody) as LogEvent[])])
    await all.streams.adopt(log, plan)
    expect(await log.terminal()).toMatchObject({ type: 'error', error: { code: 'replica_lost' }, partial: true })
    expect(all.faults).toHaveLength(faults)
    expect(all.upstream.answers).toEqual([])
  })

  it('and cannot be ended is told of', async () => {
    const all = newStreams({ store: failing((type) => type === 'error') })
    await all.streams.adopt(orphanOf(all.store.create('s_orphan', { owner: nobody })), undefined)
    expect(all.faults).toEqual([expect.objectContaining({ message: 'defect' })])
    expect(all.reports).toEqual([])
  })
})
