import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Delta } from '../../src/core/delta.ts'
import { SluiceError } from '../../src/core/errors.ts'
import type { LogEvent } from '../../src/core/events.ts'
import type { Format } from '../../src/core/format.ts'
import type { StreamLog } from '../../src/core/ports.ts'
import { Sweep } from '../../src/core/sweep.ts'
import { Connection } from '../../src/delivery/connection.ts'
import { countFrames } from '../../src/delivery/count.ts'
import type { ConnectionOptions } from '../../src/delivery/options.ts'
import type { Outlet } from '../../src/delivery/outlet.ts'
import { json } from '../../src/formats/json.ts'
import { text as textFormat } from '../../src/formats/text.ts'
import { type MemoryLog, memoryStore } from '../../src/log/memory.ts'
import { done, fold, logOf, start, streamId } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

const text = (value: string): LogEvent => new Delta('text', 0, value)

/** A client's socket that takes what it is told to take. */
class FakeOutlet implements Outlet {
  readonly writes: string[] = []
  writtenBytes = 0
  pendingBytes = 0
  /** What `write` answers. */
  takesMore = true
  /** The client reads nothing: what is written stays pending. */
  stuck = false
  ends = 0
  destroyed = 0

  write(text: string): boolean {
    this.writes.push(text)
    this.writtenBytes += text.length
    if (this.stuck) this.pendingBytes += text.length
    return this.takesMore
  }

  end(text: string): void {
    if (text !== '') this.write(text)
    this.ends++
  }

  destroy(): void {
    this.destroyed++
  }

  get body(): string {
    return this.writes.join('')
  }
}

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await nextTurn()
}

function connect(options: Partial<ConnectionOptions> = {}) {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const sweep = new Sweep()
  const readers: number[] = []
  const onReaders = (count: number) => void readers.push(count)
  const owner = { onReaders, onStop: async () => {}, onDecision: async () => false, onFenced: () => {} }
  const log: StreamLog = memoryStore({ retentionMs: 60_000, keyTtlMs: 60_000, maxBytes: 1e9 }).create(streamId, {
    owner,
  })
  const faults: unknown[] = []
  const outlet = new FakeOutlet()
  const connection = new Connection(log, {
    format: json,
    after: 0,
    heartbeatMs: 15_000,
    clientStallMs: 30_000,
    sweep,
    onFault: (fault) => void faults.push(fault),
    ...options,
  })
  onTestFinished(() => connection.close())
  return { log, outlet, connection, sweep, readers, faults }
}

describe('a connection', () => {
  it('counts as a reader from the first moment, and writes nothing before it is started', () => {
    const { log, outlet, connection, readers } = connect()
    expect(readers).toEqual([1])
    log.append([start, text('a')])
    vi.advanceTimersByTime(60_000)
    expect(outlet.writes).toEqual([])
    connection.start(outlet)
    expect(outlet.writes).toEqual([fold(json, [start, text('a')])])
  })

  it.each([...recordings])('writes all of %s, at once or live', (_, recording) => {
    const events = logOf(recording)
    const live = connect()
    live.connection.start(live.outlet)
    for (const event of events) live.log.append([event])
    const late = connect()
    late.log.append(events)
    late.connection.start(late.outlet)
    expect(live.outlet.body).toBe(fold(json, events))
    expect(late.outlet.body).toBe(fold(json, events))
    expect(late.outlet.writes).toHaveLength(1)
  })

  it('makes one write of one batch, and none of a batch that says nothing', () => {
    const { log, outlet, connection } = connect()
    connection.start(outlet)
    log.append([start, text('a'), text('b')])
    expect(outlet.writes).toHaveLength(1)
    log.append([{ type: 'message_stop' }])
    expect(outlet.writes).toHaveLength(1)
    log.append([text('c'), text('d')])
    expect(outlet.writes).toHaveLength(2)
  })

  it('goes on behind the frame that the client has', () => {
    const events = [start, text('a'), text('b'), done]
    const { log, outlet, connection } = connect({ after: 2 })
    connection.start(outlet)
    for (const event of events) log.append([event])
    expect(outlet.body).toBe(fold(json, events, 2))
  })

  it('stops reading while the client lags, and catches up when it does not, one write a turn', async () => {
    const { log, outlet, connection } = connect()
    connection.start(outlet)
    outlet.takesMore = false
    log.append([start])
    const events = [start, ...Array.from({ length: 2_000 }, (_, n) => text(String(n)))]
    for (const event of events.slice(1)) log.append([event])
    expect(outlet.writes).toHaveLength(1)
    connection.resume()
    expect(outlet.writes).toHaveLength(2)
    outlet.takesMore = true
    connection.resume()
    expect(outlet.writes).toHaveLength(3)
    await turns(3)
    expect(outlet.body).toBe(fold(json, events))
    expect(Math.max(...outlet.writes.map((write) => write.length))).toBeLessThan(64 * 1024 + 200)
    expect(outlet.writes.length).toBeLessThan(6)
  })

  it('cuts a long text anew a little in each turn, so that others get theirs', () => {
    const { log, outlet, connection } = connect({ smooth: 'word' })
    log.append([start, ...Array.from({ length: 2_000 }, (_, n) => text(`word ${n} and more `))])
    connection.start(outlet)
    expect(connection.lag.events).toBeGreaterThan(1_800)
  })

  it('gives all that a log has before it says that the rest is lost', () => {
    const { log, outlet, connection } = connect()
    // More than lies in one piece.
    const events = [start, ...Array.from({ length: 100 }, (_, n) => text(`${n} `.repeat(20)))]
    for (const event of events) log.append([event])
    ;(log as MemoryLog).local.lose(new SluiceError('resume_unavailable'))
    connection.start(outlet)
    const whole = fold(json, events)
    expect(outlet.body.slice(0, whole.length)).toBe(whole)
    expect(outlet.body.slice(whole.length)).toMatch(/^data: {"type":"error".*resume_unavailable/)
    expect([outlet.ends, outlet.writes.length]).toEqual([1, 1])
  })

  it('ends once, behind the terminal frame, and lets go of the log', () => {
    const { log, outlet, connection, readers } = connect()
    connection.start(outlet)
    log.append([start, text('a')])
    expect(outlet.ends).toBe(0)
    log.append([done])
    expect(outlet.body.endsWith('data: [DONE]\n\n')).toBe(true)
    connection.resume()
    vi.advanceTimersByTime(60_000)
    expect([outlet.ends, outlet.destroyed]).toEqual([1, 0])
    expect(outlet.body).toBe(fold(json, [start, text('a'), done]))
    // The run has ended: nobody is told of readers any more.
    expect(readers).toEqual([1])
    expect((log as MemoryLog).local.readers).toBe(0)
  })

  it('ends even when the last write finds the client lagging', () => {
    const { log, outlet, connection } = connect()
    connection.start(outlet)
    outlet.takesMore = false
    log.append([start, done])
    expect(outlet.ends).toBe(1)
  })

  it.each([2, 9])('tells a client that has %i frames of a log with two that it has lost something', (after) => {
    const { log, outlet, connection } = connect({ after })
    log.append([start, done])
    connection.start(outlet)
    expect(outlet.body).toMatch(/^data: {"type":"error","error":{"code":"resume_unavailable".*}\n\ndata: \[DONE\]\n\n$/)
    expect(outlet.ends).toBe(1)
  })

  it('lets go of log and clock when it is closed, however often, and writes no more', () => {
    const { log, outlet, connection, sweep, readers } = connect()
    connection.start(outlet)
    expect(sweep.size).toBe(1)
    connection.close()
    connection.close()
    log.append([start])
    connection.resume()
    vi.advanceTimersByTime(60_000)
    expect([outlet.body, sweep.size, readers.at(-1)]).toEqual(['', 0, 0])
  })

  it('may be closed before it was started', () => {
    const { connection, readers } = connect()
    connection.close()
    expect(readers).toEqual([1, 0])
  })
})

describe('the heartbeat', () => {
  it('comes when nothing else has, and only then', () => {
    const { log, outlet, connection } = connect({ heartbeatMs: 1_000 })
    connection.start(outlet)
    vi.advanceTimersByTime(975)
    log.append([start])
    const { length } = outlet.writes
    vi.advanceTimersByTime(975)
    expect(outlet.writes).toHaveLength(length)
    vi.advanceTimersByTime(50)
    expect(outlet.writes.slice(length)).toEqual([json.heartbeat])
    vi.advanceTimersByTime(3_000)
    expect(outlet.writes.slice(length)).toEqual(Array(4).fill(json.heartbeat))
  })

  it('does not come while the client lags, nor after the end', () => {
    const { log, outlet, connection } = connect({ heartbeatMs: 1_000 })
    connection.start(outlet)
    outlet.takesMore = false
    log.append([start])
    vi.advanceTimersByTime(10_000)
    expect(outlet.body).toBe(fold(json, [start]))
    outlet.takesMore = true
    connection.resume()
    log.append([done])
    vi.advanceTimersByTime(10_000)
    expect(outlet.body).toBe(fold(json, [start, done]))
  })
})

describe('a client that takes nothing', () => {
  it('is cut while bytes wait for it, but not before its time', () => {
    const { log, outlet, connection } = connect({ clientStallMs: 2_000 })
    connection.start(outlet)
    outlet.stuck = true
    outlet.takesMore = false
    log.append([start])
    vi.advanceTimersByTime(1_950)
    expect(outlet.destroyed).toBe(0)
    vi.advanceTimersByTime(100)
    expect(outlet.destroyed).toBeGreaterThan(0)
  })

  it('is left alone while nothing waits for it', () => {
    const { outlet, connection } = connect({ clientStallMs: 2_000 })
    connection.start(outlet)
    vi.advanceTimersByTime(60_000)
    expect(outlet.destroyed).toBe(0)
  })

  it('is left alone while it takes at least a little', () => {
    const { outlet, connection } = connect({ clientStallMs: 2_000 })
    connection.start(outlet)
    for (outlet.pendingBytes = 40; outlet.pendingBytes > 10; outlet.pendingBytes--) vi.advanceTimersByTime(1_900)
    expect(outlet.destroyed).toBe(0)
  })

  it('is cut even while more is being written for it', () => {
    const { log, outlet, connection } = connect({ clientStallMs: 2_000 })
    connection.start(outlet)
    outlet.stuck = true
    for (let n = 0; n < 30; n++) {
      log.append([text(String(n))])
      vi.advanceTimersByTime(100)
    }
    expect(outlet.destroyed).toBeGreaterThan(0)
  })

  it('is cut after the end, too, when it does not take that', () => {
    const { log, outlet, connection } = connect({ clientStallMs: 2_000 })
    connection.start(outlet)
    outlet.stuck = true
    log.append([start, done])
    vi.advanceTimersByTime(2_100)
    expect(outlet.destroyed).toBeGreaterThan(0)
  })
})

describe('a fault of a format', () => {
  const broken: Format = {
    ...json,
    encoder: () => (event, out) => {
      if (event.type === 'delta') throw new Error('defect')
      out.data(event.type)
    },
  }

  it('ends its own connection only, and is reported', () => {
    const { log, outlet, connection, faults } = connect({ format: broken })
    const other = new FakeOutlet()
    const healthy = new Connection(log, {
      format: json,
      after: 0,
      heartbeatMs: 1_000,
      clientStallMs: 1_000,
      sweep: new Sweep(),
      onFault: (fault) => void faults.push(fault),
    })
    onTestFinished(() => healthy.close())
    connection.start(outlet)
    healthy.start(other)
    log.append([start])
    log.append([text('a')])
    expect(faults).toEqual([new Error('defect')])
    expect([outlet.destroyed, other.destroyed]).toEqual([1, 0])
    connection.close()
    log.append([done])
    expect(other.body).toBe(fold(json, [start, text('a'), done]))
  })

  it('is the last that its client hears, as what follows would leave a gap', () => {
    const { log, outlet, connection, faults } = connect({ format: broken, heartbeatMs: 1_000 })
    connection.start(outlet)
    log.append([start])
    const { body } = outlet
    log.append([text('a')])
    log.append([{ type: 'message_stop' }])
    connection.resume()
    vi.advanceTimersByTime(5_000)
    expect(outlet.body).toBe(body)
    expect(faults).toHaveLength(1)
  })
})

it('counts the frames that a format makes of a log', async () => {
  const events = [start, text('a'), text(''), { type: 'message_stop' }, text('b'), done] as LogEvent[]
  expect(await countFrames(json, events)).toBe(4)
  expect(await countFrames(textFormat, events)).toBe(4)
  expect(await countFrames(json, [])).toBe(0)
})

it('counts with pauses for others, as to cut a long text anew takes seconds', async () => {
  let turns = 0
  const count = () => {
    turns++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  onTestFinished(() => clearImmediate(counting))
  const events = Array.from({ length: 5_000 }, (_, n) => text(`word ${n} and more `))
  expect(await countFrames(json, events, 'word')).toBeGreaterThan(5_000)
  expect(turns).toBeGreaterThan(1)
})
