import type { SelfTestFrame, SelfTestState } from '../core/self-test.ts'
import type { Arrival, Observation, Observed } from '../doctor/observation.ts'

type HeaderList = Readonly<Record<string, string>>

/** Few frames and small, as tokens are. */
const paced = { frames: '20', interval_ms: '100' }
/** How long this page stays before it leaves a stream, how long the server may take to notice, in milliseconds. */
const stayMs = 400
const noticeMs = 3_000

/** Tries what a page can: it sees no connection, and the browser keeps some headers to itself. */
export async function examineFromPage(key: HeaderList, silenceMs: number): Promise<Observation> {
  const url = new URL('.', location.href).href
  const sent = {
    'last-event-id': 'doctor.7',
    'idempotency-key': randomId(),
    'x-request-id': `doctor-${randomId()}`,
    accept: 'text/event-stream',
  }
  const facts = { url, silenceMs, sent }
  try {
    const first = await observe(paced, { ...key, ...sent })
    if (first.status !== 200 || first.arrivals.length === 0) return { ...facts, paced: first }
    const [bare, silent, left] = await Promise.all([
      observe({ ...paced, bare: 'true' }, key),
      silenceMs > 0 ? observe({ frames: '1', idle_ms: String(silenceMs) }, key) : undefined,
      leave(key),
    ])
    return { ...facts, paced: first, bare, silent, left }
  } catch (error) {
    return { ...facts, unreachable: error instanceof Error ? error.message : String(error) }
  }
}

function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

async function observe(query: HeaderList, headers: HeaderList): Promise<Observed> {
  const id = randomId()
  const url = new URL(`self-test?${new URLSearchParams({ id, ...query })}`, location.href).href
  const startedAt = performance.now()
  const response = await fetch(url, { headers, cache: 'default' })
  const facts = { id, status: response.status, headers: Object.fromEntries(response.headers) }
  if (response.status !== 200 || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
    const body = (await response.text()).slice(0, 500)
    return { ...facts, http: protocolOf(url), arrivals: [], end: 'cut', endAt: performance.now() - startedAt, body }
  }
  const arrivals: Arrival[] = []
  const end = await readFrames(response, (frame) => arrivals.push({ frame, at: performance.now() - startedAt }))
  return { ...facts, http: protocolOf(url), arrivals, end, endAt: performance.now() - startedAt }
}

async function readFrames(response: Response, onFrame: (frame: SelfTestFrame) => void): Promise<'done' | 'cut'> {
  let rest = ''
  let end: 'done' | 'cut' = 'cut'
  try {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
    for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) {
      const parts = (rest + read.value).replaceAll('\r\n', '\n').split('\n\n')
      rest = parts.pop() ?? ''
      for (const part of parts) {
        const data = /^data: ?(.*)$/m.exec(part)?.[1]
        if (data === '[DONE]') end = 'done'
        else if (data !== undefined) onFrame(JSON.parse(data) as SelfTestFrame)
      }
    }
  } catch {
    // Cut off: that it was is the finding.
  }
  return end
}

/** As the browser tells it, in the words of the findings. */
function protocolOf(url: string): string {
  const [entry] = performance.getEntriesByName(url) as PerformanceResourceTiming[]
  const names: Record<string, string> = { 'http/1.1': '1.1', h2: '2', h3: '3' }
  return names[entry?.nextHopProtocol ?? ''] ?? '1.1'
}

/** Leaves a stream in its silence, and asks how the server saw it. */
async function leave(headers: HeaderList): Promise<SelfTestState['state'] | 'unknown'> {
  const id = randomId()
  const leaving = new AbortController()
  const query = new URLSearchParams({ id, frames: '1', idle_ms: String(10 * noticeMs) })
  const asked = fetch(`self-test?${query}`, { headers, signal: leaving.signal }).catch(() => undefined)
  await Promise.race([asked, pause(stayMs)])
  await pause(stayMs)
  leaving.abort()
  let state: SelfTestState['state'] | 'unknown' = 'open'
  for (const until = performance.now() + noticeMs; state === 'open' && performance.now() < until; ) {
    await pause(100)
    const response = await fetch(`self-test/${id}`, { headers })
    state = response.ok ? ((await response.json()) as SelfTestState).state : 'unknown'
  }
  return state
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
