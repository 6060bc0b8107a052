import type { Page } from 'playwright-core'
import { bundlePage, bundleScript } from './browser.ts'
import { eventually } from './client.ts'
import { type Outcome, type Progress, type Reading, readWithClient } from './read-with-client.ts'
import { readIn } from './runtimes.ts'

/** A page in which `read` reads with the client, in itself or in a worker that it starts. */
export async function clientPages(): Promise<Map<string, string>> {
  const page = `
    import { readWithClient } from './read-with-client.ts'
    const worker = new Worker('/worker.js')
    let last = 0
    function inWorker(reading) {
      const n = ++last
      worker.postMessage({ n, reading })
      return new Promise((resolve) => {
        worker.addEventListener('message', function take({ data }) {
          if (data.n !== n) return
          worker.removeEventListener('message', take)
          resolve(data.outcome)
        })
      })
    }
    window.read = (place, reading) => (place === 'worker' ? inWorker(reading) : readWithClient(reading))
  `
  const worker = `
    import { readWithClient } from './read-with-client.ts'
    addEventListener('message', async ({ data: { n, reading } }) => {
      postMessage({ n, outcome: await readWithClient(reading) })
    })
  `
  const [html, script] = await Promise.all([bundlePage(page, 'ts'), bundleScript(worker, 'ts')])
  return new Map([
    ['/', html],
    ['/worker.js', script],
  ])
}

export type Place = 'node' | 'page' | 'worker' | 'deno' | 'bun'

/** Reads where it is wanted. */
export function readAt(place: Place, page: Page, reading: Reading): Promise<Outcome> {
  if (place === 'node') return readWithClient(reading)
  if (place === 'deno' || place === 'bun') return readIn(place, reading)
  return page.evaluate(`read(${JSON.stringify(place)}, ${JSON.stringify(reading)})`) as Promise<Outcome>
}

/** Resolves when the last reading in a page, or in its worker, is where it is wanted. */
export function progressAt(place: Place, page: Page, isThere: (progress: Progress) => boolean): Promise<true> {
  return eventually(async () => {
    const script = 'globalThis.progress'
    const progress = await (place === 'worker' ? page.workers()[0]?.evaluate(script) : page.evaluate(script))
    return progress !== undefined && isThere(progress as Progress)
  }, 5_000)
}
