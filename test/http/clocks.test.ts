import { expect, it } from 'vitest'
import { eventually, fetchAll, open, parseFrames } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { sim, startRig } from '../support/sluice.ts'

/** Clocks that are not the one under test stay far away. */
const far = {
  SLUICE_TIMEOUTS__HEADERS_MS: '60000',
  SLUICE_TIMEOUTS__FIRST_EVENT_MS: '60000',
  SLUICE_TIMEOUTS__SILENCE_MS: '60000',
  SLUICE_TIMEOUTS__STALL_MS: '60000',
  SLUICE_TIMEOUTS__TOTAL_MS: '60000',
}

const cases = [
  ['headers_ms', 'upstream answers no headers', { headers_ms: 20_000 }, 'upstream_timeout', false],
  ['first_event_ms', 'upstream sends only pings', { pings_at: 0, ping_ms: 20 }, 'upstream_timeout', false],
  ['silence_ms', 'upstream sends nothing after its headers', { first_ms: 20_000 }, 'upstream_stalled', false],
  ['silence_ms', 'upstream falls silent in mid-answer', { text: 50, silence_at: 20 }, 'upstream_stalled', true],
  [
    'stall_ms',
    'upstream sends only pings in mid-answer',
    { text: 50, pings_at: 20, ping_ms: 20 },
    'upstream_stalled',
    true,
  ],
  ['total_ms', 'an answer goes on and on', { text: 100_000, delay_ms: 5 }, 'total_timeout', true],
  ['total_ms', 'nothing has come yet', { headers_ms: 20_000 }, 'total_timeout', false],
] as const

it.each(cases)('%s ends a stream when %s', async (clock, _, scenario, code, partial) => {
  const rig = await startRig({ env: { ...far, [`SLUICE_TIMEOUTS__${clock.toUpperCase()}`]: '300' } })
  const body = { prompt: 'hi', model: sim(scenario), max_tokens: 1_000_000 }
  const started = performance.now()
  const stream = await open(
    `${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model: body.model, max_tokens: '1000000' })}`,
  )
  const terminal = expectWholeJsonStream(parseFrames(await stream.ended))
  const elapsed = performance.now() - started
  expect(terminal).toMatchObject({ type: 'error', partial, error: { code } })
  expect(elapsed).toBeGreaterThan(290)
  expect(elapsed).toBeLessThan(600)
  const seen = await eventually(() => rig.simulator.requests[0])
  await eventually(() => seen.abortedAt, 1_000)
  const line = await eventually(() => rig.log.find((each) => each['message'] === 'stream ended'))
  expect(line).toMatchObject({ status: 'error', code, reason: clock })
  expect(rig.simulator.requests).toHaveLength(1)
})

it('a clock that ends a POST before it began is a 504', async () => {
  const rig = await startRig({ env: { ...far, SLUICE_TIMEOUTS__HEADERS_MS: '100' } })
  const answer = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ headers_ms: 5_000 }) } })
  expect([answer.status, JSON.parse(answer.body).error.code]).toEqual([504, 'upstream_timeout'])
})

it('pings keep the silence clock from firing, and events the stall clock', async () => {
  const rig = await startRig({ env: { ...far, SLUICE_TIMEOUTS__SILENCE_MS: '150', SLUICE_TIMEOUTS__STALL_MS: '400' } })
  const model = sim({ text: 4, delay_ms: 250, ping_ms: 50 })
  const { frames } = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } })
  expect(expectWholeJsonStream(frames)['type']).toBe('done')
})

it('heartbeats keep an idle client without moving the upstream clocks', async () => {
  const rig = await startRig({
    env: { ...far, SLUICE_TIMEOUTS__SILENCE_MS: '400', SLUICE_STREAMS__HEARTBEAT_MS: '60' },
  })
  const stream = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 30, silence_at: 10 }) } })
  const body = await stream.ended
  const beats = body.match(/^: heartbeat$/gm) ?? []
  expect(beats.length).toBeGreaterThanOrEqual(4)
  expect(beats.length).toBeLessThanOrEqual(7)
  expect(expectWholeJsonStream(parseFrames(body))).toMatchObject({ type: 'error', error: { code: 'upstream_stalled' } })
})

it('a POST commits after commit_after_ms and tells what follows in the stream', async () => {
  const rig = await startRig({ env: { ...far, SLUICE_STREAMS__COMMIT_AFTER_MS: '100' } })
  const started = performance.now()
  const stream = await open(`${rig.url}/stream`, {
    body: { prompt: 'hi', model: sim({ headers_ms: 400, status: 529 }) },
  })
  expect(performance.now() - started).toBeGreaterThan(90)
  expect(performance.now() - started).toBeLessThan(350)
  expect(stream.status).toBe(200)
  expect(expectWholeJsonStream(parseFrames(await stream.ended))).toMatchObject({
    error: { code: 'upstream_overloaded' },
  })
})

it('a POST commits at the first event that is no ping', async () => {
  const rig = await startRig({ env: { ...far, SLUICE_STREAMS__COMMIT_AFTER_MS: '30000' } })
  const stream = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ silence_at: 2 }) } })
  expect(stream.status).toBe(200)
  await stream.until('"start"')
  expect(stream.body).not.toContain('"message"')
  stream.destroy()
})
