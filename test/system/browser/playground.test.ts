import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { formats } from '../../../src/formats/registry.ts'
import { holder, lettingIn } from '../../support/access.ts'
import { startBalancer } from '../../support/balancer.ts'
import { launchBrowser } from '../../support/browser.ts'
import { eventually } from '../../support/client.ts'
import { fakeTool, said, toolboxOf } from '../../support/fake-tools.ts'
import { expectAccessible, expectNoOverflow, keepScreenshot } from '../../support/pages.ts'
import { type Rig, type RigOptions, sim, startRig } from '../../support/sluice.ts'
import { spokenText } from '../../support/transcript.ts'
import { hostileTexts, recordingOf } from './hostile.ts'

let browser: Browser
beforeAll(async () => {
  browser = await launchBrowser()
}, 60_000)
afterAll(() => browser?.close())

/** What went wrong in a page: faults of scripts, and all that its policy has stopped. */
interface Opened {
  readonly page: Page
  readonly faults: string[]
  /** What it asked for. */
  readonly requests: string[]
}

async function openPage(url: string, options: BrowserContextOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, ...options })
  onTestFinished(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(8_000)
  const faults: string[] = []
  const requests: string[] = []
  page.on('pageerror', ({ message }) => faults.push(message))
  page.on('console', (message) => message.text().includes('Content Security Policy') && faults.push(message.text()))
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on('request', (request) => requests.push(request.url()))
  await page.goto(url)
  return { page, faults, requests }
}

async function openPlayground(rigOptions: RigOptions = {}, options: BrowserContextOptions = {}) {
  const rig = await startRig(rigOptions)
  const opened = await openPage(rig.url, options)
  await opened.page.getByText('Nothing asked yet').waitFor()
  return { rig, ...opened }
}

async function ask(page: Page, model: string, prompt = 'hello'): Promise<void> {
  await page.getByLabel('Model').fill(model)
  await page.getByLabel('Prompt', { exact: true }).fill(prompt)
  await page.getByLabel('Prompt', { exact: true }).press('Control+Enter')
}

const answer = (page: Page) => page.getByRole('article', { name: 'Claude' }).last()
const answerText = (page: Page) => answer(page).locator('.prose').innerText()
const status = (page: Page) => page.locator('#status')
async function done(page: Page, timeout = 8_000): Promise<void> {
  await status(page).filter({ hasText: /^Done/ }).waitFor({ timeout })
  await page.getByRole('button', { name: 'Send', exact: true }).waitFor()
}
const letters = (text: string) => text.replace(/[^\p{L}\p{N}]/gu, '')

const lastBody = ({ simulator }: Rig) => simulator.requests.at(-1)?.body

describe('the playground', () => {
  it('shows an answer as it grows, with thinking, what it took, and each frame of it', async () => {
    const { rig, page, faults } = await openPlayground()
    await ask(page, sim({ thinking: 10, text: 80, delay_ms: 10 }))
    await answer(page).locator('.prose').waitFor()
    const early = (await answerText(page)).length
    await eventually(async () => (await answerText(page)).length > early)
    await keepScreenshot(page, 'playground-live-desktop-light')
    await done(page)
    expect(letters(await answerText(page))).toBe(letters(spokenText(80)))
    await expect(answer(page).locator('.facts-line').innerText()).resolves.toMatch(
      /in, .*out · first token .* at the server · .*tokens\/s/,
    )
    // What was estimated on the way is told by the end.
    const [, rate] = /(\d+) tokens\/s/.exec(await answer(page).locator('.facts-line').innerText()) ?? []
    expect(await page.locator('#fact-rate').innerText()).toBe(rate)
    expect(await answer(page).locator('details.thinking').getAttribute('open')).toBeNull()
    expect(await page.locator('.wire-row').last().innerText()).toContain('[DONE]')
    await page.getByRole('listbox', { name: 'Frames' }).press('Home')
    await page.getByRole('listbox', { name: 'Frames' }).press('ArrowDown')
    expect(await page.getByLabel('Chosen frame').innerText()).toMatch(/^id: \S+\.1\ndata: {"type":"start"/)
    expect(await page.locator('#plot .mark.first').count()).toBe(1)
    // Which this page asks for the same log again: the format is the connection's alone.
    for (const name of Object.keys(formats)) {
      await page.getByLabel('Format').selectOption(name)
      await page.locator('.wire-row.frame').first().waitFor()
    }
    expect(rig.simulator.requests.filter(({ path }) => path === '/v1/messages')).toHaveLength(1)
    expect(faults).toEqual([])
  })

  it('goes on with a conversation, and stops an answer, here and at Claude', async () => {
    const { rig, page } = await openPlayground()
    await ask(page, sim({ text: 5 }), 'first')
    await done(page)
    await ask(page, sim({ text: 5_000, delay_ms: 10 }), 'second')
    await answer(page).locator('.prose').waitFor()
    await page.keyboard.press('Escape')
    await page.getByText('Stopped.').first().waitFor()
    await eventually(() => rig.simulator.open === 0)
    const { messages } = lastBody(rig) as { messages: { role: string; content: unknown }[] }
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user'])
    expect(await page.getByRole('button', { name: 'Send', exact: true }).isVisible()).toBe(true)
  })

  it('asks at a click what it proposes, takes the preset that is chosen then, and begins anew', async () => {
    const { rig, page } = await openPlayground({
      env: { SLUICE_PRESETS__BRIEF: JSON.stringify({ model: sim({ text: 3 }) }) },
    })
    await page.getByRole('button', { name: 'A plain answer' }).click()
    await done(page)
    expect(lastBody(rig)).toMatchObject({ model: 'claude-sim' })
    await page.getByLabel('Preset').selectOption('brief')
    await page.getByLabel('Prompt', { exact: true }).fill('and now?')
    await page.getByLabel('Prompt', { exact: true }).press('Control+Enter')
    await answer(page).getByText('A sluice lets').waitFor()
    await done(page)
    expect(lastBody(rig)).toMatchObject({ model: sim({ text: 3 }) })
    await page.getByRole('button', { name: 'New conversation' }).click()
    await page.getByText('Nothing asked yet').waitFor()
    expect(new URL(page.url()).search).toBe('')
  })

  it('stays at the end of what grows, until somebody scrolls up', async () => {
    const { page } = await openPlayground()
    await ask(page, sim({ text: 400 }))
    await done(page)
    const list = "document.querySelector('#turns')"
    const below = () => page.evaluate<number>(`${list}.scrollHeight - ${list}.scrollTop - ${list}.clientHeight`)
    const grow = (pixels: number) => `${list}.lastElementChild.style.minHeight = '${pixels}px'`
    // It is at the end, and before it hears of that there is more.
    await page.evaluate(`${grow(2_000)}; ${list}.scrollTop = ${list}.scrollHeight; ${grow(2_300)}`)
    await eventually(async () => (await below()) < 2)
    await page.locator('#turns').hover()
    await page.mouse.wheel(0, -400)
    await eventually(async () => (await below()) > 300)
    const before = await below()
    const twoFrames = 'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))'
    await page.evaluate(`${grow(2_600)}; ${twoFrames}`)
    expect(await below()).toBe(before + 300)
  })

  it('is loaded again in the middle of an answer, and shows it whole; so does a second tab', async () => {
    const { rig, page } = await openPlayground()
    await ask(page, sim({ text: 200, delay_ms: 8 }))
    await answer(page).locator('.prose').waitFor()
    const href = await page.getByRole('link', { name: 'Open in another tab' }).getAttribute('href')
    await page.reload()
    const other = await openPage(String(href))
    await Promise.all([done(page), done(other.page)])
    expect(letters(await answerText(page))).toBe(letters(spokenText(200)))
    expect(letters(await answerText(other.page))).toBe(letters(spokenText(200)))
    expect(await page.getByRole('article', { name: 'You' }).innerText()).toContain('hello')
    expect(rig.simulator.requests.filter(({ path }) => path === '/v1/messages')).toHaveLength(1)
  })

  it('loses its network, or is cut by hand, and has the whole text; Claude is asked once', async () => {
    const rig = await startRig()
    await using network = await startBalancer([rig.url])
    const { page, faults } = await openPage(network.url)
    await page.getByText('Nothing asked yet').waitFor()
    await ask(page, sim({ text: 250, delay_ms: 8 }))
    await answer(page).locator('.prose').waitFor()
    await page.getByRole('button', { name: 'Cut the connection' }).click()
    await page.locator('#plot .mark.back').first().waitFor()
    await page.context().setOffline(true)
    network.cutAll()
    await status(page).filter({ hasText: 'Connection lost' }).waitFor()
    await page.context().setOffline(false)
    await done(page)
    expect(letters(await answerText(page))).toBe(letters(spokenText(250)))
    expect(await page.locator('#plot .mark.cut').count()).toBe(1)
    expect(await page.locator('#plot .mark.back').count()).toBe(2)
    expect(rig.simulator.requests.filter(({ path }) => path === '/v1/messages')).toHaveLength(1)
    await keepScreenshot(page, 'playground-cut-desktop-light')
    expect(faults).toEqual([])
  })

  it('takes tools and files, and gives results of tools back', async () => {
    const { rig, page } = await openPlayground()
    await page.getByText('Request options').click()
    await page.getByLabel('Tools, as JSON').fill('[{"name":"weather","input_schema":{"type":"object"}}]')
    await page.getByLabel('System prompt').fill('Be brief.')
    const png = Buffer.from(
      'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
      'base64',
    )
    await page.getByLabel('Image or PDF').setInputFiles({ name: 'dot.png', mimeType: 'image/png', buffer: png })
    await page.getByText('dot.png · 1 KB').waitFor()
    await ask(page, sim({ tool: 'weather', delay_ms: 5 }))
    await page.getByLabel('Result of weather').fill('Rain.')
    await keepScreenshot(page, 'playground-tool-desktop-light')
    const first = lastBody(rig) as {
      system: string
      tools: unknown[]
      messages: { content: { type: string }[] }[]
    }
    expect(first.system).toBe('Be brief.')
    expect(first.messages[0]?.content.map(({ type }) => type)).toEqual(['image', 'text'])
    await page.getByLabel('Model').fill(sim({ text: 5 }))
    await page.getByRole('button', { name: 'Send results' }).click()
    await done(page)
    const { messages } = lastBody(rig) as typeof first
    expect(messages.at(-1)?.content[0]).toMatchObject({ type: 'tool_result', content: 'Rain.' })
  })

  it('asks whether a tool of the server may run, and goes on when it may', async () => {
    const careful = fakeTool('careful', ({ input }) => said(`did ${JSON.stringify(input)}`), { approval: 'required' })
    const { page } = await openPlayground({ tools: toolboxOf(careful) })
    await ask(page, sim({ tool: 'careful', steps: 1, input: '{"n":1}' }))
    await page.getByText('May it run?').waitFor()
    await keepScreenshot(page, 'playground-approval-desktop-light')
    expect(careful.calls).toHaveLength(0)
    await page.getByRole('button', { name: 'Approve careful' }).click()
    await done(page)
    expect(careful.calls).toHaveLength(1)
    expect(await answer(page).locator('.tool .result').innerText()).toBe('did {"n":1}')
    expect(await page.getByRole('button', { name: 'Send results' }).count()).toBe(0)
  })

  it('says what went wrong, before an answer and in its middle, and what to correct', async () => {
    const { page } = await openPlayground()
    await ask(page, sim({ status: 400, message: 'no such thing' }))
    await page.getByRole('alert').filter({ hasText: 'upstream_invalid_request' }).waitFor()
    await page.getByText(/^Request req_/).waitFor()
    await ask(page, sim({ text: 40, error_at: 20 }))
    await page.getByRole('alert').filter({ hasText: 'the beginning of an answer' }).waitFor()
    await keepScreenshot(page, 'playground-error-desktop-light')
    await page.getByText('Request options').click()
    await page.getByLabel('Tools, as JSON').fill('{')
    await ask(page, 'claude-sim')
    await status(page).filter({ hasText: 'The tools are no JSON' }).waitFor()
  })

  it('asks for a key where one is needed, and keeps it in memory alone unless told otherwise', async () => {
    const alice = holder('alice')
    const rig = await startRig({ env: lettingIn(alice) })
    const { page, requests } = await openPage(rig.url)
    await page.getByLabel('Key or token').fill(alice.key)
    await page.getByRole('button', { name: 'Use it' }).click()
    await page.locator('#models option').first().waitFor({ state: 'attached' })
    await ask(page, sim({ text: 5 }))
    await done(page)
    expect(requests.filter((url) => url.includes(alice.key))).toEqual([])
    const kept = await page.evaluate<string>('JSON.stringify({ ...sessionStorage, ...localStorage })')
    expect(kept).not.toContain(alice.key)
    await page.reload()
    await page.getByLabel('Key or token').fill(alice.key)
    await page.getByLabel('Keep it until this tab is closed').check()
    await page.getByRole('button', { name: 'Use it' }).click()
    await page.reload()
    await page.locator('#models option').first().waitFor({ state: 'attached' })
    expect(await page.getByRole('dialog').count()).toBe(0)
  })

  it('stands ten thousand frames', async () => {
    const { page } = await openPlayground()
    await page.getByText('Request options').click()
    await page.getByLabel('Max tokens').fill('20000')
    await ask(page, sim({ text: 10_000, per_write: 50 }))
    await done(page, 15_000)
    expect(await page.locator('.wire-row').count()).toBeLessThan(60)
    const count = async () => Number(await page.locator('.wire-row').last().getAttribute('aria-setsize'))
    await eventually(async () => (await count()) > 10_000)
    expect(letters(await answerText(page))).toBe(letters(spokenText(10_000)))
  })

  it('stays at the end of a long answer on a phone, with the prompt at hand', async () => {
    const { page } = await openPlayground({}, { viewport: { width: 360, height: 640 } })
    await ask(page, sim({ text: 600 }))
    await done(page)
    const bottomOf = async (name: string) => {
      const box = await page.locator(name).last().boundingBox()
      return (box?.y ?? 0) + (box?.height ?? 0)
    }
    expect((await answer(page).boundingBox())?.height).toBeGreaterThan(640)
    await eventually(async () => (await bottomOf('.facts-line')) < 640)
    expect(await bottomOf('.composer')).toBeLessThanOrEqual(640)
    await keepScreenshot(page, 'playground-long-360-light')
  })

  it.each([1280, 360])('keeps nobody out, and fits, in light and dark at %i pixels', async (width) => {
    const { page } = await openPlayground({}, { colorScheme: 'dark', viewport: { width, height: 780 } })
    const theme = () => page.locator('html').getAttribute('data-theme')
    await keepScreenshot(page, `playground-empty-${width}-dark`)
    await expectAccessible(page)
    await ask(page, sim({ recording: 'ruby-llm__web-search' }))
    await done(page)
    await keepScreenshot(page, `playground-done-${width}-dark`)
    await page.getByText('Request options').click()
    expect(await theme()).toBe('dark')
    await expectAccessible(page)
    await expectNoOverflow(page)
    await page.emulateMedia({ colorScheme: 'light' })
    await eventually(async () => (await theme()) === 'light')
    await expectAccessible(page)
    await keepScreenshot(page, `playground-done-${width}-light`)
    await page.getByRole('button', { name: 'Switch to the dark theme' }).click()
    await page.reload()
    expect(await theme()).toBe('dark')
  })
})

describe('A24 what a model writes', () => {
  const allowed =
    'P H3 H4 H5 H6 UL OL LI CODE PRE FIGURE FIGCAPTION STRONG EM DEL A TABLE THEAD TBODY TR TH TD BLOCKQUOTE HR BR SPAN DIV'
  it('runs nothing, loads nothing, and becomes no element but those of a text', async () => {
    const recordings = new Map(hostileTexts.map((text, n) => [`hostile-${n}`, recordingOf(text)]))
    const rig = await startRig({ simulator: { recordings } })
    const { page, faults, requests } = await openPage(rig.url)
    await page.getByText('Nothing asked yet').waitFor()
    for (const n of hostileTexts.keys()) {
      await ask(page, sim({ recording: `hostile-${n}` }), `hostile ${n}`)
      await page.getByRole('article', { name: 'Claude' }).nth(n).locator('.facts-line').waitFor()
      await done(page)
    }
    const names = await page.evaluate<string[]>(
      `[...new Set([...document.querySelectorAll('.prose *, .thought *')].map(({ tagName }) => tagName))]`,
    )
    expect(names.filter((name) => !allowed.split(' ').includes(name))).toEqual([])
    expect(names).toEqual(expect.arrayContaining(['P', 'A', 'CODE', 'TABLE', 'STRONG']))
    const attributes = await page.evaluate<string[]>(
      `[...new Set([...document.querySelectorAll('.prose *')].flatMap((each) => each.getAttributeNames()))]`,
    )
    expect(
      attributes.filter((name) => !/^(?:class|href|rel|target|title|start|scope|tabindex|role|aria-label)$/.test(name)),
    ).toEqual([])
    const links = await page.evaluate<[string, string][]>(
      `[...document.querySelectorAll('.turn.answer a')].map((each) => [each.href, each.rel])`,
    )
    expect(links.length).toBeGreaterThan(0)
    for (const [href, rel] of links) {
      expect(new URL(href).protocol).toBe('https:')
      expect(rel).toBe('noopener noreferrer nofollow')
    }
    const known = /^\/(?:|stream|v1\/models|streams\/[\w-]+|pages\/[\w/.-]+)$/
    const foreign = requests.filter(
      (url) => new URL(url).origin !== new URL(rig.url).origin || !known.test(new URL(url).pathname),
    )
    expect(foreign).toEqual([])
    expect(faults).toEqual([])
    expect(await page.evaluate<unknown>('globalThis.hacked')).toBeUndefined()
  })
})

describe('the doctor', () => {
  it('finds a server on this machine well, and tells so in light and dark', async () => {
    const rig = await startRig()
    const { page, faults } = await openPage(`${rig.url}/doctor`, {
      colorScheme: 'dark',
      viewport: { width: 360, height: 780 },
    })
    await page.getByLabel('Wait for idle limits').selectOption('0')
    await page.getByRole('button', { name: 'Examine' }).click()
    await page.getByText('All is well.').waitFor()
    await page.getByText('Frames come as they are made').waitFor()
    await page.getByText('Request headers arrive as they were sent.').waitFor()
    await expectAccessible(page)
    await expectNoOverflow(page)
    await keepScreenshot(page, 'doctor-360-dark')
    await page.emulateMedia({ colorScheme: 'light' })
    await expectAccessible(page)
    await page.setViewportSize({ width: 1280, height: 780 })
    await keepScreenshot(page, 'doctor-1280-light')
    expect(rig.simulator.requests).toHaveLength(0)
    expect(faults).toEqual([])
  })
})

describe('the view of operators', () => {
  it('shows streams as they go, and stops one', async () => {
    const rig = await startRig()
    const asked = [1, 2, 3].map((n) =>
      fetch(
        `${rig.url}/stream?max_tokens=100000&prompt=${n}&model=${encodeURIComponent(sim({ text: 9_000, delay_ms: 20 }))}`,
      ),
    )
    const [first] = await Promise.all(asked)
    const { page, faults } = await openPage(`${rig.url}/ops`, { colorScheme: 'dark' })
    await eventually(async () => (await page.getByRole('row').count()) === 4, 6_000)
    await expectAccessible(page)
    await keepScreenshot(page, 'ops-1280-dark')
    await page.emulateMedia({ colorScheme: 'light' })
    await page.setViewportSize({ width: 360, height: 780 })
    await expectAccessible(page)
    await expectNoOverflow(page)
    await keepScreenshot(page, 'ops-360-light')
    await page.getByRole('button', { name: `Stop ${first?.headers.get('x-stream-id')}` }).click()
    await eventually(() => rig.simulator.open === 2)
    await eventually(async () => (await page.getByRole('row').count()) === 3, 6_000)
    expect(faults).toEqual([])
  })

  it('asks for the token of operators, where there is one', async () => {
    const rig = await startRig({ env: { OPS_TOKEN: 'a-token-of-operators' } })
    const { page, requests } = await openPage(`${rig.url}/ops`)
    await page.getByLabel('Token', { exact: true }).fill('a-token-of-operators')
    await page.getByRole('button', { name: 'Use it' }).click()
    await page.getByText('takes streams').waitFor()
    expect(requests.filter((url) => url.includes('a-token'))).toEqual([])
  })
})
