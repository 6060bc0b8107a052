import { expect, it, onTestFinished } from 'vitest'
import { allowanceOf, oldGenerationBytes, processBounds, shareOf } from '../../src/telemetry/bounds.ts'
import { PressureGauge, watchPressure } from '../../src/telemetry/pressure.ts'
import { eventually } from '../support/client.ts'

const MiB = 2 ** 20

/** A gauge over readings that the test sets; `pass` lets time go by as the watch does, half a second at a time. */
function gaugeOf() {
  const process = { now: 0, old: 10, resident: 100, accounted: 90, standstill: 0, reads: 0, collections: 0 }
  const gauge = new PressureGauge({ openFiles: 1_000, memoryBytes: 1_000 * MiB, oldBytes: 100 * MiB }, 200, {
    now: () => process.now,
    oldBytes: () => {
      process.reads++
      return process.old * MiB
    },
    memory: () => ({ resident: process.resident * MiB, accounted: process.accounted * MiB }),
    standstillMs: () => process.standstill,
    collect: () => void process.collections++,
  })
  const pass = (ms: number) => {
    for (const until = process.now + ms; process.now < until; ) {
      process.now += 500
      gauge.look()
    }
  }
  const window = (standstill: number) => {
    process.standstill = standstill
    pass(500)
    return gauge.reason
  }
  return { gauge, process, pass, window }
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

it('reads memory once for all that is admitted within 10 ms', () => {
  const { gauge, process } = gaugeOf()
  for (let n = 0; n < 100; n++) expect(gauge.reason).toBeUndefined()
  expect(process.reads).toBe(1)
})

it('refuses when memory is short, but not for what the allocator keeps of memory that has been freed', () => {
  const { gauge, process } = gaugeOf()
  Object.assign(process, { resident: 810, accounted: 700, now: 10 })
  expect(gauge.reason).toBe('memory')
  Object.assign(process, { accounted: 500, now: 20 })
  expect(gauge.reason).toBeUndefined()
})

it('makes a process collect that has been short of memory for 5 s, and again no sooner than after 15 s', () => {
  const { process, pass } = gaugeOf()
  process.old = 90
  pass(5_000)
  expect(process.collections).toBe(0)
  pass(500)
  expect(process.collections).toBe(1)
  pass(14_500)
  expect(process.collections).toBe(1)
  pass(500)
  expect(process.collections).toBe(2)
})

it('does not when memory is short only now and then', () => {
  const { process, pass } = gaugeOf()
  for (let n = 0; n < 10; n++) {
    process.old = 90
    pass(4_000)
    process.old = 70
    pass(500)
  }
  expect(process.collections).toBe(0)
})

it('bears one pause of the event loop, however long', () => {
  const { window } = gaugeOf()
  expect([5_000, 0, 0, 0, 5_000, 200, 200, 200].map(window)).toEqual(Array(8).fill(undefined))
})

it('refuses at the second pause within two seconds, until they are over', () => {
  const { window } = gaugeOf()
  const reasons = [201, 0, 0, 201, 0, 201, 0, 0, 0].map(window)
  const refused = reasons.map((reason) => reason === 'event_loop')
  expect(refused).toEqual([false, false, false, true, false, true, true, false, false])
})

it('measures the standstills of this process, and says when they begin and end to matter', async () => {
  const changes: (string | undefined)[] = []
  const pressure = watchPressure(processBounds(), 200, (reason) => changes.push(reason))
  onTestFinished(() => pressure.close())
  const blocking = setInterval(() => {
    const until = performance.now() + 300
    while (performance.now() < until);
  }, 350)
  await eventually(() => pressure.reason === 'event_loop', 5_000)
  clearInterval(blocking)
  await eventually(() => changes.includes(undefined), 5_000)
  expect(changes).toEqual(['event_loop', undefined])
  expect(pressure.reason).toBeUndefined()
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
