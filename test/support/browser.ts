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

/** A page with one script, as a browser can load it. */
export async function bundlePage(source: string, loader: 'ts' | 'tsx'): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: source, loader, resolveDir: import.meta.dirname },
    bundle: true,
    write: false,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'error',
  })
  const script = outputFiles[0]?.text ?? ''
  return `<!doctype html><meta charset="utf-8"><div id="root"></div><script>${script.replaceAll('</script', '<\\/script')}</script>`
}

/** Serves pages by their paths on an origin of their own until the test ends. */
export async function servePages(pages: Map<string, string>): Promise<string> {
  const server = createServer((request, response) => {
    const page = pages.get(request.url ?? '')
    response.writeHead(page === undefined ? 404 : 200, { 'content-type': 'text/html; charset=utf-8' }).end(page)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    return new Promise<void>((resolve) => server.close(() => resolve()))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
