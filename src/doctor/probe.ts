import { randomUUID } from 'node:crypto'
import { request as requestHttp } from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { request as requestHttps } from 'node:https'
import { isIP } from 'node:net'
import { type Duplex, pipeline, type Readable } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { createParser } from 'eventsource-parser'
import { decoderOf } from '../core/decoders.ts'
import type { SelfTestFrame } from '../core/self-test.ts'
import type { Arrival, Observed } from './observation.ts'

/** Where to, and with what. */
export interface Target {
  /** Below which Sluice's routes are. */
  readonly base: URL
  /** Sent with every request, such as `authorization`. */
  readonly headers: Readonly<Record<string, string>>
  /** Believe any certificate. */
  readonly insecure: boolean
  /** How long a response may take to begin, in milliseconds. */
  readonly beginMs: number
}

export interface Answer {
  readonly status: number
  readonly http: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readable
  hangUp(): void
}

/** What browsers say they can read: a proxy that compresses does so for them. */
const browserLike = { 'accept-encoding': 'gzip, deflate, br, zstd' }

/** One request, over HTTP/2 where that is offered, on a connection of its own. */
export async function ask(
  { base, headers, ...how }: Target,
  method: string,
  path: string,
  extra: Readonly<Record<string, string>> = {},
  signal?: AbortSignal,
): Promise<Answer> {
  const url = new URL(base.pathname.replace(/\/$/, '') + path, base)
  const sent = { ...browserLike, ...headers, ...extra }
  if (url.protocol === 'https:' && (await offersHttp2(url, how))) return askHttp2(url, method, sent, { ...how, signal })
  return askHttp1(url, method, sent, { ...how, signal })
}

interface Way extends Omit<Target, 'base' | 'headers'> {
  readonly signal?: AbortSignal | undefined
}

function askHttp1(
  url: URL,
  method: string,
  headers: Record<string, string>,
  { insecure, beginMs, signal }: Way,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const send = url.protocol === 'https:' ? requestHttps : requestHttp
  const way = { agent: false, rejectUnauthorized: !insecure, timeout: beginMs, ...(signal && { signal }) }
  const outgoing = send(url, { method, headers, ...way })
  outgoing.once('timeout', () => outgoing.destroy(new Error(`no answer in ${beginMs / 1_000} s`)))
  outgoing.once('error', reject)
  outgoing.once('response', (incoming) => {
    outgoing.setTimeout(0)
    resolve({
      status: incoming.statusCode ?? 0,
      http: incoming.httpVersion,
      headers: flat(incoming.headers),
      body: incoming,
      hangUp: () => void incoming.destroy(),
    })
  })
  outgoing.end()
  return promise
}

/** What a server chooses among the two, as a browser would ask it. */
async function offersHttp2(url: URL, { insecure, beginMs }: Way): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const socket = connectTls({
    host,
    port: Number(url.port || 443),
    ...(isIP(host) === 0 && { servername: host }),
    ALPNProtocols: ['h2', 'http/1.1'],
    rejectUnauthorized: !insecure,
    timeout: beginMs,
  })
  socket.once('secureConnect', () => resolve(socket.alpnProtocol === 'h2'))
  socket.once('timeout', () => reject(new Error(`no connection in ${beginMs / 1_000} s`)))
  socket.once('error', reject)
  return promise.finally(() => socket.destroy())
}

function askHttp2(
  url: URL,
  method: string,
  headers: Record<string, string>,
  { insecure, beginMs, signal }: Way,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const session: ClientHttp2Session = connectHttp2(url.origin, { rejectUnauthorized: !insecure })
  session.once('error', reject)
  const stream = session.request(
    { ...headers, ':method': method, ':path': url.pathname + url.search },
    { ...(signal && { signal }) },
  )
  const slow = setTimeout(() => stream.destroy(new Error(`no answer in ${beginMs / 1_000} s`)), beginMs)
  stream.once('error', reject)
  stream.once('close', () => {
    clearTimeout(slow)
    session.destroy()
  })
  stream.once('response', (all) => {
    clearTimeout(slow)
    const { ':status': status = 0, ...rest } = all
    resolve({ status, http: '2', headers: flat(rest), body: stream, hangUp: () => stream.close() })
  })
  stream.end()
  return promise
}

function flat(headers: object): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}

/** Reads a self-test stream to its end, and notes when what came. */
export async function observe(
  target: Target,
  query: Readonly<Record<string, string | number>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<Observed> {
  const id = randomUUID()
  const startedAt = performance.now()
  const since = () => performance.now() - startedAt
  const search = new URLSearchParams({
    id,
    ...Object.fromEntries(Object.entries(query).map(([k, v]) => [k, String(v)])),
  })
  const answer = await ask(target, 'GET', `/self-test?${search}`, { accept: 'text/event-stream', ...headers })
  const facts = { id, status: answer.status, http: answer.http, headers: answer.headers }
  const decoder = decoderOf(answer.headers['content-encoding'])
  const plain = decoder ? decoded(answer.body, decoder) : answer.body
  if (answer.status !== 200 || !answer.headers['content-type']?.startsWith('text/event-stream')) {
    return { ...facts, arrivals: [], end: 'cut', endAt: since(), body: await beginningOf(plain) }
  }
  const arrivals: Arrival[] = []
  try {
    for await (const data of eventsOf(plain)) {
      if (data === '[DONE]') {
        answer.hangUp()
        return { ...facts, arrivals, end: 'done', endAt: since() }
      }
      arrivals.push({ frame: JSON.parse(data) as SelfTestFrame, at: since() })
    }
  } catch {
    // Cut: that is one of the things that are looked for, and said by the missing end.
  }
  return { ...facts, arrivals, end: 'cut', endAt: since() }
}

/** A body that is cut has to end its decoder, too. What was wrong with it shows where it is read. */
function decoded(body: Readable, decoder: Duplex): Readable {
  pipeline(body, decoder, () => {})
  return decoder
}

/** The data of each event, as soon as it is whole. */
async function* eventsOf(body: Readable): AsyncGenerator<string> {
  let ready: string[] = []
  const parser = createParser({ onEvent: ({ data }) => void ready.push(data) })
  for await (const text of body.setEncoding('utf8')) {
    parser.feed(text as string)
    yield* ready
    ready = []
  }
}

async function beginningOf(body: Readable): Promise<string> {
  let text = ''
  for await (const chunk of body.setEncoding('utf8')) {
    text += chunk
    if (text.length > 1_000) break
  }
  return text.replace(/\s+/g, ' ').trim()
}
