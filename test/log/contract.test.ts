import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import type { Cursor, LogStore, StreamLog } from '../../src/core/ports.ts'
import { newStreamId } from '../../src/core/position.ts'
import { eventually } from '../support/client.ts'
import { done, failed, logOf, nobody, start, toolLog } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'
import { ended, found, owner, readAll, readEagerly, soonMs, stopped, storePlaces, text, texts } from './stores.ts'

const { places, close } = storePlaces()
afterAll(close)

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('append' as const), count: fc.constantFrom(0, 1, 2, 40, 100, 900) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('open' as const), eager: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('read' as const), who: fc.nat(), limit: fc.integer({ min: 1, max: 600 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const), who: fc.nat() }) },
  { weight: 1, arbitrary: fc.constant({ do: 'history' as const }) },
)

/** Reads with pauses, and keeps what it has read against what it should be. */
class Reader {
  readonly #all: readonly LogEvent[]
  readonly #cursor: Cursor
  seen = 0
  wakes = 0
  open = true

  constructor(log: StreamLog, all: readonly LogEvent[], eager: boolean) {
    this.#all = all
    this.#cursor = log.cursor({
      wake: () => {
        this.wakes++
        if (eager) this.take(512)
      },
    })
  }

  take(limit: number): number {
    const events = this.#cursor.next(limit)
    expect(events.length).toBeLessThanOrEqual(limit)
    expect(events).toEqual(this.#all.slice(this.seen, this.seen + events.length))
    this.seen += events.length
    return events.length
  }

  close(): void {
    this.open = false
    this.#cursor.close()
  }
}

describe.each(places)('a log $name', ({ open, elsewhere, trials }) => {
  let writer: LogStore
  let reader: LogStore
  beforeAll(async () => {
    const replicas = await open({ retentionMs: 60_000, keyTtlMs: 60_000 })
    writer = replicas.writer
    reader = replicas.reader
  })

  /** A log with its first event, as its writer and as a reader has it. */
  async function begin(signals = owner()) {
    const id = newStreamId()
    const log = writer.create(id, { owner: signals })
    await log.append([start])
    return { log, there: elsewhere ? await found(reader, id) : log, signals }
  }

  it('shows every reader one history, in order, to the end', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { log, there, signals } = await begin()
        const all: LogEvent[] = [start]
        const readers: Reader[] = []
        const openReaders = () => readers.filter(({ open }) => open)
        for (const step of steps) {
          if (step.do === 'append') {
            const before = readers.map(({ wakes }) => wakes)
            const batch = texts(step.count, all.length)
            all.push(...batch)
            await log.append(batch)
            if (elsewhere) continue
            const after = readers.map(({ open }, n) => (before[n] as number) + Number(open))
            expect(readers.map(({ wakes }) => wakes)).toEqual(after)
          } else if (step.do === 'open') {
            readers.push(new Reader(there, all, step.eager))
          } else if (step.do === 'history') {
            const history = await there.history()
            expect(history).toEqual(elsewhere ? all.slice(0, history.length) : all)
          } else {
            const one = openReaders()[step.who % Math.max(1, openReaders().length)]
            if (step.do === 'read') one?.take(step.limit)
            else one?.close()
          }
          if (!elsewhere && signals.counts.length > 0) expect(signals.counts.at(-1)).toBe(openReaders().length)
        }
        all.push(done)
        await log.append([done])
        await ended(there)
        readers.push(new Reader(there, all, false))
        for (const each of openReaders()) {
          while (each.take(7) > 0);
          expect(each.seen).toBe(all.length)
        }
        expect(await there.history()).toEqual(all)
      }),
      { numRuns: trials },
    )
  })

  it('keeps events of every kind as they were', async () => {
    const odd = ['', '\n\r\u2028\u0000"\\/', '𝄞👩‍👩‍👧‍👦 é ü', '\ud800', 'x\udc00y', 'a'.repeat(70_000)]
    const raw = `{"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"a","more":[1]},"new":"\\ud800"}`
    const logs = [
      ...Array.from(recordings.values(), logOf),
      toolLog(),
      [start, ...odd.map((each) => new Delta('text', 0, escapeJson(each))), failed],
      [{ ...start, echo: { thread_id: 'é\ud800\n', include_usage: true } } as LogEvent, stopped],
      [
        start,
        new Delta('text', 7, 'a', raw),
        new Delta('thinking', 123456, '\\ud83d\\ude00'),
        new Delta('input_json', 1, '{\\"a\\":'),
        { type: 'unknown', event: { type: 'new_event', payload: { '\ud800': [null, 1e300] } } } as const,
        { type: 'progress', output_tokens: 1, percent: 0.1, tokens_per_second: null, elapsed_ms: 3 } as const,
        done,
      ],
    ]
    for (const events of logs) {
      const { id } = await write(events)
      const log = await found(reader, id)
      expect(await log.history()).toEqual(events)
      expect(readAll(log.cursor(nobody))).toEqual(events)
    }
  })

  async function write(events: readonly LogEvent[]): Promise<StreamLog> {
    const log = writer.create(newStreamId(), { owner: owner() })
    const half = Math.ceil(events.length / 2)
    await log.append(events.slice(0, half))
    await log.append(events.slice(half))
    return log
  }

  it('counts a reader until it closes, once, and history never', async () => {
    const { there, signals } = await begin()
    const reaches = (counts: number[]) => eventually(() => signals.counts.length >= counts.length && counts, soonMs)
    const first = there.cursor(nobody)
    await reaches([1])
    const second = there.cursor(nobody)
    await reaches([1, 2])
    await there.history()
    first.close()
    first.close()
    await reaches([1, 2, 1])
    second.close()
    expect(signals.counts).toEqual(await reaches([1, 2, 1, 0]))
  })

  it('tells its owner nothing once it is sealed', async () => {
    const { log, there, signals } = await begin()
    const early = there.cursor(nobody)
    await eventually(() => signals.counts.length > 0, soonMs)
    await log.append([done])
    await ended(there)
    there.cursor(nobody).close()
    early.close()
    // Whatever it might have said has arrived when another stream's reader has been heard of.
    const other = await begin()
    other.there.cursor(nobody).close()
    await eventually(() => other.signals.counts.at(-1) === 0, soonMs)
    expect(signals.counts).toEqual([1])
  })

  it('wakes readers once a batch, after the events are there', async () => {
    const { log, there } = await begin()
    const seen: number[] = []
    const cursor: Cursor = there.cursor({ wake: () => void seen.push(readAll(cursor).length) })
    expect(readAll(cursor)).toEqual([start])
    const total = () => seen.reduce((sum, each) => sum + each, 0)
    for (const [count, sum] of [
      [2, 2],
      [1, 3],
      [1_000, 1_003],
    ] as const) {
      await log.append(texts(count))
      await eventually(() => total() === sum, soonMs)
    }
    expect(seen).toEqual([2, 1, 1_000])
  })

  it('lets readers come and go while it wakes them', async () => {
    const { log, there, signals } = await begin()
    const cursor: Cursor = there.cursor({
      wake() {
        cursor.close()
        there.cursor(nobody)
      },
    })
    await log.append([text(1)])
    await eventually(() => signals.counts.length >= 3, soonMs)
    expect(signals.counts).toEqual([1, 0, 1])
  })

  it.each([done, failed, stopped])('is sealed by %j', async (terminal) => {
    const { log, there } = await begin()
    expect(await there.terminal()).toBeUndefined()
    await log.append([text(1), terminal])
    expect(await ended(there)).toEqual(terminal)
    for (const late of [[text(2)], [done], []]) {
      await expect((async () => log.append(late))()).rejects.toThrow(/sealed/)
    }
    expect(await log.history()).toEqual([start, text(1), terminal])
    const again = await found(reader, log.id)
    expect(await again.history()).toEqual([start, text(1), terminal])
    expect(await again.terminal()).toEqual(terminal)
    expect(again.id).toBe(log.id)
  })

  it('takes an empty batch for nothing', async () => {
    const { log, there } = await begin()
    await log.append([])
    await log.append([text(1)])
    await log.append([])
    await log.append([done])
    expect(readEagerly(there).seen.length).toBeLessThanOrEqual(3)
    await ended(there)
    expect(await there.history()).toEqual([start, text(1), done])
  })

  it('asks its owner to stop while it is live, and nobody afterwards', async () => {
    const signals = owner(() => log.append([stopped]))
    const { log, there } = await begin(signals)
    await there.stop()
    expect(await there.terminal()).toEqual(stopped)
    await there.stop()
    await (await found(reader, log.id)).stop()
    expect(signals.onStop).toHaveBeenCalledTimes(1)
  })

  it('was made at one time, wherever one asks', async () => {
    const before = Date.now()
    const { log, there } = await begin()
    expect(there.createdAt).toEqual(log.createdAt)
    expect(log.createdAt.getTime()).toBeGreaterThanOrEqual(before)
    expect(log.createdAt.getTime()).toBeLessThanOrEqual(Date.now())
    await log.append([done])
    expect((await found(reader, log.id)).createdAt).toEqual(log.createdAt)
  })

  it('is caught up while its owner lives, and at its end', async () => {
    const { log, there } = await begin()
    await log.append(texts(700))
    expect(await there.caughtUp()).toBe(true)
    expect(await there.history()).toHaveLength(701)
    await log.append([done])
    expect(await there.caughtUp()).toBe(true)
    expect(await there.terminal()).toEqual(done)
  })
})
