import { EventSource } from 'eventsource'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Balancer, startBalancer } from '../support/balancer.ts'
import { bundlePage, launchBrowser, servePages } from '../support/browser.ts'
import { type Random, seeded } from '../support/random.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'
import { spokenText } from '../support/transcript.ts'

let redis: Redis
let replicas: Rig[]
beforeAll(async () => {
  redis = await startRedis()
  const first = await openRig({ env: { REDIS_URL: redis.url } })
  const env = { REDIS_URL: redis.url, ANTHROPIC_BASE_URL: first.simulator.url }
  replicas = [first, await openRig({ env })]
})
afterAll(async () => {
  for (const each of [...replicas.toReversed(), redis]) await each.close()
})

const deltas = 250
/** The head of a response and the first frame, generously. */
const firstFrameBytes = 1_500

function queryOf(prompt: string, key?: string) {
  const model = sim({ text: deltas, delay_ms: 4 })
  return new URLSearchParams({ prompt, model, ...(key !== undefined && { key }) })
}

const balancerFor = (random: Random, leastBytes: number, mostBytes = 6_000) =>
  startBalancer(
    replicas.map(({ url }) => url),
    { random, leastBytes, mostBytes, share: 0.9 },
  )

/** How often Claude was asked this. */
const calls = (prompt: string) =>
  replicas[0]?.simulator.requests.filter(({ body }) => JSON.stringify(body).includes(JSON.stringify(prompt))).length

interface Seen {
  readonly ids: string[]
  readonly data: string[]
  /** Of the failure after which it never came back. */
  readonly status: number | undefined
}

/** Reads as a page would that never calls close(): until the server makes it stop. */
function readToTheEnd(url: string): Promise<Seen> {
  const source = new EventSource(url, { fetch: impatientFetch })
  const ids: string[] = []
  const data: string[] = []
  source.onmessage = (event) => {
    ids.push(event.lastEventId)
    data.push(event.data)
  }
  return new Promise((resolve) => {
    source.onerror = ({ code }) => {
      if (source.readyState === source.CLOSED) resolve({ ids, data, status: code })
    }
  })
}

/** Puts a line of its own before each answer, so that the client comes back sooner than after three seconds. */
async function impatientFetch(url: string | URL, init: RequestInit): Promise<Response> {
  const response = await fetch(url, init)
  if (!response.body) return response
  const soon = new TransformStream<Uint8Array, Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode('retry: 15\n\n')),
  })
  const { status, headers } = response
  const answer = new Response(response.body.pipeThrough(soon), { status, headers })
  Object.defineProperty(answer, 'url', { value: response.url })
  return answer
}

/** The whole answer once, and an end that lasts. */
function expectWhole({ ids, data, status }: Seen): void {
  const frames = data.filter((each) => each !== '[DONE]')
  // A connection may be lost between the last frame and this mark: then there is none.
  expect(data.lastIndexOf('[DONE]')).toBe(data.length === frames.length ? -1 : frames.length)
  const stream = ids[0]?.split('.')[0]
  expect(ids.slice(0, frames.length)).toEqual(frames.map((_, n) => `${stream}.${n + 1}`))
  const told = frames.map((each) => JSON.parse(each) as { type: string; text?: string })
  expect(told.map(({ text = '' }) => text).join('')).toBe(spokenText(deltas))
  expect(told.at(-1)?.type).toBe('done')
  expect(status).toBe(204)
}

async function expectCutRead(balancer: Balancer, prompt: string, key?: string): Promise<void> {
  const seen = await readToTheEnd(`${balancer.url}/stream?${queryOf(prompt, key)}`)
  expectWhole(seen)
  expect([prompt, calls(prompt)]).toEqual([prompt, 1])
}

const seeds = Array.from({ length: 12 }, (_, n) => n)

it('an EventSource with a key may lose its connection anywhere, and sees the whole answer once', async () => {
  const connections = await Promise.all(
    seeds.map(async (seed) => {
      await using balancer = await balancerFor(seeded(`with a key ${seed}`), 1)
      await expectCutRead(balancer, `with a key ${seed}`, `key-${seed}`)
      return balancer.accepted
    }),
  )
  expect(connections.reduce((sum, each) => sum + each)).toBeGreaterThan(seeds.length * 4)
}, 40_000)

it('without a key it may lose it once it has an id', async () => {
  const connections = await Promise.all(
    seeds.map(async (seed) => {
      await using balancer = await balancerFor(seeded(`without ${seed}`), firstFrameBytes)
      await expectCutRead(balancer, `without a key ${seed}`)
      return balancer.accepted
    }),
  )
  expect(connections.reduce((sum, each) => sum + each)).toBeGreaterThan(seeds.length * 3)
}, 40_000)

it('two tabs with the same key share one answer', async () => {
  await using balancer = await balancerFor(seeded('tabs'), 1)
  const url = `${balancer.url}/stream?${queryOf('tabs', 'tabs')}`
  const tabs = await Promise.all([readToTheEnd(url), readToTheEnd(url), readToTheEnd(url)])
  for (const tab of tabs) expectWhole(tab)
  expect(new Set(tabs.map(({ ids }) => ids[0])).size).toBe(1)
  expect(calls('tabs')).toBe(1)
}, 40_000)

let browser: Browser | undefined
afterAll(() => browser?.close())

it('so does a page in a browser, which comes back at its own pace', async () => {
  const pages = new Map<string, string>()
  const origin = await servePages(pages)
  const first = replicas[0] as Rig
  const env = { REDIS_URL: redis.url, ANTHROPIC_BASE_URL: first.simulator.url, CORS_ORIGINS: origin }
  const targets = [await startRig({ env }), await startRig({ env })].map(({ url }) => url)
  const random = seeded('browser')
  await using balancer = await startBalancer(targets, { random, leastBytes: 5_000, mostBytes: 11_000 })
  const source = `
    const frames: string[] = [], ids: string[] = []
    const source = new EventSource('${balancer.url}/stream?${queryOf('browser', 'browser')}')
    source.onmessage = (event) => { frames.push(event.data); ids.push(event.lastEventId) }
    Object.assign(window, { frames, ids, source })
  `
  pages.set('/', await bundlePage(source, 'ts'))
  browser = await launchBrowser()
  const page = await browser.newPage()
  await page.goto(origin)
  await page.waitForFunction('source.readyState === EventSource.CLOSED', undefined, { timeout: 50_000 })
  const [data, ids] = (await page.evaluate('[frames, ids]')) as [string[], string[]]
  // What made it stop, a page is not told.
  expectWhole({ data, ids, status: 204 })
  expect(calls('browser')).toBe(1)
  expect(balancer.accepted).toBeGreaterThan(2)
}, 60_000)
