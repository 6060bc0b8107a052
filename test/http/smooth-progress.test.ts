import { afterAll, beforeAll, expect, it } from 'vitest'
import { fetchAll, jsonFrames, open, parseFrames } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'

let rig: Rig
beforeAll(async () => {
  rig = await openRig()
})
afterAll(() => rig.close())

const textOf = (frames: Record<string, unknown>[]) =>
  frames
    .filter((frame) => frame['type'] === 'text')
    .map((frame) => frame['text'])
    .join('')

it.each([
  'word',
  'sentence',
  'line',
])('smooth=%s changes the pieces and not the text, and resumes exactly', async (smooth) => {
  const model = sim({ recording: 'ruby-llm__web-search' })
  const plain = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } })
  const smoothed = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model, smooth } })
  expect(textOf(jsonFrames(smoothed.frames))).toBe(textOf(jsonFrames(plain.frames)))
  expect(jsonFrames(smoothed.frames).length).not.toBe(jsonFrames(plain.frames).length)
  expectWholeJsonStream(smoothed.frames)
  const url = `${rig.url}/streams/${smoothed.headers['x-stream-id']}?smooth=${smooth}`
  const numbered = smoothed.frames.filter((frame) => frame.id)
  for (const n of [1, 2, Math.floor(numbered.length / 2), numbered.length - 1]) {
    const rest = await fetchAll(url, { headers: { 'last-event-id': numbered[n - 1]?.id as string } })
    expect(rest.frames).toEqual(smoothed.frames.slice(n))
  }
  const end = await fetchAll(url, { headers: { 'last-event-id': numbered.at(-1)?.id as string } })
  expect(end.status).toBe(204)
})

it('smoothing lets a burst flow, soon enough', async () => {
  const started = performance.now()
  const stream = await open(
    `${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model: sim({ text: 60 }), smooth: 'word' })}`,
  )
  await stream.until('"type":"text"')
  const first = parseFrames(stream.body).length
  expect(first).toBeLessThan(40)
  await stream.ended
  expect(performance.now() - started).toBeLessThan(1_000)
})

it('formats for machines are not smoothed', async () => {
  const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', format: 'anthropic', smooth: 'word' } })
  expect([answer.status, JSON.parse(answer.body).error.message]).toEqual([400, expect.stringContaining('smooth')])
})

it('tells the progress when asked, and only then', async () => {
  const body = { prompt: 'hi', model: sim({ text: 80, delay_ms: 10 }), max_tokens: 160 }
  const asked = jsonFrames((await fetchAll(`${rig.url}/stream`, { body: { ...body, progress: true } })).frames)
  const progress = asked.filter((frame) => frame['type'] === 'progress')
  expect(progress.length).toBeGreaterThanOrEqual(2)
  expect(progress.length).toBeLessThanOrEqual(6)
  for (const frame of progress) {
    expect(frame).toEqual({
      type: 'progress',
      output_tokens: expect.any(Number),
      percent: expect.any(Number),
      tokens_per_second: expect.anything(),
      elapsed_ms: expect.any(Number),
    })
  }
  expect(progress.at(-1)?.['percent']).toBeGreaterThan(progress[0]?.['percent'] as number)
  expect(asked.at(-1)?.['type']).toBe('done')
  const silent = jsonFrames((await fetchAll(`${rig.url}/stream`, { body })).frames)
  expect(silent.some((frame) => frame['type'] === 'progress')).toBe(false)
})
