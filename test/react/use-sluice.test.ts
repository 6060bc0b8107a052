import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { bundlePage, launchBrowser, servePages } from '../support/browser.ts'
import { eventually } from '../support/client.ts'
import { type Rig, type RigOptions, sim, startRig } from '../support/sluice.ts'
import { spokenText } from '../support/transcript.ts'

let browser: Browser
beforeAll(async () => {
  browser = await launchBrowser()
}, 60_000)
afterAll(() => browser?.close())

/** A page that shows all that the hook says, counts, and does what a test tells it to. */
const source = (options: string) => `
  import { StrictMode, useState } from 'react'
  import { createRoot } from 'react-dom/client'
  import { useSluice } from '../../src/react/use-sluice.ts'

  const counts = { renders: 0, paints: 0 }
  const count = () => { counts.paints++; requestAnimationFrame(count) }
  requestAnimationFrame(count)

  function Chat() {
    const chat = useSluice(${options})
    counts.renders++
    Object.assign(window, { chat })
    return <p>{chat.text}</p>
  }
  function App() {
    const [shown, setShown] = useState(true)
    Object.assign(window, { setShown, counts })
    return shown ? <Chat /> : null
  }
  createRoot(document.getElementById('root')!).render(<StrictMode><App /></StrictMode>)
`

async function openPage(model: string, more: (rig: Rig) => object = () => ({}), options: RigOptions = {}) {
  const pages = new Map<string, string>()
  const origin = await servePages(pages)
  const env = { CORS_ORIGINS: origin, SLUICE_UPSTREAM__DEFAULT_MODEL: model, ...options.env }
  const rig = await startRig({ ...options, env })
  pages.set('/', await bundlePage(source(JSON.stringify({ url: `${rig.url}/stream`, ...more(rig) })), 'tsx'))
  const page = await browser.newPage()
  onTestFinished(() => page.close())
  const faults: string[] = []
  page.on('pageerror', (error) => void faults.push(String(error)))
  await page.goto(origin)
  await page.waitForFunction('window.chat')
  return { rig, page, faults }
}

const chatOf = (page: Page) => page.evaluate('chat') as Promise<Record<string, unknown>>
const send = (page: Page, text = 'hello') => page.evaluate(`chat.send(${JSON.stringify(text)})`)
const until = (page: Page, condition: string) => page.waitForFunction(condition, undefined, { timeout: 15_000 })
const requestsOf = (rig: Rig) => rig.simulator.requests.map(({ body }) => body as { messages: unknown[] })

describe('a conversation', () => {
  it('grows by an answer, asked for once, with far fewer renderings than frames', async () => {
    const deltas = 300
    const { rig, page, faults } = await openPage(sim({ text: deltas, delay_ms: 2 }), () => ({
      body: { system: 'Be brief.' },
    }))
    await page.evaluate('Object.assign(counts, { renders: 0, paints: 0 })')
    await send(page)
    expect(await page.evaluate('chat.status')).toBe('submitted')
    await until(page, `chat.status === 'streaming' && chat.text.length > 50`)
    await until(page, `chat.status === 'ready'`)
    const { renders, paints } = (await page.evaluate('counts')) as { renders: number; paints: number }
    // Strict mode renders twice what a page would; beside paintings there are the beginning and the end.
    expect(renders / 2).toBeLessThanOrEqual(paints + 4)
    expect(renders / 2).toBeLessThan(deltas / 2)
    expect(renders).toBeGreaterThan(6)
    expect(await page.textContent('p')).toBe(spokenText(deltas))

    await send(page, 'and then?')
    await until(page, `chat.status === 'ready' && chat.messages.length === 4`)
    expect(requestsOf(rig)).toHaveLength(2)
    expect(requestsOf(rig)[1]).toMatchObject({
      system: 'Be brief.',
      messages: [
        { role: 'user', content: [{ text: 'hello' }] },
        { role: 'assistant', content: [{ type: 'text', text: spokenText(deltas) }] },
        { role: 'user', content: [{ text: 'and then?' }] },
      ],
    })
    expect(await chatOf(page)).toMatchObject({ usage: { output_tokens: deltas }, text: spokenText(deltas) })
    expect(faults).toEqual([])
  })

  it('shows what failed, keeps what had come, and leaves out what Claude would refuse', async () => {
    const { rig, page } = await openPage(
      sim({ thinking: 8, text: 5, error_at: 6, error: 'overloaded_error', fail_first: 1 }),
    )
    await send(page)
    await until(page, `chat.status === 'error'`)
    expect(await page.evaluate('[chat.error.code, chat.error.partial, chat.messages.length, chat.text]')).toEqual([
      'upstream_overloaded',
      true,
      2,
      '',
    ])
    await send(page, 'again')
    await until(page, `chat.status === 'ready'`)
    expect(requestsOf(rig)[1]?.messages).toMatchObject([
      { content: [{ text: 'hello' }] },
      { content: [{ text: 'again' }] },
    ])
  })

  it('is stopped, here and at Claude, and can go on', async () => {
    const { rig, page } = await openPage(sim({ text: 900, delay_ms: 5 }))
    await send(page)
    await until(page, 'chat.text.length > 20')
    await page.evaluate('chat.stop()')
    expect(await page.evaluate('chat.status')).toBe('ready')
    await eventually(() => rig.simulator.requests[0]?.abortedAt)
    expect(await page.evaluate('chat.messages[1].content[0].text === chat.text && chat.text.length > 20')).toBe(true)
    expect(await page.evaluate(`{ try { chat.send('x'); chat.send('y') } catch (error) { error.message } }`)).toContain(
      'under way',
    )
  })
})

describe('tool calls', () => {
  it('wait for their results, and the next turn brings them back', async () => {
    const { rig, page, faults } = await openPage(sim({ text: 3, thinking: 2, tool: 'clock' }), () => ({
      preset: undefined,
      body: { tools: [{ name: 'clock', input_schema: { type: 'object' } }] },
    }))
    await send(page, 'What time is it?')
    await until(page, `chat.toolCalls[0]?.pending`)
    const [call] = (await page.evaluate('chat.toolCalls')) as {
      id: string
      name: string
      input: unknown
      pending: boolean
    }[]
    expect(call).toMatchObject({ name: 'clock', input: { location: 'Zürich' }, server: false })
    expect(await page.evaluate(`{ try { chat.answerTool('other', 1) } catch (error) { error.message } }`)).toContain(
      'No tool call',
    )
    await page.evaluate(`chat.answerTool(chat.toolCalls[0].id, { hour: 9 })`)
    await until(page, `chat.status === 'ready' && chat.messages.length === 4`)
    expect(requestsOf(rig)[1]?.messages).toMatchObject([
      { role: 'user' },
      {
        role: 'assistant',
        content: [
          { type: 'thinking', signature: expect.any(String) },
          { type: 'text' },
          { type: 'tool_use', id: call?.id },
        ],
      },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: call?.id, content: '{"hour":9}' }] },
    ])
    expect(faults).toEqual([])
  })

  it('that nobody answers do not keep one from going on', async () => {
    const { rig, page } = await openPage(sim({ text: 3, tool: 'clock' }))
    await send(page)
    await until(page, `chat.toolCalls[0]?.pending`)
    await send(page, 'never mind')
    await until(page, `chat.messages.length === 4`)
    expect(requestsOf(rig)[1]?.messages.at(-1)).toMatchObject({
      content: [
        { type: 'tool_result', is_error: true },
        { type: 'text', text: 'never mind' },
      ],
    })
  })
})

describe('a page that goes', () => {
  it('and comes back by a reload, has the whole answer, asked for once', async () => {
    const deltas = 150
    const { rig, page, faults } = await openPage(sim({ text: deltas, delay_ms: 10 }), () => ({ persist: 'chat' }))
    await send(page)
    await until(page, 'chat.text.length > 50')
    await page.reload()
    await until(page, `window.chat?.status === 'ready' && chat.text !== ''`)
    expect(await chatOf(page)).toMatchObject({
      text: spokenText(deltas),
      messages: [{ role: 'user' }, { role: 'assistant' }],
    })
    await page.reload()
    await until(page, `window.chat?.messages.length === 2`)
    expect(await chatOf(page)).toMatchObject({
      text: spokenText(deltas),
      status: 'ready',
      usage: { output_tokens: deltas },
    })
    expect(rig.simulator.requests).toHaveLength(1)
    expect(faults).toEqual([])
  })

  it('before anything has come, asks the same question again, which is the same answer', async () => {
    const { rig, page } = await openPage(sim({ text: 20, first_ms: 1_500 }), () => ({ persist: 'chat' }))
    await send(page)
    await eventually(() => rig.simulator.requests.length === 1)
    await page.reload()
    await until(page, `window.chat?.status === 'ready' && chat.text !== ''`)
    expect(await page.evaluate('chat.text')).toBe(spokenText(20))
    expect(rig.simulator.requests).toHaveLength(1)
  })

  it('leaves its answer to the server, which cancels it if it does so for lost readers', async () => {
    const model = sim({ text: 120, delay_ms: 10 })
    const { rig, page } = await openPage(model)
    await send(page)
    await until(page, 'chat.text.length > 50')
    await page.evaluate('setShown(false)')
    await eventually(() => rig.simulator.open === 0, 5_000)
    expect(rig.simulator.requests[0]?.abortedAt).toBeUndefined()

    const strict = await openPage(model, () => ({}), { env: { SLUICE_STREAMS__ON_DISCONNECT: 'cancel' } })
    await send(strict.page)
    await until(strict.page, 'chat.text.length > 50')
    await strict.page.evaluate('setShown(false)')
    await eventually(() => strict.rig.simulator.requests[0]?.abortedAt)
  })
})
