import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Supervisor, type WorkerEvents } from '../src/supervisor.ts'

const timers = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] as const

beforeEach(() => void vi.useFakeTimers({ toFake: [...timers, 'performance'] }))
afterEach(() => void vi.useRealTimers())

/** A worker that does nothing but what the test says, and tells that it lives. */
interface Puppet extends WorkerEvents {
  readonly id: number
  readonly heard: string[]
  /** It gives no sign of life any more. */
  hang(): void
}

function supervise(workers: number, drainMs = 30_000) {
  const started: Puppet[] = []
  const said: string[] = []
  const say = (fields: object, message: string) => void said.push(`${message} ${JSON.stringify(fields)}`)
  const supervisor = new Supervisor({
    workers,
    drainMs,
    log: { info: say, error: say, fatal: say } as never,
    start(events) {
      const signs = setInterval(() => events.onSign(), 1_000)
      const hang = () => clearInterval(signs)
      const onGone: WorkerEvents['onGone'] = (...how) => {
        hang()
        events.onGone(...how)
      }
      const puppet: Puppet = { ...events, onGone, id: started.length + 1, heard: [], hang }
      started.push(puppet)
      const kill = () => {
        puppet.heard.push('kill')
        puppet.onGone(null, 'SIGKILL')
      }
      return { id: puppet.id, pid: 100 + puppet.id, send: (order) => void puppet.heard.push(order), kill }
    },
  })
  let code: number | undefined
  void supervisor.ended.then((ended) => {
    code = ended
  })
  const worker = (id: number) => started[id - 1] as Puppet
  const exitCode = async () => {
    await Promise.resolve()
    return code
  }
  return { supervisor, started, said, worker, exitCode }
}

/** All of them serve. */
function superviseRunning(workers: number, drainMs?: number) {
  const all = supervise(workers, drainMs)
  for (let id = 1; id <= workers; id++) all.worker(id).onUp('http://here')
  return all
}

describe('starting', () => {
  it('starts one worker first, then the others, and tells once that all listen', () => {
    const { started, said, worker } = supervise(3)
    expect(started).toHaveLength(1)
    worker(1).onUp('http://here')
    expect(started).toHaveLength(3)
    worker(3).onUp('http://here')
    expect(said.some((line) => line.startsWith('listening'))).toBe(false)
    worker(2).onUp('http://here')
    worker(2).onGone(1)
    vi.advanceTimersByTime(1_000)
    worker(4).onUp('http://here')
    expect(said.filter((line) => line.startsWith('listening'))).toEqual(['listening {"url":"http://here","workers":3}'])
  })

  it.each([
    [78, undefined, 78],
    [1, undefined, 1],
    [null, 'SIGKILL', 1],
  ])('gives up with its exit code when the first worker cannot start: %s %s', async (code, signal, expected) => {
    const { started, worker, exitCode } = supervise(3)
    worker(1).onGone(code, signal)
    vi.advanceTimersByTime(60_000)
    expect([started.length, await exitCode()]).toEqual([1, expected])
  })
})

describe('a worker that dies', () => {
  it('is replaced at once when it has lived for long, the others untouched', async () => {
    const { started, said, worker, exitCode } = superviseRunning(2)
    for (let id = 2; id < 20; id++) {
      vi.advanceTimersByTime(10_000)
      worker(id).onGone(null, 'SIGSEGV')
      expect(said.at(-1)).toBe(`worker died {"worker":${id},"signal":"SIGSEGV","restart_in_ms":100}`)
      vi.advanceTimersByTime(100)
      expect(started).toHaveLength(id + 1)
    }
    expect([worker(1).heard, await exitCode()]).toEqual([[], undefined])
  })

  it('is started later each time that it dies quickly; the fifth in a row is the end', async () => {
    const { started, said, worker, exitCode } = superviseRunning(2)
    vi.advanceTimersByTime(3_600_000)
    const pauses = [100, 500, 1_000, 2_000, 4_000]
    for (const [index, pause] of pauses.entries()) {
      worker(index + 2).onGone(134)
      vi.advanceTimersByTime(pause - 1)
      expect(started).toHaveLength(index + 2)
      vi.advanceTimersByTime(1)
      expect(started).toHaveLength(index + 3)
    }
    worker(7).onGone(134)
    expect(said.at(-1)).toContain('giving up')
    // Those that are well end their streams first.
    expect([worker(1).heard, await exitCode()]).toEqual([['drain'], undefined])
    worker(1).onGone(0)
    vi.advanceTimersByTime(60_000)
    expect([started.length, await exitCode()]).toEqual([7, 134])
  })

  it('of a configuration that cannot work is not started again', async () => {
    const { started, worker, exitCode } = superviseRunning(2)
    worker(2).onGone(78)
    worker(1).onGone(0)
    vi.advanceTimersByTime(60_000)
    expect([started.length, await exitCode()]).toEqual([2, 78])
  })
})

describe('a worker that hangs', () => {
  it('is killed after 30 s without a sign of life, and replaced', () => {
    const { started, said, worker } = superviseRunning(2)
    vi.advanceTimersByTime(60_000)
    worker(2).hang()
    vi.advanceTimersByTime(29_999)
    expect(worker(2).heard).toEqual([])
    vi.advanceTimersByTime(1)
    expect([worker(1).heard, worker(2).heard]).toEqual([[], ['kill']])
    expect(said.slice(-2)).toEqual([
      'worker hangs: killed {"worker":2,"silent_ms":30000}',
      'worker died {"worker":2,"signal":"SIGKILL","restart_in_ms":100}',
    ])
    vi.advanceTimersByTime(100)
    worker(3).onUp('http://here')
    vi.advanceTimersByTime(60_000)
    expect([started.length, worker(3).heard]).toEqual([3, []])
  })

  it('is left alone when it gives a sign in time', () => {
    const { worker } = superviseRunning(2)
    worker(2).hang()
    for (let n = 0; n < 10; n++) {
      vi.advanceTimersByTime(29_000)
      worker(2).onSign()
    }
    expect(worker(2).heard).toEqual([])
  })

  it('is not killed for the time that the primary was stopped itself', () => {
    const { worker } = superviseRunning(2)
    // As with a suspended machine: every timer is called once, be it due a thousand times.
    const { clock } = setTimeout as unknown as { clock: { jump(ms: number): void } }
    for (let n = 0; n < 5; n++) clock.jump(3_600_000)
    worker(2).hang()
    clock.jump(3_600_000)
    expect([worker(1).heard, worker(2).heard]).toEqual([[], []])
  })

  it('before it serves has as long as it needs', () => {
    const { started, worker } = supervise(2)
    worker(1).hang()
    vi.advanceTimersByTime(600_000)
    worker(1).onUp('http://here')
    vi.advanceTimersByTime(29_000)
    expect([started.length, worker(1).heard]).toEqual([2, []])
  })

  it('while it drains has the time for that', () => {
    const { supervisor, worker } = superviseRunning(2, 600_000)
    worker(2).hang()
    supervisor.stop()
    vi.advanceTimersByTime(602_999)
    expect(worker(2).heard).toEqual(['drain'])
    vi.advanceTimersByTime(1)
    expect(worker(2).heard).toEqual(['drain', 'kill'])
  })
})

describe('stopping', () => {
  it('lets all drain, hurries them at the second call, and ends when the last is gone', async () => {
    const { supervisor, worker, exitCode } = superviseRunning(2)
    supervisor.stop()
    worker(1).onGone(0)
    expect([worker(2).heard, await exitCode()]).toEqual([['drain'], undefined])
    supervisor.stop()
    expect(worker(2).heard).toEqual(['drain', 'hurry'])
    worker(2).onGone(0)
    expect(await exitCode()).toBe(0)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('starts nothing any more', async () => {
    const { supervisor, started, worker, exitCode } = superviseRunning(2)
    worker(1).onGone(1)
    supervisor.stop()
    worker(2).onGone(0)
    vi.advanceTimersByTime(60_000)
    expect([started.length, await exitCode()]).toEqual([2, 0])
  })

  it('during the start asks the first one to go, and starts no other', async () => {
    const { supervisor, started, worker, exitCode } = supervise(2)
    supervisor.stop()
    worker(1).onUp('http://here')
    expect([started.length, worker(1).heard]).toEqual([1, ['drain']])
    worker(1).onGone(0)
    expect(await exitCode()).toBe(0)
  })

  it('tells by its exit code that a worker did not end well', async () => {
    const { supervisor, worker, exitCode } = superviseRunning(2)
    supervisor.stop()
    worker(1).onGone(null, 'SIGKILL')
    worker(2).onGone(0)
    expect(await exitCode()).toBe(1)
  })

  it('kills those that do not end', async () => {
    const { supervisor, worker, exitCode } = superviseRunning(2, 5_000)
    supervisor.stop()
    worker(1).onGone(0)
    vi.advanceTimersByTime(7_999)
    expect(worker(2).heard).toEqual(['drain'])
    vi.advanceTimersByTime(1)
    expect([worker(2).heard, await exitCode()]).toEqual([['drain', 'kill'], 1])
  })
})
