import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { startBalancer } from '../support/balancer.ts'
import { launchBrowser, servePages } from '../support/browser.ts'
import { seeded } from '../support/random.ts'
import { sim, startRig } from '../support/sluice.ts'
import { spokenText } from '../support/transcript.ts'

const run = promisify(execFile)
const examples = join(import.meta.dirname, '../../docs/examples')
const read = (path: string) => readFileSync(join(examples, path), 'utf8')

let browser: Browser
beforeAll(async () => {
  browser = await launchBrowser()
}, 60_000)
afterAll(() => browser?.close())

const deltas = 80

describe.each(['eventsource.html', 'fetch.html'])('%s', (name) => {
  async function openExample(model: string) {
    const origin = await servePages(new Map([[`/${name}`, read(name)]]))
    const rig = await startRig({ env: { CORS_ORIGINS: origin, SLUICE_UPSTREAM__DEFAULT_MODEL: model } })
    const random = seeded(name)
    const network = await startBalancer([rig.url], { random, leastBytes: 5_000, mostBytes: 7_000 })
    onTestFinished(() => network.close())
    const page = await browser.newPage()
    onTestFinished(() => page.close())
    await page.goto(`${origin}/${name}?sluice=${encodeURIComponent(network.url)}`)
    await page.click('button')
    return { rig, network, page }
  }

  it('shows the whole answer over a network that is cut, and asks once', async () => {
    const { rig, network, page } = await openExample(sim({ text: deltas, delay_ms: 2 }))
    await page.waitForFunction(`document.querySelector('p').textContent.endsWith('tokens')`)
    expect(await page.textContent('pre')).toBe(spokenText(deltas))
    expect(rig.simulator.requests).toHaveLength(1)
    expect(network.accepted).toBeGreaterThan(1)
  })

  it('says what went wrong', async () => {
    const { page } = await openExample(sim({ text: 9, error_at: 6, error: 'overloaded_error' }))
    await page.waitForFunction(`document.querySelector('p').textContent === 'Claude is overloaded. Try again shortly.'`)
  })
})

it('the script in Python prints the whole answer over a network that is cut, and asks once', async () => {
  const rig = await startRig()
  const random = seeded('python')
  await using network = await startBalancer([rig.url], { random, leastBytes: 1, mostBytes: 5_000, share: 0.9 })
  const model = sim({ text: deltas, delay_ms: 2 })
  const args = [join(examples, 'python/ask.py'), 'hello', network.url, model]
  const { stdout, stderr } = await run('python3', args, { timeout: 15_000 })
  expect(stdout).toBe(spokenText(deltas))
  expect(stderr).toContain(`[${deltas} tokens]`)
  expect(rig.simulator.requests).toHaveLength(1)
  expect(network.accepted).toBeGreaterThan(2)
})

describe('curl.md', () => {
  const commands = [...read('curl.md').matchAll(/```sh\n([\s\S]*?)```/g)].map(([, command]) => command as string)
  /** What each prints, in the order of the page. */
  const expected = [
    /^id: \S+\.1\n\nid: \S+\.2\ndata: A \n[\s\S]*data: \[DONE\]\n\n$/,
    /"type":"start"[\s\S]*"type":"done"[\s\S]*data: \[DONE\]\n\n$/,
    /^(s_\S{22})\n\1\n$/,
    /^id: \S+\.4\n[\s\S]*"type":"done"[\s\S]*\[DONE\]\n\n$/,
    /^\{"id":"s_\S{22}","status":"done".*"content":\[\{"type":"text"/,
    /^\{"id":"s_\S{22}","status":"cancelled"\}$/,
  ]

  it('has as many commands as are run here', () => {
    expect(commands).toHaveLength(expected.length)
  })

  it.each(
    expected.map((output, n) => [n + 1, commands[n] ?? '', output] as const),
  )('command %i', async (_, command, output) => {
    const rig = await startRig({ env: { SLUICE_UPSTREAM__DEFAULT_MODEL: sim({ text: 20 }) } })
    const local = command.replaceAll('http://127.0.0.1:8787', rig.url)
    const { stdout } = await run('bash', ['-eu', '-c', local], { timeout: 15_000 })
    expect(stdout).toMatch(output)
  })
})
