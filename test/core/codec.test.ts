import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeEvent, encodeEvent, MalformedEvent, parseWireEvent } from '../../src/core/codec.ts'
import { Delta, deltaShapes, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import { done, failed, jsonOf, logOf, start } from '../support/logs.ts'
import { parseRecording, recordings } from '../support/recordings.ts'

/** A parsed event in Claude's own terms again. */
function plain(event: ReturnType<typeof parseWireEvent>): unknown {
  if (event.type === 'delta') {
    const { type, field } = deltaShapes[event.kind]
    return { type: 'content_block_delta', index: event.index, delta: { type, [field]: event.text } }
  }
  if (event.type === 'wire_error') return { type: 'error', error: event.error }
  return event.type === 'unknown' ? event.event : event
}

describe('parseWireEvent', () => {
  it.each([...recordings])('reads every event of %s as JSON.parse does', (_, recording) => {
    const lines = recording
      .toString('utf8')
      .split('\n')
      .filter((line) => line.startsWith('data:'))
    const expected = parseRecording(recording).map((event) =>
      event.type === 'error'
        ? { type: 'error', error: { type: event.error.type, message: event.error.message } }
        : event,
    )
    expect(lines.map((line) => plain(parseWireEvent(line.slice(5))))).toEqual(expected)
  })

  it('makes no ordinary object of any delta of text, thinking or tool input', () => {
    for (const shape of Object.values(deltaShapes)) {
      const delta = { [shape.field]: 'a"\n🌊', type: shape.type }
      const event = parseWireEvent(JSON.stringify({ index: 2, delta, type: 'content_block_delta' }))
      expect(event).toBeInstanceOf(Delta)
      expect(plain(event)).toEqual({ type: 'content_block_delta', index: 2, delta })
    }
  })

  it('keeps what a delta says beyond its payload', () => {
    const json = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x","logprob":-1}}'
    const delta = parseWireEvent(json) as Delta
    expect([delta.text, JSON.parse(jsonOf(delta))]).toEqual(['x', JSON.parse(json)])
  })

  it.each([
    'weather_report',
    'done',
    'start',
    'unknown',
    'delta',
    'wire_error',
    'constructor',
    '__proto__',
  ])('passes an event of the unknown type %s through whole', (type) => {
    const event = { type, forecast: { sky: 'clear' } }
    expect(parseWireEvent(JSON.stringify(event))).toEqual({ type: 'unknown', event })
  })

  it.each([
    'voxel_delta',
    'constructor',
    'toString',
    '__proto__',
  ])('passes the unknown delta %s through whole', (type) => {
    const event = { type: 'content_block_delta', index: 0, delta: { type, voxels: 8 } }
    expect(parseWireEvent(JSON.stringify(event))).toEqual(event)
  })

  it('reads a ping as no more than that', () => {
    expect(parseWireEvent('{"type":"ping","padding":"xxxx"}')).toEqual({ type: 'ping' })
  })

  it.each([
    ['{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', 'overloaded_error', 'Overloaded'],
    ['{"type":"error","error":{"type":"overloaded_error"}}', 'overloaded_error', ''],
    ['{"type":"error","error":null}', 'api_error', ''],
    ['{"type":"error"}', 'api_error', ''],
    ['{"type":"error","error":"secret"}', 'api_error', ''],
  ])('reads the error %s', (json, type, message) => {
    expect(parseWireEvent(json)).toEqual({ type: 'wire_error', error: { type, message } })
  })

  it.each([
    '',
    'secret',
    '{"type":"secret"',
    '{{"type":"message_stop","x":"secret"}',
    '"secret"',
    'null',
    '["secret"]',
    '{"secret":1}',
    '{"type":5,"x":"secret"}',
    '{"type":"message_start","message":"secret"}',
    '{"type":"message_start"}',
    '{"type":"content_block_start","index":0,"content_block":"secret"}',
    '{"type":"content_block_start","index":"secret","content_block":{"type":"text"}}',
    '{"type":"content_block_start","index":0.5,"content_block":{"type":"secret"}}',
    '{"type":"content_block_start","index":0,"content_block":{"text":"secret"}}',
    '{"type":"content_block_delta","index":0,"delta":["secret"]}',
    '{"type":"content_block_delta","delta":{"type":"text_delta","text":"secret"}}',
    '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","secret":"x"}}',
    '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":["secret"]}}',
    '{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","text":"secret"}}',
    '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":{"secret":1}}}',
    '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"secret\\x"}}',
    '{"type":"content_block_stop","x":"secret"}',
    '{"type":"message_delta","delta":"secret"}',
  ])('refuses %s without quoting it', (json) => {
    let thrown: unknown
    try {
      parseWireEvent(json)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(MalformedEvent)
    const { message, cause } = thrown as Error
    expect(message).not.toMatch(/secret/)
    expect(message).not.toBe('')
    expect(cause).toBeUndefined()
  })

  it('throws nothing but MalformedEvent, whatever it is fed', () => {
    const typed = fc.record({
      type: fc.constantFrom('message_start', 'content_block_delta', 'error', 'x'),
      delta: fc.anything(),
    })
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          typed.map((each) => JSON.stringify(each)),
        ),
        (json) => {
          try {
            parseWireEvent(json)
          } catch (thrown) {
            expect(thrown).toBeInstanceOf(MalformedEvent)
          }
        },
      ),
    )
  })
})

describe('encodeEvent and decodeEvent', () => {
  const roundTrip = (event: LogEvent) => decodeEvent(encodeEvent(event))

  it.each([...recordings])('give back the log of %s', (_, recording) => {
    const events = logOf(recording)
    expect(events.map(roundTrip)).toEqual(events)
  })

  it.each<LogEvent>([
    start,
    done,
    failed,
    { ...done, stop_sequence: 'END', stop_details: { category: 'x' } },
    { type: 'cancelled', by: 'stop', usage: { input_tokens: 1, output_tokens: 2, measured: false } },
    new Delta('thinking', 7, escapeJson('a "quoted" \\ line\nand 🌊')),
    ...['weather_report', 'start', 'done', 'error', 'cancelled', 'unknown', 'delta', 'ping'].map(
      (type): LogEvent => ({ type: 'unknown', event: { type, error: { type: 'x' }, by: 'upstream' } }),
    ),
  ])('give back %j', (event) => {
    expect(roundTrip(event)).toEqual(event)
  })

  it.each([
    'start',
    'done',
    'cancelled',
    'unknown',
    'delta',
  ])('keep an event of Claude’s apart from our own when it calls itself %s', (type) => {
    const event = parseWireEvent(JSON.stringify({ type, by: 'upstream' })) as LogEvent
    expect(event.type).toBe('unknown')
    expect(roundTrip(event)).toEqual(event)
  })

  it('write one line an event, even when Claude’s JSON came in several', () => {
    const json = '{"type":"content_block_delta",\n"index":0,\n"delta":{"type":"text_delta","text":"x","logprob":-1}}'
    const event = parseWireEvent(json) as LogEvent
    expect(encodeEvent(event)).not.toMatch(/[\r\n]/)
    expect(decodeEvent(encodeEvent(event))).toMatchObject({ kind: 'text', index: 0, text: 'x' })
  })
})
