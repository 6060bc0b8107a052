import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build, preview } from 'vite'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { launchBrowser } from '../support/browser.ts'
import { runIn } from '../support/runtimes.ts'
import { sim, startRig } from '../support/sluice.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const modules = join(root, 'node_modules')

/** The React example, with the package installed as npm would. */
let example: string
beforeAll(async () => {
  example = await mkdtemp(join(tmpdir(), 'sluice-example-'))
  const installed = join(example, 'node_modules')
  const sluice = join(installed, 'sluice')
  await mkdir(sluice, { recursive: true })
  await cp(join(root, 'docs/examples/react'), example, { recursive: true })
  await cp(join(root, 'package.json'), join(sluice, 'package.json'))
  // What the package depends on, and what the example does; nothing else of what stands here.
  const needed = ['eventsource-parser', 'zod', '@anthropic-ai', 'react', 'react-dom', 'scheduler', '@types', 'csstype']
  for (const name of needed) await symlink(join(modules, name), join(installed, name))
  // As `npm run build` does, without the server.
  const files = ['client/stream.ts', 'react/use-sluice.ts'].map((path) => join(root, 'src', path))
  const compilerOptions = {
    rootDir: join(root, 'src'),
    outDir: join(sluice, 'dist'),
    typeRoots: [join(modules, '@types')],
  }
  const config = join(example, 'tsconfig.sluice.json')
  const extended = join(root, 'tsconfig.build.json')
  await writeFile(config, JSON.stringify({ extends: extended, compilerOptions, include: [], files }))
  await run(join(modules, '.bin/tsc'), ['-p', config])
}, 60_000)
afterAll(() => rm(example, { recursive: true, force: true }))

it('gives programs the client', async () => {
  const rig = await startRig()
  const program = `
    const { stream } = await import('sluice/client')
    const answer = stream(process.argv[1] + '/stream', { prompt: 'hello', model: 'claude-sim?text=3' })
    console.log(JSON.stringify(await answer.text))
  `
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program, rig.url], { cwd: example })
  expect(JSON.parse(stdout)).toBe('A sluice lets ')
})

it.each(['node', 'deno', 'bun'] as const)('does what its page says, in %s', async (runtime) => {
  const rig = await startRig({ env: { SLUICE_UPSTREAM__DEFAULT_MODEL: sim({ text: 4 }) } })
  const page = await readFile(join(root, 'docs/client.md'), 'utf8')
  const programs = [...page.matchAll(/```js\n([\s\S]*?)```/g)].map(([, program = '']) => program)
  const said = programs.map(async (program, n) => {
    const script = join(example, `${runtime}-${n}.mjs`)
    await writeFile(script, program.replaceAll('http://127.0.0.1:8787', rig.url))
    return runIn(runtime, script)
  })
  expect(await Promise.all(said)).toEqual([
    'A sluice lets through \n4 tokens\n',
    'sluice lets through \n',
    expect.stringMatching(/code: ['"]invalid_request['"]/),
  ])
})

it('tells the example its types', async () => {
  const page = await readFile(join(root, 'docs/react.md'), 'utf8')
  await writeFile(join(example, 'src/page.tsx'), /```tsx\n([\s\S]*?)```/.exec(page)?.[1] ?? 'there is none')
  const { stdout } = await run(join(modules, '.bin/tsc'), ['-p', example, '--noEmit'])
  expect(stdout).toBe('')
  // The types are there, and not `any`.
  const wrong = `import { stream } from 'sluice/client'\nexport const text: number = stream('/stream', {}).text\n`
  await writeFile(join(example, 'src/wrong.ts'), wrong)
  onTestFinished(() => rm(join(example, 'src/wrong.ts')))
  await expect(run(join(modules, '.bin/tsc'), ['-p', example, '--noEmit'])).rejects.toMatchObject({
    stdout: expect.stringContaining("Type 'Promise<string>' is not assignable to type 'number'"),
  })
})

it('is bundled with the example, which works behind a proxy with a path of its own', async () => {
  const rig = await startRig({ env: { SLUICE_UPSTREAM__DEFAULT_MODEL: sim({ text: 30, delay_ms: 5 }) } })
  await build({ root: example, logLevel: 'error' })
  const rewrite = (path: string) => path.replace(/^\/sluice/, '')
  const server = await preview({
    root: example,
    logLevel: 'error',
    preview: { host: '127.0.0.1', port: 0, strictPort: false, proxy: { '/sluice': { target: rig.url, rewrite } } },
  })
  onTestFinished(() => server.close())
  const browser = await launchBrowser()
  onTestFinished(() => browser.close())
  const page = await browser.newPage()
  const faults: string[] = []
  page.on('pageerror', (error) => void faults.push(String(error)))
  await page.goto(String(server.resolvedUrls?.local[0]))
  await page.fill('input', 'What does the clock say?')
  await page.click('text=Send')
  // The tool is called, answered by the page, and the answer to that is there.
  await page.waitForFunction(`document.querySelectorAll('.assistant').length === 2`)
  await page.waitForFunction(`document.querySelector('output').textContent === 'ready'`)
  const answers = await page.locator('.assistant').allTextContents()
  expect(answers[0]).toContain('[clock]')
  expect(answers[1]).toContain('half past nine')
  await page.reload()
  await page.waitForFunction(`document.querySelectorAll('.assistant').length === 2`)
  expect(await page.locator('.assistant').allTextContents()).toEqual(answers)
  expect(rig.simulator.requests).toHaveLength(2)
  expect(faults).toEqual([])
})
