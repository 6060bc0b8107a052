import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { comment, Frames } from '../../src/core/sse.ts'
import { parse, streamId } from '../support/logs.ts'

/** Text with far more line breaks and odd characters than chance would give. */
const text = fc
  .array(
    fc.oneof(
      fc.constantFrom('\r', '\n', '\r\n', '\0', '\u2028', '\u2029', '\ufeff', ' ', ':', 'data: ', 'id: 9', '[DONE]'),
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.integer({ min: 0xd700, max: 0xe0ff }).map((code) => String.fromCharCode(code)) }),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => pieces.join('').toWellFormed())

const withLf = (value: string) => value.replace(/\r\n?/g, '\n')

type Call = ['data' | 'text' | 'event' | 'mark', string]
const calls = fc.array(
  fc.oneof(
    fc.tuple(fc.constant('data' as const), fc.json()),
    fc.tuple(fc.constant('text' as const), text),
    fc.tuple(fc.constant('event' as const), fc.json()),
    fc.tuple(fc.constant('mark' as const), fc.constant('')),
  ),
  { maxLength: 20 },
)

function make(frames: Frames, [kind, value]: Call): void {
  if (kind === 'mark') frames.mark()
  else if (kind === 'event') frames.event('stream_error', value)
  else frames[kind](value)
}

function write(list: readonly Call[], after = 0): Frames {
  const frames = new Frames(streamId, after)
  for (const call of list) make(frames, call)
  return frames
}

describe('Frames', () => {
  it('writes each kind of frame by the letter', () => {
    const frames = write([
      ['data', '{"a":1}'],
      ['text', 'one\r\ntwo'],
      ['event', '{}'],
      ['mark', ''],
    ])
    frames.end('with [DONE]')
    expect(frames.take()).toBe(
      [
        `id: ${streamId}.1\ndata: {"a":1}\n\n`,
        `id: ${streamId}.2\ndata: one\ndata: two\n\n`,
        `id: ${streamId}.3\nevent: stream_error\ndata: {}\n\n`,
        `id: ${streamId}.4\n\n`,
        'data: [DONE]\n\n',
      ].join(''),
    )
  })

  it('gives any text back through an SSE parser, with every line break as LF', () => {
    fc.assert(
      fc.property(fc.array(text), (texts) => {
        const body = write(texts.map((each) => ['text', each])).take()
        expect(parse(body).map(({ data }) => data)).toEqual(texts.map(withLf))
      }),
    )
  })

  it('numbers all frames from 1 without gaps', () => {
    fc.assert(
      fc.property(calls, (list) => {
        const frames = write(list)
        expect(frames.count).toBe(list.length)
        const lines = frames.take().split('\n')
        const ids = lines.filter((line) => line.startsWith('id: '))
        expect(ids).toEqual(list.map((_, index) => `id: ${streamId}.${index + 1}`))
      }),
    )
  })

  it('drops exactly the frames up to `after`', () => {
    fc.assert(
      fc.property(calls, fc.nat(22), (list, after) => {
        const all = list.map((_, index) => write(list.slice(0, index + 1), index).take())
        const resumed = write(list, after)
        expect(resumed.take()).toBe(all.slice(after).join(''))
        expect(resumed.count).toBe(list.length)
      }),
    )
  })

  it('says the same however often it is emptied', () => {
    fc.assert(
      fc.property(calls, fc.infiniteStream(fc.boolean()), (list, cuts) => {
        const frames = new Frames(streamId)
        let taken = ''
        for (const call of list) {
          make(frames, call)
          if (cuts.next().value) taken += frames.take()
        }
        expect(taken + frames.take()).toBe(write(list).take())
        expect(frames.take()).toBe('')
      }),
    )
  })

  it('ends with [DONE] for a client that has every frame already', () => {
    const frames = write([['data', '{}']], 1)
    expect(frames.ended).toBe(false)
    frames.end('with [DONE]')
    expect(frames.ended).toBe(true)
    expect(frames.take()).toBe('data: [DONE]\n\n')
  })

  it('ends without a word in formats that have no mark', () => {
    const frames = write([])
    frames.end('without [DONE]')
    expect(frames.ended).toBe(true)
    expect(frames.take()).toBe('')
  })

  it('moves the position with a mark and dispatches nothing', () => {
    expect(parse(write([['mark', '']]).take())).toEqual([])
  })

  it('counts only, without text, after Infinity', () => {
    const frames = write(
      [
        ['data', '1'],
        ['mark', ''],
      ],
      Number.POSITIVE_INFINITY,
    )
    expect([frames.count, frames.take()]).toEqual([2, ''])
  })
})

it('writes comments that dispatch nothing', () => {
  expect(comment('heartbeat')).toBe(': heartbeat\n\n')
  expect(parse(comment('heartbeat'))).toEqual([])
})
