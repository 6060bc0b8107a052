import { Agent, request } from 'node:http'
import { expect, it } from 'vitest'
import { eventually } from '../support/client.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

/** Streams one answer and checks its end; cheap enough to be done by the thousand. */
function stream(rig: Rig, agent: Agent, model: string): Promise<void> {
  const payload = JSON.stringify({ prompt: 'hi', model, max_tokens: 100_000 })
  return new Promise((resolve, reject) => {
    const post = request(
      `${rig.url}/stream`,
      { method: 'POST', agent, headers: { 'content-type': 'application/json' } },
      (response) => {
        let tail = ''
        response.setEncoding('latin1')
        response.on('data', (text: string) => {
          tail = (tail + text).slice(-600)
        })
        response.on('error', reject)
        response.on('end', () => {
          const whole =
            response.statusCode === 200 && tail.includes('"type":"done"') && tail.endsWith('data: [DONE]\n\n')
          if (whole) resolve()
          else reject(new Error(`${response.statusCode}: ${tail}`))
        })
      },
    )
    post.on('error', reject)
    post.end(payload)
  })
}

it('1,000 paced streams at once all end whole', async () => {
  const rig = await startRig({ logLevel: 'silent' })
  const agent = new Agent({ keepAlive: true, maxSockets: 1_000 })
  await Promise.all(Array.from({ length: 1_000 }, () => stream(rig, agent, sim({ text: 40, delay_ms: 50 }))))
  expect(rig.app.streams.live).toBe(0)
  agent.destroy()
})

it('10,000 short streams leave nothing behind', async () => {
  const rig = await startRig({ logLevel: 'silent', env: { SLUICE_STREAMS__RETENTION_MS: '0' } })
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  const round = async (count: number) => {
    let left = count
    const worker = async () => {
      while (left-- > 0) await stream(rig, agent, sim({ text: 3 }))
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    await eventually(() => rig.app.streams.live === 0 && rig.simulator.open === 0)
    rig.simulator.requests.length = 0
    return {
      heap: await settledHeap(),
      timers: process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length,
    }
  }
  const early = await round(2_000)
  const late = await round(8_000)
  expect(late.heap - early.heap).toBeLessThan(8 * 1024 * 1024)
  expect(late.timers).toBeLessThanOrEqual(early.timers + 5)
  agent.destroy()
}, 60_000)

/** The heap once nothing more goes away by itself. */
async function settledHeap(): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let n = 0; n < 5; n++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 50))
    least = Math.min(least, process.memoryUsage().heapUsed)
  }
  return least
}
