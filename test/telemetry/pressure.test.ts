import { expect, it, onTestFinished } from 'vitest'
import { allowanceOf, oldGenerationBytes, processBounds, shareOf } from '../../src/telemetry/bounds.ts'
import { isCrowded, type LoopReading } from '../../src/telemetry/loop.ts'
import { PressureGauge, watchPressure } from '../../src/telemetry/pressure.ts'
import { eventually } from '../support/client.ts'

const MiB = 2 ** 20

/** A gauge over readings that the test sets; `pass` lets time go by as the watch does, a quarter of a second at a time. */
function gaugeOf() {
  const process = { now: 0, old: 10, resident: 100, accounted: 90, turnMs: 1, live: 256 }
  const counts = { heap: 0, memory: 0, collections: 0 }
  let loop = { busyMs: 0, idleMs: 0, turns: 0 }
  const gauge = new PressureGauge({ openFiles: 1_000, memoryBytes: 1_000 * MiB, oldBytes: 100 * MiB }, 5, {
    now: () => process.now,
    oldBytes: () => {
      counts.heap++
      return process.old * MiB
    },
    memory: () => {
      counts.memory++
      return { resident: process.resident * MiB, accounted: process.accounted * MiB }
    },
    loop: () => loop,
    live: () => process.live,
    collect: () => void counts.collections++,
  })
  const pass = (ms: number) => {
    for (const until = process.now + ms; process.now < until; ) {
      process.now += 250
      loop = { ...loop, busyMs: loop.busyMs + 250, turns: loop.turns + 250 / process.turnMs }
      gauge.look()
    }
  }
  /** Whether streams are refused after so long with such turns. */
  const refusesAfter = (ms: number, turnMs: number) => {
    process.turnMs = turnMs
    pass(ms)
    return gauge.reason === 'event_loop'
  }
  return { gauge, process, counts, pass, refusesAfter }
}

it('has nothing against new streams while the process is well', () => {
  const { gauge, pass } = gaugeOf()
  expect(gauge.reason).toBeUndefined()
  pass(10_000)
  expect(gauge.reason).toBeUndefined()
})

it('refuses when more than 65 % of the old generation survived a collection, until another one finds less', () => {
  const { gauge, process } = gaugeOf()
  const collect = (survivors: number) => {
    process.old = survivors
    gauge.collected()
    return gauge.reason
  }
  expect([65, 66, 65].map(collect)).toEqual([undefined, 'heap', undefined])
  // Garbage up to here is none of our business.
  process.old = 75
  process.now += 10
  expect(gauge.reason).toBeUndefined()
})

it('refuses above 75 % of the old generation, collected or not', () => {
  const { gauge, process } = gaugeOf()
  process.old = 76
  expect(gauge.reason).toBe('heap')
  process.old = 75
  process.now += 10
  expect(gauge.reason).toBeUndefined()
})

it('reads the heap once for all that is admitted within 10 ms, memory within 100', () => {
  const { gauge, process, counts } = gaugeOf()
  for (process.now = 0; process.now < 100; process.now++) expect(gauge.reason).toBeUndefined()
  expect(counts).toMatchObject({ heap: 10, memory: 1 })
  expect(gauge.reason).toBeUndefined()
  expect(counts).toMatchObject({ heap: 11, memory: 2 })
})

it('refuses when memory is short, but not for what the allocator keeps of memory that has been freed', () => {
  const { gauge, process } = gaugeOf()
  Object.assign(process, { resident: 810, accounted: 700, now: 100 })
  expect(gauge.reason).toBe('memory')
  Object.assign(process, { accounted: 500, now: 200 })
  expect(gauge.reason).toBeUndefined()
})

it('makes a process collect that has been short of memory for 5 s, and again no sooner than after 15 s', () => {
  const { process, counts, pass } = gaugeOf()
  process.old = 90
  pass(5_000)
  expect(counts.collections).toBe(0)
  pass(250)
  expect(counts.collections).toBe(1)
  pass(14_750)
  expect(counts.collections).toBe(1)
  pass(250)
  expect(counts.collections).toBe(2)
})

it('does not when memory is short only now and then', () => {
  const { process, counts, pass } = gaugeOf()
  for (let n = 0; n < 10; n++) {
    process.old = 90
    pass(4_000)
    process.old = 70
    pass(500)
  }
  expect(counts.collections).toBe(0)
})

/** What a loop has done in a second: turns of so many milliseconds each, and waiting. */
function second(turnsMs: readonly number[], idleMs = 0): LoopReading[] {
  const busyMs = turnsMs.reduce((sum, ms) => sum + ms, 0)
  return [
    { busyMs: 70, idleMs: 30, turns: 20 },
    { busyMs: 70 + busyMs, idleMs: 30 + idleMs, turns: 20 + turnsMs.length },
  ]
}
const turns = (count: number, ms: number): number[] => Array(count).fill(ms)

it.each<[string, LoopReading[]]>([
  ['nothing known yet', []],
  ['one sample', second([]).slice(1)],
  ['nothing done', second([], 1_000)],
  ['work all the time in short turns', second(turns(250, 4))],
  ['a pause of a tenth of a second among them', second([...turns(250, 4), 100])],
  ['a second of standing still after a second of little work', second([...turns(10, 0.1), 1_000], 999)],
  ['a thousand requests at once', second([...turns(5, 0.1), 300, 300], 400)],
])('is not crowded: %s', (_, samples) => {
  expect(isCrowded(samples, 5, false)).toBe(false)
})

it.each<[string, LoopReading[]]>([
  ['work all the time in long turns', second(turns(100, 10))],
  ['little waiting between them', second(turns(90, 10.1), 100)],
  ['no turn done', second([1_200]).map((sample) => ({ ...sample, turns: 20 }))],
])('is crowded: %s', (_, samples) => {
  expect(isCrowded(samples, 5, false)).toBe(true)
})

it('stays crowded until turns are half as long', () => {
  expect(isCrowded(second(turns(350, 3)), 5, true)).toBe(true)
  expect(isCrowded(second(turns(350, 3)), 5, false)).toBe(false)
  expect(isCrowded(second(turns(400, 2.5)), 5, true)).toBe(false)
})

it('refuses after a second of long turns, and no longer when turns have been short for half a second', () => {
  const { refusesAfter } = gaugeOf()
  expect(refusesAfter(2_000, 1)).toBe(false)
  expect([refusesAfter(250, 50), refusesAfter(750, 50)]).toEqual([false, true])
  expect([refusesAfter(250, 1), refusesAfter(250, 1)]).toEqual([true, false])
})

it('lets few streams take long turns, eight times as long', () => {
  const { process, refusesAfter } = gaugeOf()
  process.live = 255
  expect([refusesAfter(2_000, 39), refusesAfter(2_000, 41), refusesAfter(2_000, 19)]).toEqual([false, true, false])
  expect(refusesAfter(250, 19)).toBe(false)
  process.live = 256
  expect(refusesAfter(250, 19)).toBe(true)
})

it('watches the loop of this process, and says when its turns begin and end to be too long', async () => {
  const changes: (string | undefined)[] = []
  const watched = watchPressure(
    processBounds(),
    20,
    () => 256,
    (reason) => changes.push(reason),
  )
  onTestFinished(() => watched.close())
  let turn = setImmediate(function work() {
    const until = performance.now() + 50
    while (performance.now() < until);
    turn = setImmediate(work)
  })
  await eventually(() => watched.reason === 'event_loop', 5_000)
  clearImmediate(turn)
  await eventually(() => changes.includes(undefined), 5_000)
  expect(changes).toEqual(['event_loop', undefined])
  expect(watched.reason).toBeUndefined()
})

it('knows the bounds of this process', () => {
  const { openFiles, memoryBytes, oldBytes } = processBounds()
  expect(openFiles).toBeGreaterThanOrEqual(256)
  expect(memoryBytes).toBeGreaterThan(100 * MiB)
  expect(oldBytes).toBeGreaterThan(100 * MiB)
})

// Left: memory of the machine or container; middle: heap_size_limit there, as measured; right: the old generation of it.
it.each([
  [24_105, 320, 128],
  [4_096, 2_240, 2_048],
  [2_048, 224, 128],
  [1_024, 560, 512],
  // Here V8 keeps less than 3/64 for the young generation, and the bound is taken lower than it is.
  [512, 259, 235],
])('of %i MiB with a heap limit of %i, %i are the old generation', (memory, limit, old) => {
  expect(oldGenerationBytes(memory * MiB, limit * MiB)).toBe(old * MiB)
})

const wanted = { max_streams: 5_000, max_total_bytes: 512 * MiB }
const ample = { openFiles: 20_000, memoryBytes: 4_096 * MiB, oldBytes: 2_048 * MiB }

it('leaves limits alone that the process can bear', () => {
  const lowered: object[] = []
  const allowed = allowanceOf(ample, wanted, (fields) => lowered.push(fields))
  expect(allowed).toEqual({ ...wanted, max_connections: 14_900 })
  expect(lowered).toEqual([])
})

it.each([
  [{ openFiles: 256 }, { max_streams: 28, max_connections: 128 }, { max_streams: 28, open_files: 256 }],
  [{ openFiles: 64 }, { max_streams: 1, max_connections: 8 }, { max_streams: 1, open_files: 64 }],
  [
    { memoryBytes: 512 * MiB },
    { max_total_bytes: 128 * MiB, max_connections: 14_900 },
    { max_total_bytes: 128 * MiB, memory_bytes: 512 * MiB },
  ],
])('lowers limits to what a process with %o can bear, and says so once', (bounds, limits, said) => {
  const lowered: object[] = []
  expect(allowanceOf({ ...ample, ...bounds }, wanted, (fields) => lowered.push(fields))).toEqual({
    ...wanted,
    ...limits,
  })
  expect(lowered).toEqual([said])
})

it('has a number of connections to give to the kernel where files are unlimited', () => {
  const unlimited = { ...ample, openFiles: Number.POSITIVE_INFINITY }
  expect(allowanceOf(unlimited, wanted, () => {})).toEqual({ ...wanted, max_connections: 1_000_000 })
})

it('gives each of several workers its share of memory and limits, and all the files it may open', () => {
  const [alone, one] = [processBounds(), processBounds(3)]
  expect(one).toEqual({ ...alone, memoryBytes: Math.floor(alone.memoryBytes / 3) })
  expect(shareOf(wanted, 1)).toEqual(wanted)
  expect(shareOf({ max_streams: 10, max_total_bytes: 1_000 }, 3)).toEqual({ max_streams: 4, max_total_bytes: 333 })
})
