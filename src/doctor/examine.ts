import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { SelfTestState } from '../core/self-test.ts'
import type { Observation } from './observation.ts'
import { ask, observe, type Target } from './probe.ts'

export interface Examination {
  /** How long a stream is silent to find out who cuts silent connections, in milliseconds; 0 for not at all. */
  readonly silenceMs: number
  /** Of the page whose requests are tried. */
  readonly origin?: string | undefined
}

/** Frames of the stream that shows buffering: few and small, as tokens are. */
const paced = { frames: 20, interval_ms: 100 }

/** How long a response may take to begin, in milliseconds; where everything is buffered, it begins at its end. */
const beginMs = 20_000

/** How long a client stays before it leaves, in milliseconds. */
const stayMs = 300

/** How long the server gets to notice that a client has left, in milliseconds. */
const noticeMs = 3_000

/** Tries everything, at the same time. */
export async function examine(to: Omit<Target, 'beginMs'>, { silenceMs, origin }: Examination): Promise<Observation> {
  const target = { ...to, beginMs: beginMs + silenceMs }
  const sent = {
    'last-event-id': 'doctor.7',
    'idempotency-key': randomUUID(),
    'x-request-id': `doctor-${randomUUID()}`,
    accept: 'text/event-stream',
    ...(origin !== undefined && { origin }),
  }
  const facts = { url: target.base.href, silenceMs, sent }
  try {
    // The first alone: where nothing answers, one question is enough.
    const first = await observe({ ...target, beginMs }, paced, sent)
    if (first.status !== 200 || first.arrivals.length === 0) return { ...facts, paced: first }
    const [bare, silent, left, cors] = await Promise.all([
      observe(target, { ...paced, bare: 'true' }),
      silenceMs > 0 ? observe(target, { frames: 1, idle_ms: silenceMs }) : undefined,
      leave(target),
      origin === undefined ? undefined : tryOrigin(target, origin, first.headers),
    ])
    return { ...facts, paced: first, bare, silent, left, cors }
  } catch (error) {
    return { ...facts, unreachable: reasonOf(error) }
  }
}

/** Leaves a stream in its silence, where no write can fail, and asks how the server saw it. */
async function leave(target: Target): Promise<SelfTestState['state'] | 'unknown'> {
  const id = randomUUID()
  const query = new URLSearchParams({ id, frames: '1', idle_ms: String(10 * noticeMs) })
  const leaving = new AbortController()
  // The response may not have begun by then: who buffers keeps even its head until the end.
  const asked = ask(target, 'GET', `/self-test?${query}`, { accept: 'text/event-stream' }, leaving.signal)
  const left = asked.then(
    ({ body }) => body.on('error', () => {}),
    (error) => {
      if (!leaving.signal.aborted) throw error
    },
  )
  await Promise.race([left, delay(stayMs)])
  await delay(stayMs)
  leaving.abort()
  await left
  const until = performance.now() + noticeMs
  let state: SelfTestState['state'] | 'unknown' = 'open'
  while (state === 'open' && performance.now() < until) {
    await delay(100)
    state = await stateOf(target, id)
  }
  return state
}

async function stateOf(target: Target, id: string): Promise<SelfTestState['state'] | 'unknown'> {
  const { status, body } = await ask(target, 'GET', `/self-test/${id}`)
  let text = ''
  for await (const chunk of body.setEncoding('utf8')) text += chunk
  return status === 200 ? (JSON.parse(text) as SelfTestState).state : 'unknown'
}

/** @param headers of a response to a request from that origin */
async function tryOrigin(
  target: Target,
  origin: string,
  headers: Readonly<Record<string, string>>,
): Promise<Observation['cors']> {
  const asked = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' }
  const preflight = await ask(target, 'OPTIONS', '/stream', { origin, ...asked })
  preflight.body.resume()
  return { origin, preflight: preflight.headers, preflightStatus: preflight.status, headers }
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}
