import { describe, expect, it } from 'vitest'
import { ResponseReader, type ResponseSink } from '../../bench/response.ts'
import { FillerCounter, StampReader } from '../../bench/scan.ts'
import { scoreFor } from '../../bench/score.ts'

/** Reads a text in pieces of a size, as a socket may bring it. */
function inPieces(text: string, size: number, read: (piece: Buffer) => void): void {
  for (let at = 0; at < text.length; at += size) read(Buffer.from(text.slice(at, at + size), 'latin1'))
}

const head = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
const sizes = [1, 2, 3, 7, 1_000]

describe('what the client reads', () => {
  it.each(sizes)('are whole bodies, in pieces of %d', (size) => {
    const seen: string[] = []
    let body = ''
    const sink: ResponseSink = {
      onBody: (bytes, from, to) => {
        body += bytes.toString('latin1', from, to)
      },
      onEnd: () => void seen.push(`end of ${body}`),
      onFault: (reason) => void seen.push(reason),
    }
    const reader = new ResponseReader(sink)
    const one = `${head}3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n`
    inPieces(one + one.replace('abc', 'xyz'), size, (piece) => reader.read(piece))
    expect(seen).toEqual(['end of abcd', 'end of abcdxyzd'])
  })

  it.each([
    ['HTTP/1.1 503 No\r\n\r\n', 'status 503'],
    ['HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n', 'body is not chunked'],
    [`${head}x\r\n`, 'broken chunk size'],
    [`${head}1\r\nabc`, 'broken chunk'],
  ])('is refused when it is %j', (text, reason) => {
    const seen: string[] = []
    const reader = new ResponseReader({
      onBody: () => {},
      onEnd: () => {},
      onFault: (fault) => void seen.push(fault),
    })
    reader.read(Buffer.from(`${text}\r\n`))
    expect(seen).toEqual([reason])
  })
})

describe('deltas', () => {
  const play = (model: string) => {
    const score = scoreFor(model)
    return score.start + score.delta() + score.delta() + score.end
  }

  it.each(sizes)('are counted, in pieces of %d', (size) => {
    const counter = new FillerCounter()
    inPieces(play('claude-sim?text=2&bytes=40&delay_ms=50'), size, (piece) => counter.scan(piece, 0, piece.length))
    expect(counter.count).toBe(2)
  })

  it.each(sizes)('tell when they were written, in pieces of %d', (size) => {
    const stamps: number[] = []
    const reader = new StampReader((stamp) => void stamps.push(stamp))
    const before = Number(process.hrtime.bigint())
    const text = play('claude-sim?text=2&bytes=40&delay_ms=50&stamp=1')
    const after = Number(process.hrtime.bigint())
    inPieces(text, size, (piece) => reader.scan(piece, 0, piece.length))
    expect(stamps).toHaveLength(2)
    for (const stamp of stamps) expect(stamp >= before && stamp <= after).toBe(true)
  })
})

it('the metronome plays an answer as Claude would', () => {
  const score = scoreFor('claude-sim?text=2&bytes=40&delay_ms=50')
  expect([score.deltas, score.delayMs]).toEqual([2, 50])
  let body = ''
  const reader = new ResponseReader({
    onBody: (bytes, from, to) => {
      body += bytes.toString('latin1', from, to)
    },
    onEnd: () => {},
    onFault: (reason) => expect.fail(reason),
  })
  reader.read(Buffer.from(head + score.start + score.delta() + score.delta() + score.end))
  const types = [...body.matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)].map(([, event, data]) => {
    expect(JSON.parse(data as string).type).toBe(event)
    return event
  })
  expect(types).toEqual([
    'message_start',
    'content_block_start',
    'content_block_delta',
    'content_block_delta',
    'content_block_stop',
    'message_delta',
    'message_stop',
  ])
})
