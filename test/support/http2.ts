import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
} from 'node:http2'
import { connect as connectTcp, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { parseFrames, type WireFrame } from './client.ts'
import { listenOn, portOf, relay } from './relay.ts'

export interface Http2Response {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** The body so far. */
  readonly body: string
  readonly frames: WireFrame[]
  /** Resolves with the whole body when the stream is closed, however that came about. */
  readonly ended: Promise<string>
  /** Resolves when the body contains `text`, or ends. */
  until(text: string): Promise<string>
  readonly stream: ClientHttp2Stream
}

/** A way to a server whose other end can stop reading. */
export async function openPausable(url: string): Promise<{ readonly url: string; pause(): void }> {
  const ups = new Set<Socket>()
  const server = await listenOn(0, (down) => {
    const up = connectTcp(Number(new URL(url).port), '127.0.0.1')
    ups.add(up)
    for (const socket of [up, down]) socket.on('error', () => {})
    relay(down, up)
    relay(up, down)
    up.on('close', () => down.destroy())
    down.on('close', () => up.destroy())
  })
  onTestFinished(() => {
    for (const up of ups) up.destroy()
    server.close()
  })
  const pause = () => {
    for (const up of ups) up.pause()
  }
  return { url: `https://127.0.0.1:${portOf(server)}`, pause }
}

/** A session that takes any certificate; destroyed when the test ends. */
export async function openSession(url: string, options: SecureClientSessionOptions = {}): Promise<ClientHttp2Session> {
  const session = connect(url, { rejectUnauthorized: false, ...options })
  session.on('error', () => {})
  onTestFinished(() => session.destroy())
  await once(session, 'connect')
  return session
}

/** Sends a request as one stream of a session. */
export function ask(
  session: ClientHttp2Session,
  path: string,
  options: { readonly body?: unknown; readonly headers?: OutgoingHttpHeaders } = {},
): Promise<Http2Response> {
  const { body, headers } = options
  const post = body === undefined ? {} : { ':method': 'POST', 'content-type': 'application/json' }
  const stream = session.request({ ':path': path, ...post, ...headers })
  stream.end(body === undefined ? undefined : JSON.stringify(body))
  return answerOf(stream)
}

/** @throws when the stream ends without an answer */
export async function answerOf(stream: ClientHttp2Stream): Promise<Http2Response> {
  stream.on('error', () => {})
  const closed = once(stream, 'close')
  const answered = await Promise.race([once(stream, 'response'), closed])
  const [headers] = answered as [IncomingHttpHeaders | undefined]
  if (typeof headers !== 'object') throw new Error(`no answer, reset with ${stream.rstCode}`)
  let body = ''
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    body += text
  })
  return {
    status: Number((headers as Record<string, unknown>)[':status']),
    headers,
    get body() {
      return body
    },
    get frames() {
      return parseFrames(body)
    },
    // Node's client may wait for its own request to be over when all of the answer is there.
    ended: Promise.race([closed, once(stream, 'end')]).then(() => body),
    async until(text) {
      while (!body.includes(text) && !stream.closed) await Promise.race([once(stream, 'data'), closed])
      return body
    },
    stream,
  }
}

export async function askAll(...args: Parameters<typeof ask>): Promise<Http2Response> {
  const answer = await ask(...args)
  await answer.ended
  return answer
}
