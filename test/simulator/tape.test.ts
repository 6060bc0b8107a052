import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { neutralizer } from '../../src/simulator/neutral.ts'
import { readTape, Tape, type TapeEnd } from '../../src/simulator/tape.ts'
import { parse } from '../support/logs.ts'
import { recordings } from '../support/recordings.ts'

const head = { date: '2026-07-26T12:00:00.000Z', status: 200, version: '2023-06-01', headersMs: 840.4 }
const asItIs = (text: string) => text

/** A recording of pieces that came at these times. */
function record(pieces: readonly (readonly [bytes: string, atMs: number])[], how: TapeEnd = 'whole', atMs = 1_000) {
  const tape = new Tape(head, asItIs, 1_000)
  return pieces.map(([bytes, at]) => tape.add(bytes, at)).join('') + tape.end(how, atMs)
}
const play = (text: string) => readTape(Buffer.from(text, 'latin1'))

describe('a recording', () => {
  it('holds events and the times between them, as comments', () => {
    const start = 'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x"}}\n\n'
    const text = record(
      [
        [start, 1_012.4],
        ['data: {"a":', 1_020],
        ['1}\n\ndata: {"b":2}\n\n', 1_100.2],
      ],
      'whole',
      1_103,
    )
    expect(text).toBe(`: recorded by sluice, format 1
: date 2026-07-26T12:00:00.000Z
: model claude-x
: status 200
: anthropic-version 2023-06-01
: headers +840

: +12

${start}: +88

data: {"a":1}

data: {"b":2}

: +3 whole

`)
    expect(parse(text).map(({ data }) => data.length)).toEqual([55, 7, 7])
    expect(play(text)).toEqual({
      events: [start, 'data: {"a":1}\n\n', 'data: {"b":2}\n\n'],
      waits: [12, 88, 0, 3],
      headersMs: 840,
      cut: false,
    })
  })

  it('adds up to the time that it took, however short the steps', () => {
    const pieces = Array.from({ length: 1_000 }, (_, n) => ['data: x\n\n', 1_000 + 0.4 * n] as const)
    const { waits = [] } = play(record(pieces, 'whole', 1_400))
    expect(waits.reduce((sum, ms) => sum + ms, 0)).toBe(400)
  })

  it.each<TapeEnd>([
    'whole',
    'cut by upstream',
    'cut by client',
    'cut by recorder',
  ])('says that it ended %s, also inside an event and before the first', (how) => {
    for (const body of [
      '',
      'data: 1\n\n',
      'data: 1\n\ndata: half',
      'data: half\n',
      'data: 1\n\n: +0 whole',
      ': +7\n\n',
    ]) {
      const { events, cut } = play(record([[body, 1_000]], how))
      expect([events.join(''), cut]).toEqual([body, how !== 'whole'])
    }
  })

  it('without its end, as a crash leaves it, is a cut one', () => {
    const text = record([['data: 1\n\ndata: +1 whole\n\n', 1_005]])
    const { events, cut } = play(text.slice(0, text.lastIndexOf(': +')))
    expect([events, cut]).toEqual([['data: 1\n\n', 'data: +1 whole\n\n'], true])
  })

  it('of somebody else is played as it is', () => {
    const body = ': +5\ndata: 1\n\n: whole\n\n'
    expect(play(body)).toEqual({ events: [': +5\ndata: 1\n\n', ': whole\n\n'], cut: false })
  })

  it('gives back every byte, wherever it was cut and whatever ends its lines', () => {
    const line = fc.constantFrom('data: 1', ': +7', ': +0 whole', 'é', '', '\n', '\r\n', '\r', '\n\n', '\r\n\r\n')
    fc.assert(
      fc.property(fc.array(fc.array(line, { maxLength: 5 }), { maxLength: 8 }), (chunks) => {
        const pieces = chunks.map(
          (chunk, n) => [Buffer.from(chunk.join('')).toString('latin1'), 1_000 + n * 3] as const,
        )
        const { events } = play(record(pieces, 'whole', 2_000))
        expect(events.join('')).toBe(pieces.map(([bytes]) => bytes).join(''))
      }),
    )
  })

  it('gives up on an event that does not end', () => {
    const tape = new Tape(head, asItIs, 0)
    expect(() => {
      for (let n = 0; n < 20; n++) tape.add('x'.repeat(1_000_000), n)
    }).toThrow('longer than')
  })
})

describe('what is taken out', () => {
  const neutral = neutralizer()

  it('is keys, ids and organisations, the same one the same way', () => {
    const id = 'toolu_01A09q90qw90lq917835lq9'
    const uuid = '8b1a9953-c461-4f2e-9c3a-0123456789ab'
    const text = neutral(
      JSON.stringify({
        id,
        tool_use_id: id,
        request_id: 'req_sim_1',
        text: `\n${id} and ${uuid} with sk-ant-api03-AbC_d-9 and slk_${'x'.repeat(43)} of ${uuid}`,
      }),
    )
    for (const secret of ['01A09', 'req_sim_1', '8b1a9953', 'AbC_d', 'xxx']) expect(text).not.toContain(secret)
    const told = JSON.parse(text)
    expect(told.id).toMatch(/^toolu_[0-9a-f]{24}$/)
    expect(told.tool_use_id).toBe(told.id)
    expect(told.request_id).toMatch(/^req_[0-9a-f]{24}$/)
    const [one, other] = told.text.match(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g)
    expect(other).toBe(one)
    expect(told.text).toBe(`\n${told.id} and ${one} with sk-ant-removed and slk_removed of ${one}`)
    expect(neutralizer()(JSON.stringify({ id }))).not.toContain(told.id)
  })

  it('is nothing that Claude may say of programs', () => {
    const text = JSON.stringify({ text: 'const file_descriptor = msg_queue_0 + req_count; "id":"x"', name: 'get_id' })
    expect(neutral(text)).toBe(text)
  })

  it.each([...recordings])('leaves %s what it was, but for its ids', (_, bytes) => {
    const before = bytes.toString('latin1')
    const after = neutral(before)
    const shape = (text: string) => parse(text).map(({ event, data }) => [event, Object.keys(JSON.parse(data))])
    expect(shape(after)).toEqual(shape(before))
    for (const [id] of before.matchAll(/(?:msg|toolu|req)_0[0-9][A-Za-z0-9]{18,}/g)) expect(after).not.toContain(id)
  })
})
