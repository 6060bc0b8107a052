import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formats } from '../../src/formats/registry.ts'
import { fetchAll, jsonFrames, open, parseFrames, type WireFrame } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { expectedOf, recordings } from '../support/recordings.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig({ env: { SLUICE_STREAMS__COMMIT_AFTER_MS: '0' } })
})
afterAll(() => rig.close())

async function post(model: string, format = 'json') {
  return fetchAll(`${rig.url}/stream`, { body: { prompt: 'hello', model, format } })
}

const textOf = (frames: readonly WireFrame[]) =>
  frames
    .filter((frame) => frame.data !== undefined && frame.event === undefined && frame.data !== '[DONE]')
    .map((frame) => frame.data)
    .join('')

function join(frames: Record<string, unknown>[], type: string): string {
  return frames
    .filter((frame) => frame['type'] === type)
    .map((frame) => frame['text'])
    .join('')
}

function expectNothingLost(frames: WireFrame[], recording: Buffer): void {
  const expected = expectedOf(recording)
  const terminal = expectWholeJsonStream(frames)
  const parsed = jsonFrames(frames)
  const of = (type: string) => parsed.filter((frame) => frame['type'] === type)
  expect(join(parsed, 'text')).toBe(expected.text)
  expect(join(parsed, 'thinking')).toBe(expected.thinking)
  expect(of('tool_call').map(({ id, name, input }) => ({ id, name, input }))).toEqual(expected.tools)
  expect(of('citation').map((frame) => frame['citation'])).toEqual(expected.citations)
  const blocks = of('block').map((frame) => frame['content_block'] as { type: string; signature?: string })
  expect(blocks.filter((block) => block.type !== 'thinking')).toEqual(expected.otherBlocks)
  const signatures = blocks.filter((block) => block.type === 'thinking').map((block) => block.signature)
  expect(signatures).toEqual(expected.signatures)
  if (expected.whole) {
    expect(terminal).toMatchObject({ type: 'done', stop_reason: expected.stopReason, usage: expected.usage })
  } else {
    expect(terminal).toMatchObject({ type: 'error', partial: true, error: { code: 'upstream_overloaded' } })
  }
}

const chunkings: Record<string, Record<string, string | number>> = {
  'as recorded': {},
  'with CRLF': { lines: 'crlf' },
  'with CR': { lines: 'cr' },
  'byte by byte': { split: 1 },
  'in sevens, with CRLF': { split: 7, lines: 'crlf' },
}

describe.each([...recordings.keys()])('%s', (name) => {
  const recording = recordings.get(name) as Buffer

  it.each(Object.keys(chunkings))('loses nothing %s', async (chunking) => {
    const { frames } = await post(sim({ recording: name, ...chunkings[chunking] }))
    expectNothingLost(frames, recording)
  })

  it('gives its text in the text format', async () => {
    const { frames, body } = await post(sim({ recording: name }), 'text')
    const expected = expectedOf(recording)
    expect(textOf(frames)).toBe(expected.text)
    expect(body.endsWith('data: [DONE]\n\n')).toBe(true)
    expect(body.includes('event: stream_error')).toBe(!expected.whole)
  })

  it.each(Object.keys(formats))('can be resumed after every frame in %s', async (format) => {
    const { frames, headers } = await post(sim({ recording: name }), format)
    const url = `${rig.url}/streams/${headers['x-stream-id']}?format=${format}`
    const numbered = frames.filter((frame) => frame.id !== undefined)
    for (const [index, frame] of numbered.entries()) {
      const rest = await fetchAll(url, { headers: { 'last-event-id': frame.id as string } })
      if (index === numbered.length - 1) expect(rest.status).toBe(204)
      else expect(rest.frames).toEqual(frames.slice(index + 1))
    }
  })
})

describe('a stream cut while it is live', () => {
  it.each([
    'vercel-ai__text',
    'openinference__parallel-tools-sonnet-4-6',
    'prism__citations-document',
  ])('is whole after a resume behind any frame of %s', async (recording) => {
    const whole = await post(sim({ recording }))
    const count = whole.frames.length - 1
    await inParallel(8, count - 1, async (n) => {
      const live = await open(`${rig.url}/stream`, {
        body: { prompt: 'hello', model: sim({ recording, delay_ms: 2 }), on_disconnect: 'grace' },
      })
      const stream = String(live.headers['x-stream-id'])
      await live.until(new RegExp(`id: ${stream}\\.${n + 1}\\n.*\\n\\n`))
      live.destroy()
      const seen = parseFrames(live.body).filter((frame) => frame.id !== undefined)
      const rest = await fetchAll(`${rig.url}/streams/${stream}`, {
        headers: { 'last-event-id': seen.at(-1)?.id as string },
      })
      const strip = (frames: WireFrame[]) =>
        jsonFrames(frames).map(({ stream: _, timing, upstream_request_id, model, ...frame }) => frame)
      if (rest.status !== 204) expectWholeJsonStream([...seen, ...rest.frames])
      expect(strip([...seen, ...rest.frames])).toEqual(strip(whole.frames))
    })
  })
})

describe('upstream cut at every byte', () => {
  it.each([
    'vercel-ai__text',
    'ruby-llm__tool-weather',
    'ruby-llm__emoji-after-tool',
  ])('never looks finished when %s is truncated', async (name) => {
    const recording = recordings.get(name) as Buffer
    const expected = expectedOf(recording)
    // From the line break behind `message_stop` on nothing is missing, even without the blank line that should follow.
    const wholeAt = recording.lastIndexOf('}') + 2
    await inParallel(16, recording.length + 1, async (at) => {
      const { status, body, frames } = await post(sim({ recording: name, end_at_byte: at }))
      if (status !== 200) {
        expect(JSON.parse(body).error.code).toBe('upstream_truncated')
        return
      }
      const terminal = expectWholeJsonStream(frames)
      expect(terminal['type']).toBe(at >= wholeAt ? 'done' : 'error')
      expect(expected.text.startsWith(join(jsonFrames(frames), 'text'))).toBe(true)
    })
  })

  it('never looks finished when the connection is reset', async () => {
    const name = 'vercel-ai__text'
    const { length } = recordings.get(name) as Buffer
    await inParallel(16, Math.floor(length / 13), async (n) => {
      const { status, frames } = await post(sim({ recording: name, reset_at_byte: n * 13 }))
      if (status === 200) expect(expectWholeJsonStream(frames)['type']).toBe('error')
    })
  })
})

async function inParallel(width: number, count: number, work: (n: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: width }, worker))
}
