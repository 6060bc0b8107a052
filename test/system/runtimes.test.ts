import { request } from 'node:http'
import { describe, expect, it } from 'vitest'
import { startBalancer } from '../support/balancer.ts'
import { eventually } from '../support/client.ts'
import { seeded } from '../support/random.ts'
import { type Outcome, type Reading, readWithClient } from '../support/read-with-client.ts'
import { readIn } from '../support/runtimes.ts'
import { serve } from '../support/serve.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'
import { spokenText } from '../support/transcript.ts'

const deltas = 60
const reading = (url: string, more: Partial<Reading> = {}): Reading => ({
  url: `${url}/stream`,
  body: { prompt: 'hello', model: sim({ text: deltas, delay_ms: 3 }) },
  retry: { minMs: 5, maxMs: 50, attempts: 50 },
  ...more,
})

/** All that an uncut reader gets, and one question to Claude. */
async function expectWhole(rig: Rig, { id, ...outcome }: Outcome): Promise<void> {
  const uncut = await readWithClient({ ...reading(rig.url), id: String(id) })
  expect(outcome).toEqual({ ...uncut, id: undefined, reconnects: outcome.reconnects })
  expect(outcome.text).toBe(spokenText(deltas))
  expect(outcome.positions).toEqual(outcome.frames.map((_, n) => n + 1))
  const types = outcome.frames.map((frame) => (JSON.parse(frame) as { type: string }).type)
  expect(types).toEqual(['start', 'message', ...Array.from({ length: deltas }, () => 'text'), 'done'])
  expect(rig.simulator.requests).toHaveLength(1)
}

/** A proxy before a Sluice that gives the first answer up to the tenth event, and then ends it properly or says no more. */
function startHalving(rig: Rig, ends: boolean): Promise<string> {
  let first = true
  return serve((asked, answer) => {
    const { method, url, headers } = asked
    const half = first
    first = false
    const onward = request(`${rig.url}${url}`, { method, headers }, (whole) => {
      answer.writeHead(whole.statusCode as number, whole.headers)
      if (!half) return void whole.pipe(answer)
      let body = ''
      whole.setEncoding('utf8').on('data', (text: string) => {
        body += text
        const events = body.split('\n\n')
        if (events.length <= 10) return
        whole.destroy()
        answer.write(`${events.slice(0, 10).join('\n\n')}\n\n`)
        if (ends) answer.end()
      })
    })
    asked.pipe(onward)
  })
}

describe.each(['deno', 'bun'] as const)('the client in %s', (runtime) => {
  it('has the whole answer over a network that is cut, and asks once', async () => {
    const rig = await startRig()
    const random = seeded(runtime)
    await using network = await startBalancer([rig.url], { random, leastBytes: 1, mostBytes: 2_000 })
    const outcome = await readIn(runtime, reading(network.url))
    await expectWhole(rig, outcome)
    expect(outcome.reconnects).toBeGreaterThan(2)
  })

  it.each([
    { what: 'an answer that ends as if it were whole', ends: true, more: {} },
    { what: 'a connection that says nothing more', ends: false, more: { silenceMs: 1_000 } },
  ])('goes on behind $what', async ({ ends, more }) => {
    const rig = await startRig()
    const outcome = await readIn(runtime, reading(await startHalving(rig, ends), more))
    await expectWhole(rig, outcome)
    expect(outcome.reconnects).toBe(1)
  })

  // A request to stop may take ten seconds, but its timer must not keep a program that has nothing more to do.
  it('stops the answer at Claude, and ends', { timeout: 9_000 }, async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__ON_DISCONNECT: 'finish' } })
    const body = { prompt: 'hello', model: sim({ text: 5_000, delay_ms: 10 }) }
    const outcome = await readIn(runtime, reading(rig.url, { body, abortBehind: 5 }))
    expect(outcome.positions).toEqual([1, 2, 3, 4, 5])
    expect([outcome.text, outcome.failure]).toEqual([undefined, undefined])
    await eventually(() => rig.simulator.requests[0]?.abortedAt)
  })
})
