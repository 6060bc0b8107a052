import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Delta, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { EventLines, Reader } from '../../src/log/lines.ts'
import { done, logOf } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

const piece = (text: string): Delta => new Delta('text', 0, escapeJson(text))

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

it('gives every reader all events in order, from wherever it begins, however they were pushed and read', () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('push' as const),
        count: fc.constantFrom(0, 1, 3, 64, 700),
        size: fc.constantFrom(1, 10, 300, 3_000),
        drop: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('open' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
    },
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('read' as const), who: fc.nat(), limit: fc.constantFrom(1, 2, 64, 512) }),
    },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const lines = new EventLines()
      const all: string[] = []
      const readers: { reader: Reader; from: number; seen: string[] }[] = []
      for (const step of steps) {
        if (step.do === 'push') {
          const texts = Array.from({ length: step.count }, (_, n) => `${all.length + n}\n"🌊"`.padEnd(step.size, 'é'))
          all.push(...texts)
          lines.push(texts.map(piece))
          if (step.drop) lines.dropLatest()
        } else if (step.do === 'open') {
          const from = Math.round(step.share * all.length)
          readers.push({ reader: new Reader(lines, from), from, seen: [] })
        } else if (readers.length > 0) {
          const { reader, from, seen } = readers[step.who % readers.length] as (typeof readers)[number]
          const events = reader.next(step.limit)
          expect(events.length).toBeLessThanOrEqual(step.limit)
          expect(events.length).toBeGreaterThanOrEqual(Math.min(1, all.length - from - seen.length))
          for (const event of events) seen.push((event as Delta).text)
        }
        for (const { from, seen } of readers) expect(seen).toEqual(all.slice(from, from + seen.length))
        expect(lines.length).toBe(all.length)
      }
      expect(lines.all().map((event) => (event as Delta).text)).toEqual(all)
      expect(lines.toLines().toString()).toBe(all.map((text) => `t0 ${escapeJson(text)}`).join('\n'))
      for (const { reader, from, seen } of readers) {
        const rest = drain(reader, 100).map((event) => (event as Delta).text)
        expect([...seen, ...rest]).toEqual(all.slice(from))
      }
    }),
    { numRuns: 300 },
  )
})

it.each([...recordings])('gives the log of %s back from bytes as it was', (_, recording) => {
  const events = logOf(recording)
  const lines = new EventLines()
  lines.push(events)
  lines.dropLatest()
  expect(lines.all()).toEqual(events)
  expect(drain(new Reader(lines), 5)).toEqual(events)
})

it('gives the objects to those alone who have read everything before', () => {
  const lines = new EventLines()
  const [prompt, late] = [new Reader(lines), new Reader(lines)]
  const events = [piece('a'), piece('b')]
  for (const event of events) {
    lines.push([event])
    expect(prompt.next(9)[0]).toBe(event)
    lines.dropLatest()
  }
  const read = late.next(9)
  expect(read).toEqual(events)
  expect(read[0]).not.toBe(events[0])
})

it('begins among the events pushed last, though not all have had them', () => {
  const lines = new EventLines()
  const events = ['a', 'b', 'c', 'd'].map(piece)
  lines.push(events.slice(0, 1))
  lines.push(events.slice(1))
  for (const from of events.keys()) expect(drain(new Reader(lines, from), 9)).toEqual(events.slice(from))
})

it('takes little room for a log that says little, and one piece for an event larger than any', () => {
  const lines = new EventLines()
  lines.push([done])
  lines.dropLatest()
  expect(lines.bytes).toBeLessThanOrEqual(1024)
  lines.push([piece('x'.repeat(1_000_000))])
  expect(lines.bytes).toBeLessThan(1_002_000)
  expect(drain(new Reader(lines), 1)).toHaveLength(2)
})

it('takes a batch larger than the stack', () => {
  const lines = new EventLines()
  lines.push(Array.from({ length: 300_000 }, () => done))
  expect(new Reader(lines).next(400_000)).toHaveLength(300_000)
})
