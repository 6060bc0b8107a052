import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { startBalancer } from '../../support/balancer.ts'
import { launchBrowser, servePages } from '../../support/browser.ts'
import { eventually } from '../../support/client.ts'
import { clientPages, progressAt, readAt } from '../../support/places.ts'
import type { Outcome, Progress, Reading } from '../../support/read-with-client.ts'
import { sim, startRig } from '../../support/sluice.ts'
import { spokenText } from '../../support/transcript.ts'

let browser: Browser
let pages: Map<string, string>
beforeAll(async () => {
  ;[browser, pages] = await Promise.all([launchBrowser(), clientPages()])
}, 60_000)
afterAll(() => browser?.close())

async function openPage() {
  const origin = await servePages(pages)
  const rig = await startRig({ env: { CORS_ORIGINS: origin } })
  const context = await browser.newContext()
  onTestFinished(() => context.close())
  const page = await context.newPage()
  await page.goto(origin)
  return { rig, context, page }
}

const deltas = 120
const reading = (url: string, more: Partial<Reading> = {}): Reading => ({
  url: `${url}/stream`,
  body: { prompt: 'hello', model: sim({ text: deltas, delay_ms: 10 }) },
  // Longer than the test waits: only what the browser tells can end these waits.
  retry: { minMs: 60_000, maxMs: 60_000 },
  ...more,
})

function expectWhole({ text, positions, frames }: Outcome): void {
  expect(text).toBe(spokenText(deltas))
  expect(positions).toEqual(frames.map((_, n) => n + 1))
}

const begun = ({ frames }: Progress) => frames > 5
const lost = ({ reconnects }: Progress) => reconnects > 0

// Workers hear of it in browsers, but not of what is only emulated; they are cut off in `test/trials/client.ts`.
it('a page that was offline goes on as soon as it is online', async () => {
  const { rig, context, page } = await openPage()
  await using network = await startBalancer([rig.url])
  const read = readAt('page', page, reading(network.url))
  await progressAt('page', page, begun)
  // Chromium only refuses new connections then; those that are there have to be cut.
  await context.setOffline(true)
  network.cutAll()
  await progressAt('page', page, lost)
  await context.setOffline(false)
  expectWhole(await read)
  expect(rig.simulator.requests).toHaveLength(1)
})

it('a page that is frozen in the background reads on when it is thawed', async () => {
  const { rig, context, page } = await openPage()
  const read = readAt('page', page, reading(rig.url))
  await progressAt('page', page, begun)
  const devtools = await context.newCDPSession(page)
  await devtools.send('Page.setWebLifecycleState', { state: 'frozen' })
  await eventually(() => rig.simulator.requests.length === 1 && rig.simulator.open === 0, 5_000)
  await devtools.send('Page.setWebLifecycleState', { state: 'active' })
  expectWhole(await read)
  expect(rig.simulator.requests).toHaveLength(1)
})

it('a page whose connection died while nobody looked makes another when it is shown', async () => {
  const { rig, page } = await openPage()
  const read = readAt('page', page, reading(rig.url))
  await progressAt('page', page, begun)
  // As after a night with the lid closed: the wait for bytes has long been over, and no timer has run.
  await page.evaluate(`{
    const { now } = Date
    Date.now = () => now() + 3_600_000
    document.dispatchEvent(new Event('visibilitychange'))
  }`)
  await progressAt('page', page, lost)
  // And the wait for the next connection ends as well.
  await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`)
  const outcome = await read
  expectWhole(outcome)
  expect(outcome.reconnects).toBe(1)
  expect(rig.simulator.requests).toHaveLength(1)
})
