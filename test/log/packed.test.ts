import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { PackedEvents, type Reader } from '../../src/log/packed.ts'
import { done, logOf } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

const piece = (text: string): LogEvent => new Delta('text', 0, escapeJson(text))

/** What a reader gets when it reads all at hand, `limit` events at a time. */
function drain(reader: Reader, limit: number): LogEvent[] {
  const events: LogEvent[] = []
  for (;;) {
    const next = reader.next(limit)
    expect(next.length).toBeLessThanOrEqual(limit)
    if (next.length === 0) return events
    events.push(...next)
  }
}

it('gives every reader all events in order, however they were pushed, packed and read', () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('push' as const), count: fc.constantFrom(0, 1, 3, 63, 64, 65, 700) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('pack' as const), atEnd: fc.boolean() }) },
    { weight: 2, arbitrary: fc.constant({ do: 'open' as const }) },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('read' as const), who: fc.nat(), limit: fc.constantFrom(1, 2, 64, 512) }),
    },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const packed = new PackedEvents()
      const all: string[] = []
      const readers: { reader: Reader; seen: string[] }[] = []
      for (const step of steps) {
        if (step.do === 'push') {
          const texts = Array.from({ length: step.count }, (_, n) => `${all.length + n}\n"🌊"`)
          all.push(...texts)
          packed.push(texts.map(piece))
        } else if (step.do === 'pack') {
          packed.pack(
            readers.map(({ reader }) => reader),
            step.atEnd,
          )
        } else if (step.do === 'open') {
          readers.push({ reader: packed.reader(), seen: [] })
        } else if (readers.length > 0) {
          const { reader, seen } = readers[step.who % readers.length] as (typeof readers)[number]
          const events = reader.next(step.limit)
          expect(events.length).toBeLessThanOrEqual(step.limit)
          expect(events.length).toBeGreaterThanOrEqual(Math.min(1, all.length - seen.length))
          for (const event of events) seen.push((event as Delta).text)
        }
        for (const { reader, seen } of readers) {
          expect(reader.atHead).toBe(seen.length === all.length)
          expect(seen).toEqual(all.slice(0, seen.length))
        }
      }
      expect(packed.all().map((event) => (event as Delta).text)).toEqual(all)
    }),
    { numRuns: 150 },
  )
})

it.each([...recordings])('gives the log of %s back from bytes as it was', (_, recording) => {
  const events = logOf(recording)
  const packed = new PackedEvents()
  packed.push(events)
  packed.pack([], true)
  expect(packed.all()).toEqual(events)
  expect(drain(packed.reader(), 5)).toEqual(events)
})

it('keeps objects for readers that are at work on them, but not for ever', () => {
  const packed = new PackedEvents()
  const slow = packed.reader()
  const original = piece('first')
  packed.push([original, ...Array.from({ length: 99 }, () => piece('x'))])
  packed.pack([slow], false)
  expect(slow.next(1)[0]).toBe(original)
  packed.push(Array.from({ length: 3_000 }, () => piece('y')))
  packed.pack([slow], false)
  expect(packed.all()[0]).not.toBe(original)
  expect(drain(slow, 512)).toHaveLength(3_099)
})

it('takes a batch larger than the stack', () => {
  const packed = new PackedEvents()
  packed.push(Array.from({ length: 300_000 }, () => done))
  expect(packed.reader().next(400_000)).toHaveLength(300_000)
})
