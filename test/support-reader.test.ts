import { describe, expect, it } from 'vitest'
import { seeded } from './support/random.ts'
import { randomCuts, readStream } from './support/reader.ts'
import { serve } from './support/serve.ts'
import { clean, isClean, judge, judgeText, type Transcript, textOf } from './support/transcript.ts'

describe('the reader', () => {
  /** What a server sends on one connection; without an end it hangs up in the middle. */
  type Part = { readonly body: string; readonly hold?: boolean }

  /** Serves one part a connection and keeps the positions it was asked for; then 204. */
  async function serveParts(...parts: Part[]) {
    const positions: (string | undefined)[] = []
    const url = await serve((request, response) => {
      positions.push(request.headers['last-event-id'] as string | undefined)
      const part = parts.shift()
      if (!part) return void response.writeHead(204).end()
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(part.body, () => (part.hold ? undefined : response.socket?.destroySoon()))
    })
    return { url, positions }
  }

  const text = (n: number, content = `t${n}`) => `id: s.${n}\ndata: {"type":"text","text":"${content}"}\n\n`
  const end = (n: number) => `id: s.${n}\ndata: {"type":"done"}\n\n`
  const read = (url: string) => readStream({ bases: [url], path: '/streams/s', retryMs: 1, patienceMs: 5_000 })

  it('comes back with the last whole frame, and judges what it got', async () => {
    const { url, positions } = await serveParts(
      { body: `${text(1)}${text(2)}id: s.3\ndata: {"ty` },
      { body: `: heartbeat\n\nretry: 20\n\n` },
      { body: `${text(3)}${end(4)}data: [DONE]\n\n` },
    )
    const transcript = await read(url)
    expect(positions).toEqual([undefined, 's.2', 's.2'])
    expect(transcript).toMatchObject({ connections: 3, end: 'whole', strays: [] })
    expect(textOf(transcript)).toBe('t1t2t3')
    expect(judge(transcript, transcript)).toEqual(clean())
  })

  it('stops at 204, which is an end for who has the terminal frame', async () => {
    const { url } = await serveParts({ body: `${text(1)}${end(2)}` })
    expect(judge(await read(url))).toEqual(clean())
    const none = await serveParts({ body: text(1) })
    expect(judge(await read(none.url))).toMatchObject({ terminals_wrong: 1 })
  })

  it.each([
    ['a gap', text(1) + text(3) + end(4), { gaps: 1, lost: 1, duplicated: 2 }],
    ['an order', text(2) + text(1) + end(3), { gaps: 1, out_of_order: 1 }],
    ['other content', text(1) + text(1, 'x') + text(2) + end(3), { duplicated: 1 }],
    ['two ends', text(1) + text(2) + end(3) + end(4), { terminals_wrong: 1, duplicated: 1 }],
    ['a frame behind the end', `${text(1)}${text(2)}${end(3)}data: [DONE]\n\n${text(4)}`, { terminals_wrong: 1 }],
  ])('sees %s', async (_, body, expected) => {
    const golden = await read((await serveParts({ body: `${text(1)}${text(2)}${end(3)}data: [DONE]\n\n` })).url)
    const { url } = await serveParts({ body: body.includes('[DONE]') ? body : `${body}data: [DONE]\n\n` })
    expect(judge(await read(url), golden)).toEqual({ ...clean(), ...expected })
  })

  it('does not wait for ever', async () => {
    const { url } = await serveParts({ body: text(1), hold: true })
    const transcript = await readStream({ bases: [url], path: '/streams/s', patienceMs: 100 })
    expect(transcript.end).toBe('out of patience')
    expect(isClean(judge(transcript))).toBe(false)
  })

  it('loses its connections at random, and the same ones for the same seed', () => {
    const cuts = (seed: number) => {
      const cut = randomCuts(seeded(seed), { cuts: 20, mostFrames: 9, mostBytes: 99 })
      return Array.from({ length: 22 }, (_, n) => cut(n + 1))
    }
    expect(cuts(1)).toEqual(cuts(1))
    expect(cuts(1)).not.toEqual(cuts(2))
    expect(cuts(1).slice(20)).toEqual([undefined, undefined])
  })
})

it('stamped texts show what was lost, came twice, or moved', () => {
  const said = ['@1;A ', '@2;sluice ', '@3;lets ']
  const judged = (...pieces: (string | undefined)[]) => Object.values(judgeText(pieces.join(''), 3))
  expect(judged(...said)).toEqual([0, 0, 0])
  expect(judged(said[0], said[1])).toEqual([1, 0, 0])
  expect(judged(...said, said[2])).toEqual([0, 1, 0])
  expect(judged(said[0], said[2], said[1])).toEqual([1, 0, 1])
  expect(judged(said[0], said[2])).toEqual([2, 0, 0])
})

it('a transcript is what a reader has, in any format', () => {
  const frame = (n: number, data?: string, event?: string) => ({
    ...{ id: `s.${n}`, n, connection: 1, at: 0 },
    ...(data !== undefined && { data }),
    ...(event !== undefined && { event }),
  })
  const transcript = (format: string, ...frames: Transcript['frames']): Transcript => ({
    ...{ format, frames, connections: 1, end: 'whole', announcement: [], strays: [] },
  })
  const plain = transcript('text', frame(1), frame(2, 'a'), frame(3))
  expect([textOf(plain), judge(plain)]).toEqual(['a', clean()])
  const failed = transcript('text', frame(1), frame(2, '{"type":"error"}', 'stream_error'))
  expect([textOf(failed), judge(failed)]).toEqual(['', clean()])
})
