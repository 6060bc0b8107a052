import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseWireEvent, type WireEvent } from '../../src/core/codec.ts'
import { EventDecoder } from '../../src/upstream/decode.ts'
import { decode, jsonOf, parse } from '../support/logs.ts'
import { parseRecording, recordings } from '../support/recordings.ts'

const megabyte = 1 << 20

/** Events as text, for comparing many of them quickly. */
function serialize(events: readonly WireEvent[]): string {
  return events.map((event) => (event.type === 'delta' ? jsonOf(event) : JSON.stringify(event))).join('\n')
}

interface Outcome {
  events: WireEvent[]
  thrown: unknown
}

function feedAll(chunks: readonly Uint8Array[], maxEventBytes = megabyte, end?: 'clean end'): Outcome {
  const events: WireEvent[] = []
  const decoder = new EventDecoder(maxEventBytes)
  try {
    // As they come: sometimes one piece a read, sometimes several.
    for (let at = 0, read = 1; at < chunks.length; at += read, read = 1 + (at % 3)) {
      decoder.feed(
        chunks.slice(at, at + read).map((chunk) => Buffer.from(chunk)),
        events,
      )
    }
    if (end === 'clean end') decoder.end(events)
  } catch (thrown) {
    return { events, thrown }
  }
  return { events, thrown: undefined }
}

/** A body cut at `cuts`, which may repeat and come in any order. */
function cut(body: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [0, ...cuts.map((each) => each % (body.length + 1)).sort((a, b) => a - b), body.length]
  return at.slice(1).map((to, index) => body.subarray(at[index], to))
}

const message = (text: string) => ({ type: 'note', text })
const unknown = (text: string) => ({ type: 'unknown', event: message(text) })
const data = (text: string) => `data: ${JSON.stringify(message(text))}\n\n`

describe.each([...recordings])('%s', (_, recording) => {
  const whole = serialize(decode(recording))

  it('has as many events as it has data lines', () => {
    expect(decode(recording)).toHaveLength(parseRecording(recording).length)
  })

  it('is read the same in two reads, cut at any byte', () => {
    for (let at = 0; at <= recording.length; at++) {
      const { events } = feedAll([recording.subarray(0, at), recording.subarray(at)], megabyte, 'clean end')
      if (serialize(events) !== whole) expect.fail(`other events when cut at byte ${at}`)
    }
  })

  it('is read the same in reads of any sizes, with line ends of any kind', () => {
    const lineEnd = fc.constantFrom('\n', '\r\n', '\r')
    fc.assert(
      fc.property(lineEnd, fc.array(fc.nat(), { maxLength: 40 }), (lineEnd, cuts) => {
        const body = Buffer.from(recording.toString('latin1').replaceAll('\n', lineEnd), 'latin1')
        expect(serialize(feedAll(cut(body, cuts), megabyte, 'clean end').events)).toBe(whole)
      }),
      { numRuns: 30 },
    )
  })

  it('is read the same byte by byte', () => {
    const bytes = Array.from(recording, (byte) => Uint8Array.of(byte))
    expect(serialize(feedAll(bytes, megabyte, 'clean end').events)).toBe(whole)
  })
})

describe('EventDecoder', () => {
  it('puts characters together that were cut within', () => {
    const text = 'aé€🌊👩‍👩‍👧水門\u2028\ufeff'
    const body = Buffer.from(data(text))
    for (let first = 0; first <= body.length; first++) {
      for (const second of [first + 1, first + 2]) {
        expect(feedAll(cut(body, [first, second])).events).toEqual([unknown(text)])
      }
    }
  })

  it.each([
    ['a BOM', `\ufeff${data('x')}`, ['x']],
    ['comments and fields of no interest', `: c\nid: 1\nretry: 5\nevent: note\nfoo: bar\nfoo\n${data('x')}`, ['x']],
    ['no event line', data('x') + data('y'), ['x', 'y']],
    ['an event line that contradicts', `event: ping\n${data('x')}`, ['x']],
    ['no space after the colon', data('x').replace('data: ', 'data:'), ['x']],
    ['two spaces after the colon', data('x').replace('data: ', 'data:  '), ['x']],
    ['data in several lines', 'data: {"type":"note",\ndata:\ndata\ndata: "text":"x"}\n\n', ['x']],
    ['fields between the lines of data', 'data: {"type":"note",\n: c\nid: 2\ndata: "text":"x"}\n\n', ['x']],
    ['fields whose names begin with data', `database: 1\ndata1: 2\ndata-x: {\n${data('x')}`, ['x']],
    ['a field name with a blank before it', ` data: {\n${data('x')}`, ['x']],
    ['empty data', `data:\n\ndata\n\ndata: \n\n${data('x')}`, ['x']],
    ['many blank lines', `\n\n\n${data('x')}\n\n\n${data('y')}\n`, ['x', 'y']],
    ['events without data', `event: ping\n\nid: 5\n\n${data('x')}`, ['x']],
    ['an unterminated last event', `${data('x')}data: {"type":"note","text":"y"}\n`, ['x']],
    ['an unterminated last line', `${data('x')}data: {"type":"note","text":"y"}`, ['x']],
    ['nothing', '', []],
  ])('reads a body with %s', (_, body, texts) => {
    const expected = texts.map(unknown)
    for (const lineEnd of ['\n', '\r\n', '\r']) {
      const bytes = Buffer.from(body.replaceAll('\n', lineEnd))
      expect(feedAll([bytes]).events).toEqual(expected)
      for (let at = 0; at <= bytes.length; at++) expect(feedAll(cut(bytes, [at])).events).toEqual(expected)
    }
  })

  it.each([
    ['whole lines without the blank line behind', 'data: {"type":"note",\ndata: "text":"y"}\n', ['x', 'y']],
    ['a line cut short', 'data: {"type":"note","text":"y"}', ['x']],
    ['a line of no data', 'event: note\n', ['x']],
    ['nothing more', '', ['x']],
  ])('takes a clean end behind %s for what it is', (_, rest, texts) => {
    for (const lineEnd of ['\n', '\r\n', '\r']) {
      const bytes = Buffer.from((data('x') + rest).replaceAll('\n', lineEnd))
      for (let at = 0; at <= bytes.length; at++) {
        const { events, thrown } = feedAll(cut(bytes, [at]), megabyte, 'clean end')
        expect(events).toEqual(texts.map(unknown))
        expect(thrown).toBeUndefined()
      }
    }
  })

  it('takes CRLF cut in two for one line end', () => {
    const body = Buffer.from(`data: {"type":"note",\r\ndata: "text":"x"}\r\n\r\n${data('y')}`)
    expect(feedAll(Array.from(body, (byte) => Uint8Array.of(byte))).events).toEqual([unknown('x'), unknown('y')])
  })

  it('reads what eventsource-parser reads, of any SSE text in any chunks', () => {
    const json = fc.string({ unit: 'grapheme' }).map((text) => JSON.stringify(message(text)))
    const line = fc.oneof(
      { weight: 6, arbitrary: json.map((each) => `data: ${each}`) },
      { weight: 2, arbitrary: json.map((each) => `data:${each.replace(',"text"', ',§data:"text"')}`) },
      { weight: 8, arbitrary: fc.constant('') },
      fc.constantFrom(
        'data',
        'data:',
        'data: ',
        'data:  ',
        ':',
        ': data: {}',
        'event: x',
        'id: 1\0',
        'retry: 10',
        'datax: 1',
      ),
      fc.constantFrom(' data: {}', 'data : {}', '\ufeffdata: {}', 'DATA: {}', 'data: {"type":"cut', 'data: null'),
    )
    const lineEnd = fc.constantFrom('\n', '\r\n', '\r')
    const bom = fc.constantFrom('', '', '\ufeff', '\ufeff\ufeff')
    const lines = fc.array(fc.tuple(line, lineEnd), { maxLength: 30 })
    fc.assert(
      fc.property(bom, lines, fc.array(fc.nat(), { maxLength: 12 }), (bom, lines, cuts) => {
        const text = bom + lines.map(([line, end]) => line.replace('§', end) + end).join('')
        const expected: WireEvent[] = []
        let failed = false
        for (const { data } of parse(text)) {
          if (data === '') continue
          try {
            expected.push(parseWireEvent(data))
          } catch {
            failed = true
            break
          }
        }
        const { events, thrown } = feedAll(cut(Buffer.from(text), cuts))
        expect(serialize(events)).toBe(serialize(expected))
        expect(thrown !== undefined).toBe(failed)
      }),
      { numRuns: 1_000 },
    )
  })

  const malformed = 'data: {{"secret":1}\n\n'
  it('delivers the events before a malformed one of the same read, and quotes nothing of it', () => {
    const { events, thrown } = feedAll([Buffer.from(data('x') + data('y') + malformed + data('z'))])
    expect(events).toEqual([unknown('x'), unknown('y')])
    expect(thrown).toMatchObject({ code: 'upstream_protocol' })
    expect(JSON.stringify([thrown, (thrown as Error).message, (thrown as { reason: string }).reason])).not.toMatch(
      /secret/,
    )
  })

  const cap = 1_000
  const tooLong = { code: 'upstream_protocol', reason: expect.stringMatching(/too long/) }

  /** Feeds the same chunk until the decoder has enough of it; gives the bytes it took. */
  function feedForEver(chunk: string): { bytes: number; thrown: unknown } {
    const bytes = Buffer.from(chunk)
    const decoder = new EventDecoder(cap)
    for (let taken = 0; taken < 100 * cap; taken += bytes.length) {
      try {
        decoder.feed([bytes], [])
      } catch (thrown) {
        return { bytes: taken, thrown }
      }
    }
    return { bytes: Number.POSITIVE_INFINITY, thrown: undefined }
  }

  it.each([
    'x',
    'data: x',
    'x'.repeat(300),
  ])('gives up on a line of %j without end, having kept no more than the cap', (chunk) => {
    const { bytes, thrown } = feedForEver(chunk)
    expect(thrown).toMatchObject(tooLong)
    expect(bytes).toBeLessThanOrEqual(cap)
  })

  it.each([
    'data: xxxxxxxxxxxxxxxxxxxxxxxx\n',
    'data:x\ndata:x\n',
  ])('gives up on an event of %j without end', (chunk) => {
    const { bytes, thrown } = feedForEver(chunk)
    expect(thrown).toMatchObject(tooLong)
    expect(bytes).toBeLessThanOrEqual(10 * cap)
  })

  it('gives up on an event of empty data lines without end, as each adds a line break', () => {
    expect(feedForEver('data:\ndata\n').thrown).toMatchObject(tooLong)
  })

  it('reads comments without end, as nothing of them is kept', () => {
    expect(feedForEver(`: ${'x'.repeat(80)}\n`).thrown).toBeUndefined()
  })

  it('counts each event for itself', () => {
    const body = Buffer.from(data('x'.repeat(cap / 2)).repeat(10))
    expect(feedAll([body], cap).events).toHaveLength(10)
    expect(feedAll(cut(body, [100, 1_500, 3_000]), cap).thrown).toBeUndefined()
  })

  it('delivers the events before a line that is too long, in the same read', () => {
    const { events, thrown } = feedAll([Buffer.from(`${data('x')}data: ${'x'.repeat(2 * cap)}`)], cap)
    expect(thrown).toMatchObject(tooLong)
    expect(events).toEqual([unknown('x')])
  })

  it('delivers the events before an event that is too long, in the same read', () => {
    const { events, thrown } = feedAll([Buffer.from(`${data('x')}data: ${'x'.repeat(2 * cap)}\n\n`)], cap)
    expect(thrown).toMatchObject(tooLong)
    expect(events).toEqual([unknown('x')])
  })
})
