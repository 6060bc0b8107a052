import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import sparticuz, { inflate } from '@sparticuz/chromium'
import { build } from 'esbuild'
import { type Browser, chromium } from 'playwright-core'
import { onTestFinished } from 'vitest'

/** Flags without which Chromium runs in no container, or speaks to servers of its own accord. */
const flags = [
  '--no-sandbox',
  '--no-zygote',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-domain-reliability',
  '--disable-sync',
  '--metrics-recording-only',
  '--no-first-run',
  '--no-pings',
  // Nothing but this machine, whatever a page asks for.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
]

/** A headless Chromium; the caller closes it. */
export async function launchBrowser(): Promise<Browser> {
  const home = await unpackedChromium()
  const launch = (env: Record<string, string>) =>
    chromium.launch({ executablePath: join(home, 'chromium'), args: flags, env: { ...process.env, ...env } })
  try {
    return await launch({})
  } catch (thrown) {
    if (!String(thrown).includes('error while loading shared libraries')) throw thrown
    // The package brings the libraries that a bare machine lacks (NSS, for one).
    return launch({ LD_LIBRARY_PATH: join(home, 'al2023', 'lib') })
  }
}

/**
 * The folder of the unpacked binary. The package writes straight to its final place, which another test file may be
 * starting from at that moment: it is unpacked aside and renamed.
 */
async function unpackedChromium(): Promise<string> {
  const folder = dirname(dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')))
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { version: string }
  const home = join(tmpdir(), `sluice-chromium-${version}`)
  if (existsSync(home)) return home
  const aside = await mkdtemp(`${home}-`)
  const { TMPDIR } = process.env
  process.env['TMPDIR'] = aside
  try {
    sparticuz.setGraphicsMode = false
    await sparticuz.executablePath()
    await inflate(join(folder, 'bin', 'al2023.tar.br'))
  } finally {
    if (TMPDIR === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = TMPDIR
  }
  // Another process may have been first.
  await rename(aside, home).catch(() => rm(aside, { recursive: true }))
  return home
}

type Loader = 'ts' | 'tsx'

/** One script of a source that may import what it likes; folders are those of this one. */
export async function bundleScript(source: string, loader: Loader): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: source, loader, resolveDir: import.meta.dirname },
    bundle: true,
    write: false,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'error',
  })
  return outputFiles[0]?.text ?? ''
}

/** A page with one script, as a browser can load it. */
export async function bundlePage(source: string, loader: Loader): Promise<string> {
  const script = await bundleScript(source, loader)
  return `<!doctype html><meta charset="utf-8"><div id="root"></div><script>${script.replaceAll('</script', '<\\/script')}</script>`
}

const types: Record<string, string> = { js: 'text/javascript', css: 'text/css' }

export interface Pages extends AsyncDisposable {
  readonly origin: string
}

/** Serves pages and scripts by their paths on an origin of their own; the caller closes it. */
export async function startPages(pages: ReadonlyMap<string, string>): Promise<Pages> {
  const server = createServer(({ url = '' }, response) => {
    const path = url.replace(/\?.*/, '')
    const page = pages.get(path)
    const type = types[path.split('.').at(-1) ?? ''] ?? 'text/html'
    response.writeHead(page === undefined ? 404 : 200, { 'content-type': `${type}; charset=utf-8` }).end(page)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () => {
    server.closeAllConnections()
    return new Promise<void>((resolve) => server.close(() => resolve()))
  }
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, [Symbol.asyncDispose]: close }
}

/** The same, until the test ends. */
export async function servePages(pages: ReadonlyMap<string, string>): Promise<string> {
  const served = await startPages(pages)
  onTestFinished(() => served[Symbol.asyncDispose]())
  return served.origin
}
