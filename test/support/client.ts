import { once } from 'node:events'
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'

/** One frame as it stood on the wire; `data` is undefined where there was no data line. */
export interface WireFrame {
  readonly id?: string
  readonly event?: string
  readonly data?: string
}

/** Splits a response body into frames, by the letter of the SSE rules and without any code of the project. */
export function parseFrames(body: string): WireFrame[] {
  const frames: WireFrame[] = []
  for (const block of body.split('\n\n').slice(0, -1)) {
    const fields: { id?: string; event?: string; data?: string } = {}
    for (const line of block.split('\n')) {
      if (line.startsWith(':')) continue
      const at = line.indexOf(':')
      const name = (at < 0 ? line : line.slice(0, at)) as 'id' | 'event' | 'data'
      const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '')
      if (name === 'data') fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`
      else fields[name] = value
    }
    if (Object.keys(fields).length > 0) frames.push(fields)
  }
  return frames
}

export interface StreamResponse {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** The body so far. */
  readonly body: string
  /** Resolves with the whole body when the response ends, however it ends. */
  readonly ended: Promise<string>
  /** Resolves when the body contains `text`, or ends. */
  until(text: string | RegExp): Promise<string>
  /** Hangs up. */
  destroy(): void
  readonly message: IncomingMessage
}

export interface RequestOptions {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: unknown
}

/** Sends a request over a connection of its own and reads the answer as it comes. */
export async function open(url: string, options: RequestOptions = {}): Promise<StreamResponse> {
  const payload = options.body === undefined ? undefined : JSON.stringify(options.body)
  const request = httpRequest(url, {
    method: options.method ?? (payload === undefined ? 'GET' : 'POST'),
    agent: false,
    headers: { ...(payload !== undefined && { 'content-type': 'application/json' }), ...options.headers },
  })
  request.end(payload)
  const [message] = (await once(request, 'response')) as [IncomingMessage]
  return readResponse(message)
}

function readResponse(message: IncomingMessage): StreamResponse {
  let body = ''
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const each of waiting) each()
  }
  message.setEncoding('utf8')
  message.on('data', (text: string) => {
    body += text
    wake()
  })
  message.on('error', () => {})
  const ended = new Promise<string>((resolve) => {
    message.on('close', () => {
      resolve(body)
      wake()
    })
  })
  return {
    status: message.statusCode ?? 0,
    headers: message.headers,
    get body() {
      return body
    },
    ended,
    async until(text) {
      const found = () => (typeof text === 'string' ? body.includes(text) : text.test(body))
      while (!found() && !message.destroyed) {
        await new Promise<void>((resolve) => {
          const check = () => {
            waiting.delete(check)
            resolve()
          }
          waiting.add(check)
          if (message.destroyed) check()
        })
      }
      return body
    },
    destroy: () => message.destroy(),
    message,
  }
}

/** Sends a request and waits for the whole answer. */
export async function fetchAll(url: string, options: RequestOptions = {}) {
  const response = await open(url, options)
  const body = await response.ended
  return { status: response.status, headers: response.headers, body, frames: parseFrames(body) }
}

/** JSON frames of the `json` format, without `[DONE]`. */
export function jsonFrames(frames: readonly WireFrame[]): Record<string, unknown>[] {
  return frames
    .filter((frame) => frame.data !== undefined && frame.data !== '[DONE]')
    .map((frame) => JSON.parse(frame.data as string))
}

/** Polls until `probe` gives something truthy; for things that happen on another socket. */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  within = 2_000,
): Promise<Exclude<T, undefined | null | false>> {
  const until = performance.now() + within
  for (;;) {
    const value = await probe()
    if (value) return value as Exclude<T, undefined | null | false>
    if (performance.now() > until) throw new Error(`not within ${within} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
