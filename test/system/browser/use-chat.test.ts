import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { bundlePage, launchBrowser, servePages } from '../../support/browser.ts'
import { eventually, fetchAll } from '../../support/client.ts'
import { expectedOf, recordings } from '../../support/recordings.ts'
import { type Rig, sim, startRig } from '../../support/sluice.ts'

let browser: Browser
beforeAll(async () => {
  browser = await launchBrowser()
}, 60_000)
afterAll(() => browser?.close())

/** The pages that the documentation shows. */
const docs = readFileSync(join(import.meta.dirname, '../../../docs/use-chat.md'), 'utf8')
const [chatSource = '', toolSource = ''] = [...docs.matchAll(/```tsx\n([\s\S]*?)```/g)].map(
  ([, source]) => source ?? '',
)

const recording = 'ruby-llm__thinking'
const { text } = expectedOf(recordings.get(recording) as Buffer)

/** Opens `pages` on an origin that a new Sluice knows, once its address is known. */
async function openPage(model: string, source: (rig: Rig) => string, loader: 'ts' | 'tsx') {
  const pages = new Map<string, string>()
  const origin = await servePages(pages)
  const rig = await startRig({ env: { CORS_ORIGINS: origin, SLUICE_UPSTREAM__DEFAULT_MODEL: model } })
  pages.set('/', await bundlePage(source(rig), loader))
  const page = await browser.newPage()
  onTestFinished(() => page.close())
  const faults: string[] = []
  page.on('pageerror', (error) => void faults.push(String(error)))
  await page.goto(origin)
  return { rig, page, faults }
}

const talkingTo = (source: string) => (rig: Rig) => source.replace('http://127.0.0.1:8787', rig.url)
const chatPage = talkingTo(chatSource)

async function ask(page: Page, question: string): Promise<void> {
  await page.fill('input', question)
  await page.click('text=Send')
}

const statusIs = (page: Page, status: string) =>
  page.waitForFunction(`document.querySelector('output').textContent.startsWith(${JSON.stringify(status)})`)

describe('a page with useChat', () => {
  it('shows the answer as it grows, to the last character', async () => {
    const { rig, page, faults } = await openPage(sim({ recording, delay_ms: 15 }), chatPage, 'tsx')
    await page.evaluate(`
      window.lengths = new Set()
      new MutationObserver(() => lengths.add(document.querySelector('.assistant')?.textContent.length ?? 0))
        .observe(document.body, { subtree: true, childList: true, characterData: true })
    `)
    await ask(page, 'Think, then say.')
    await statusIs(page, 'streaming')
    await statusIs(page, 'ready')
    expect(await page.textContent('.assistant')).toBe(text)
    const lengths = (await page.evaluate('[...window.lengths]')) as number[]
    expect(lengths.length).toBeGreaterThan(4)
    expect(lengths).toEqual(lengths.toSorted((a, b) => a - b))
    expect(rig.simulator.requests.at(-1)?.body).toMatchObject({
      system: 'Answer in one paragraph.',
      max_tokens: 2000,
      messages: [{ role: 'user', content: [{ type: 'text', text: 'Think, then say.' }] }],
    })

    await ask(page, 'And then?')
    await page.waitForFunction(`document.querySelectorAll('.assistant').length === 2`)
    await statusIs(page, 'ready')
    expect(rig.simulator.requests.at(-1)?.body).toMatchObject({
      messages: [
        { role: 'user' },
        { role: 'assistant', content: [{ type: 'thinking' }, { type: 'text' }] },
        { role: 'user' },
      ],
    })
    expect(faults).toEqual([])
  })

  it('keeps what had come when the answer fails, and says why', async () => {
    const failing = sim({ text: 20, error_at: 12, error: 'overloaded_error', delay_ms: 5 })
    const { page, faults } = await openPage(failing, chatPage, 'tsx')
    await ask(page, 'Hello')
    await statusIs(page, 'failed')
    expect(await page.textContent('output')).toBe('failed: Claude is overloaded. Try again shortly.')
    expect((await page.textContent('.assistant'))?.length).toBeGreaterThan(10)
    expect(faults).toEqual([])
  })

  it('says what Sluice says when there is no stream at all', async () => {
    const { page } = await openPage(sim({ status: 429, error: 'rate_limit_error', retry_after: '9' }), chatPage, 'tsx')
    await ask(page, 'Hello')
    await statusIs(page, 'failed')
    expect(await page.textContent('output')).toContain('"code":"upstream_rate_limited"')
  })
})

describe('a page with a tool and a chat id', () => {
  it('runs the tool and shows the answer to its result in the same message', async () => {
    const { rig, page, faults } = await openPage('claude-sim?text=12', talkingTo(toolSource), 'tsx')
    await statusIs(page, 'ready')
    await page.click('text=Ask')
    await page.waitForFunction(`document.querySelector('code')?.textContent === 'output-available'`)
    await page.waitForFunction(`document.querySelector('.assistant').textContent.includes('said: half past nine')`)
    await statusIs(page, 'ready')
    expect(await page.locator('.assistant').count()).toBe(1)
    expect(rig.simulator.requests).toHaveLength(2)
    expect(faults).toEqual([])
  })

  it('takes up the answer that is under way when it is loaded again', async () => {
    const { rig, page, faults } = await openPage('claude-sim?text=150&delay_ms=10', talkingTo(toolSource), 'tsx')
    await page.evaluate(`fetch('${rig.url}/api/chat', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id: 'kitchen', messages: [{ role: 'user', parts: [{ type: 'text', text: 'Hi' }] }] }),
    })`)
    await page.reload()
    await statusIs(page, 'streaming')
    await statusIs(page, 'ready')
    const { body } = await fetchAll(`${rig.url}/streams/${await streamOf(rig)}`, {
      headers: { accept: 'application/json' },
    })
    expect(await page.textContent('.assistant')).toBe(JSON.parse(body).message.content[0].text)
    expect(rig.simulator.requests).toHaveLength(1)
    expect(faults).toEqual([])
  })
})

/** The id of the last stream that ended, as the log tells it. */
function streamOf(rig: Rig): Promise<string> {
  return eventually(() => rig.log.findLast((line) => line['stream'] !== undefined)?.['stream'] as string | undefined)
}

describe('a page with EventSource that never closes it', () => {
  const eventSourcePage = (rig: Rig) => `
    const frames = []
    const source = new EventSource('${rig.url}/stream?format=json&prompt=hello')
    source.onmessage = (event) => frames.push(event.data)
    Object.assign(window, { frames, source })
  `

  it('gets the whole answer once, and asks for it once', async () => {
    const { rig, page, faults } = await openPage(sim({ recording, delay_ms: 10 }), eventSourcePage, 'ts')
    // Closed for good: the browser came back by itself, with its position, and was told that nothing is left.
    await page.waitForFunction('source.readyState === EventSource.CLOSED', undefined, { timeout: 15_000 })
    const frames = (await page.evaluate('frames')) as string[]
    expect(frames.pop()).toBe('[DONE]')
    const told = frames.map((each) => JSON.parse(each) as { type: string; text?: string })
    expect(
      told
        .filter(({ type }) => type === 'text')
        .map((each) => each.text)
        .join(''),
    ).toBe(text)
    expect(told.map(({ type }) => type).filter((type) => type === 'start' || type === 'done')).toEqual([
      'start',
      'done',
    ])
    expect(rig.simulator.requests).toHaveLength(1)
    expect(faults).toEqual([])
  })
})
