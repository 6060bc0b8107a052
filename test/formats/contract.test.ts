import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Delta, type DeltaKind, escapeJson } from '../../src/core/delta.ts'
import type { LogEvent } from '../../src/core/events.ts'
import type { Format } from '../../src/core/format.ts'
import { Frames } from '../../src/core/sse.ts'
import { formats } from '../../src/formats/registry.ts'
import { done, failed, fold, logOf, start, streamId, toolLog } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

const cancelled: LogEvent = { type: 'cancelled', by: 'client', usage: { input_tokens: 1, output_tokens: 1 } }

/** A body cut behind each frame. */
const split = (body: string): string[] => body.match(/[\s\S]*?\n\n/g) ?? []
const isNumbered = (frame: string) => frame.startsWith('id: ')

/** All that an SSE client sees, hears and might stumble over. */
function listen(body: string) {
  const seen = { ids: [] as string[], data: [] as string[], names: new Set<string | undefined>(), odd: [] as unknown[] }
  const odd = (what: unknown) => void seen.odd.push(what)
  const parser = createParser({
    onEvent: ({ data, event }) => {
      seen.data.push(data)
      seen.names.add(event)
    },
    onId: (id) => void seen.ids.push(id),
    onComment: odd,
    onRetry: odd,
    onError: odd,
  })
  parser.feed(body)
  return seen
}

const contiguous = (count: number) => Array.from({ length: count }, (_, index) => `${streamId}.${index + 1}`)

/** A log in which Claude says these things, each in a delta of its own. */
function logSaying(pieces: readonly (readonly [DeltaKind, string])[]): LogEvent[] {
  const blocks = [
    { type: 'text', text: '' },
    { type: 'thinking', thinking: '', signature: '' },
    { type: 'tool_use', id: 'toolu_1', name: 'weather', input: {} },
  ]
  const kinds: DeltaKind[] = ['text', 'thinking', 'input_json']
  const usage = { input_tokens: 1, output_tokens: 1 }
  return [
    start,
    {
      type: 'message_start',
      message: { id: 'msg_1', type: 'message', role: 'assistant', model: 'm', content: [], usage },
    },
    ...blocks.map((content_block, index) => ({ type: 'content_block_start', index, content_block })),
    ...pieces.map(([kind, text]) => new Delta(kind, kinds.indexOf(kind), escapeJson(text))),
    ...blocks.map((_, index) => ({ type: 'content_block_stop', index })),
    { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage },
    { type: 'message_stop' },
    done,
  ] as LogEvent[]
}

const logs: [string, () => LogEvent[]][] = [
  ...[...recordings].map(([name, bytes]): [string, () => LogEvent[]] => [name, () => logOf(bytes)]),
  ['an answer in steps', toolLog],
]

describe.each<[string, Format]>(Object.entries(formats))('the format %s', (name, format) => {
  it('is registered under its own name, with a heartbeat that no client takes for a frame', () => {
    expect(format.name).toBe(name)
    expect(split(format.heartbeat).join('')).toBe(format.heartbeat)
    expect(listen(format.heartbeat).ids).toEqual([])
  })

  describe.each(logs)('of %s', (_, logged) => {
    const events = logged()
    const body = fold(format, events)

    it('is the same every time', () => {
      expect(fold(format, structuredCloneLog(events))).toBe(body)
      expect(events).toEqual(logged())
    })

    it('numbers its frames from 1 without gaps, and adds nothing that a client would stumble over', () => {
      const { ids, odd } = listen(body)
      expect(ids).toEqual(contiguous(ids.length))
      expect(ids.length).toBeGreaterThan(1)
      expect(odd).toEqual([])
      expect(split(body).join('')).toBe(body)
    })

    it.each([done, failed, cancelled])('ends once, at the terminal event $type', (terminal) => {
      const frames = new Frames(streamId)
      const encode = format.encoder()
      for (const event of [...events.slice(0, -1), terminal]) {
        expect(frames.ended).toBe(false)
        encode(event, frames)
      }
      expect(frames.ended).toBe(true)
      const all = split(frames.take())
      const marks = all.filter((frame) => frame === 'data: [DONE]\n\n')
      const unnumbered = all.filter((frame) => !isNumbered(frame))
      expect(unnumbered).toEqual(marks)
      expect(marks.length).toBeLessThanOrEqual(1)
      if (marks.length > 0) expect(all.at(-1)).toBe(marks[0])
    })

    it('resumes after any frame with exactly the rest', () => {
      const frames = split(body)
      const count = frames.filter(isNumbered).length
      for (let after = 0; after <= count; after++) {
        const from = after === 0 ? 0 : frames.findIndex((frame) => frame.startsWith(`id: ${streamId}.${after}\n`)) + 1
        expect(fold(format, events, after)).toBe(frames.slice(from).join(''))
      }
    })

    it('is the same in whatever pieces it is taken', () => {
      const frames = new Frames(streamId)
      const encode = format.encoder()
      let taken = ''
      for (const event of events) {
        encode(event, frames)
        taken += frames.take()
      }
      expect(taken).toBe(body)
    })
  })

  it('lets no text of Claude’s make a field, name an event or end the stream', () => {
    const { names } = listen(
      fold(
        format,
        logSaying([
          ['text', 'a'],
          ['thinking', 'b'],
          ['input_json', '{}'],
        ]),
      ),
    )
    const piece = fc
      .array(
        fc.oneof(
          fc.constantFrom('\r', '\n', '\r\n', '\n\n', '\0', '\u2028', '\ufeff', '"', '\\', '🌊', '[DONE]'),
          fc.constantFrom('data: x', 'data: [DONE]', 'id: 7', 'event: error', 'retry: 1', ': comment', '"}\n\n'),
          fc.string({ unit: 'binary' }),
        ),
        { maxLength: 6 },
      )
      .map((parts) => parts.join(''))
    const kind = fc.constantFrom<DeltaKind>('text', 'thinking', 'input_json')
    fc.assert(
      fc.property(fc.array(fc.tuple(kind, piece), { maxLength: 12 }), (pieces) => {
        const body = fold(format, logSaying(pieces))
        const { ids, data, odd, names: seen } = listen(body)
        expect(odd).toEqual([])
        expect(ids).toEqual(contiguous(ids.length))
        expect(names.isSupersetOf(seen)).toBe(true)
        expect(data.slice(0, -1)).not.toContain('[DONE]')
      }),
      { numRuns: 300 },
    )
  })

  it('survives events that it does not know, and tells the rest as ever', () => {
    const unknown = [
      { type: 'unknown', event: { type: 'weather_report', sky: '\r\n\r\ndata: x' } },
      { type: 'content_block_start', index: 9, content_block: { type: 'hologram', voxels: 8 } },
      { type: 'content_block_delta', index: 9, delta: { type: 'voxel_delta', voxels: 64 } },
      { type: 'content_block_delta', index: 77, delta: { type: 'voxel_delta', voxels: 64 } },
      { type: 'content_block_stop', index: 9 },
      { type: 'content_block_stop', index: 77 },
      new Delta('input_json', 78, '{'),
    ] as LogEvent[]
    const [head, tail] = [logSaying([['text', 'a']]).slice(0, 6), logSaying([['text', 'a']]).slice(6)]
    const { ids, odd, data } = listen(fold(format, [...head, ...unknown, ...tail]))
    expect(odd).toEqual([])
    expect(ids).toEqual(contiguous(ids.length))
    const rest = listen(fold(format, [...head, ...tail])).data
    expect(data.filter((each) => rest.includes(each))).toEqual(rest)
  })
})

/** The same events as other objects: an encoder must not know them by identity. */
function structuredCloneLog(events: readonly LogEvent[]): LogEvent[] {
  return events.map((event) =>
    event.type === 'delta' ? new Delta(event.kind, event.index, event.escaped, event.raw) : structuredClone(event),
  )
}

/** An answer in steps of which each has other calls, and things happen to them in another order. */
const randomToolLog = fc
  .array(
    fc.array(
      fc.record({
        text: fc.string({ unit: 'binary', maxLength: 20 }),
        progress: fc.nat(2),
        consent: fc.constantFrom(undefined, 'approved', 'denied', 'answered', 'expired'),
        isError: fc.boolean(),
        isBlocks: fc.boolean(),
        isOurs: fc.boolean(),
      }),
      { maxLength: 4 },
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((steps) => steps.flatMap((calls, step) => stepEvents(step, calls)))
  .map((events): LogEvent[] => [{ ...start, tools: ['ours'] } as LogEvent, ...events, done])

type RandomCall = {
  text: string
  progress: number
  consent: string | undefined
  isError: boolean
  isBlocks: boolean
  isOurs: boolean
}

function stepEvents(step: number, calls: readonly RandomCall[]): LogEvent[] {
  const usage = { input_tokens: 1, output_tokens: 1 }
  const message = { id: `msg_${step}`, type: 'message', role: 'assistant', model: 'm', content: [], usage }
  const named = calls.map((call, n) => ({ ...call, id: `toolu_${step}_${n}`, name: call.isOurs ? 'ours' : 'theirs' }))
  const said = named.flatMap(({ id, name, text }, index) => [
    { type: 'content_block_start', index, content_block: { type: 'tool_use', id, name, input: {} } },
    new Delta('input_json', index, escapeJson(JSON.stringify({ text }))),
    { type: 'content_block_stop', index },
  ])
  const made = named.filter(({ isOurs }) => isOurs).flatMap(callEvents)
  const ending = { delta: { stop_reason: calls.length > 0 ? 'tool_use' : 'end_turn', stop_sequence: null }, usage }
  const whole = [{ type: 'message_delta', ...ending }, { type: 'message_stop' }]
  return [{ type: 'message_start', message }, ...said, ...whole, ...made] as LogEvent[]
}

function callEvents(call: RandomCall & { readonly id: string; readonly name: string }): object[] {
  const { id, name, text, progress, consent, isError: is_error, isBlocks } = call
  const own = { id, name }
  return [
    ...(consent ? [{ type: 'tool_approval', ...own, input: { text }, expires_at: '2026-11-21T12:00:00.000Z' }] : []),
    ...Array.from({ length: progress }, (_, n) => ({ type: 'tool_progress', ...own, text: `${n} ${text}` })),
    ...(consent ? [{ type: 'tool_decision', ...own, decision: consent }] : []),
    { type: 'tool_result', ...own, content: isBlocks ? [{ type: 'text', text }] : text, is_error },
  ]
}

it.each(Object.entries(formats))('%s resumes after any frame of any answer in steps, cut off anywhere', (_, format) => {
  fc.assert(
    fc.property(randomToolLog, fc.nat(), fc.constantFrom(done, failed, cancelled), (whole, cut, terminal) => {
      const events = [...whole.slice(0, 1 + (cut % (whole.length - 1))), terminal]
      const body = fold(format, events)
      const frames = split(body)
      const { ids, odd } = listen(body)
      expect([ids, odd]).toEqual([contiguous(ids.length), []])
      for (let after = 1; after <= ids.length; after++) {
        const from = frames.findIndex((frame) => frame.startsWith(`id: ${streamId}.${after}\n`)) + 1
        expect(fold(format, events, after)).toBe(frames.slice(from).join(''))
      }
    }),
    { numRuns: 40 },
  )
})
