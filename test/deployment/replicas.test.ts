import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { eventually, open, parseFrames, type WireFrame } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { sim, startRig } from '../support/sluice.ts'
import { accepts, freePort, run } from './programs.ts'
import { proxyNames, startProxy } from './proxy.ts'
import { root } from './settings.ts'

/** A Redis with the settings of the docs. */
async function startRedis(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-redis-'))
  const port = await freePort()
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder]
  await run(['redis-server', join(root, 'docs/deployment/redis.conf'), ...place], folder)
  await eventually(() => accepts(port), 5_000)
  return `redis://127.0.0.1:${port}`
}

it.each(proxyNames)('behind %s a replica that shuts down hands its readers to the other', async (name) => {
  const env = { REDIS_URL: await startRedis(), SLUICE_SERVER__DRAIN_MS: '15000' }
  const rigs = [await startRig({ env }), await startRig({ env })] as const
  const proxy = await startProxy(name, { servers: rigs.map((rig) => rig.url) })
  const url = `${proxy.url}/stream?prompt=hi&model=${encodeURIComponent(sim({ text: 120, delay_ms: 50 }))}`
  const first = await open(url)
  await first.until(/(?:"type":"text"[\s\S]*){5}/)
  const owner = await eventually(() => rigs.find((rig) => rig.simulator.requests.length === 1))
  const host = new URL(owner.url).host
  // nginx asks nobody whether it is ready: it is told, before the replica is.
  if (name === 'nginx') proxy.reload({ [`server ${host} `]: `server ${host} down ` })
  const stopped = owner.app.shutDown()
  const frames: WireFrame[] = parseFrames(await first.ended).filter((frame) => frame.id)
  let connections = 1
  while (frames.at(-1)?.data !== '[DONE]' && connections++ < 30) {
    const headers = { 'last-event-id': frames.at(-1)?.id as string }
    const next = await open(url, { headers })
    expect(next.status).toBe(200)
    frames.push(...parseFrames(await next.ended).filter((frame) => frame.data))
  }
  expect(connections).toBeGreaterThan(1)
  expect(expectWholeJsonStream(frames)['type']).toBe('done')
  expect(rigs.map((rig) => rig.simulator.requests.length).sort()).toEqual([0, 1])
  await stopped
})
