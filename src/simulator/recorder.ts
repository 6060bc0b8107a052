import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import {
  createServer,
  type IncomingMessage,
  request as requestByHttp,
  type Server,
  type ServerResponse,
} from 'node:http'
import { request as requestByHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { neutralizer } from './neutral.ts'
import { type Recorded, RecordingFile } from './recording-file.ts'
import type { TapeEnd } from './tape.ts'

export interface RecorderOptions {
  readonly folder: string
  /** Base URL of the Messages API, without `/v1`. */
  readonly upstream: string
  readonly port?: number
  readonly host?: string
  /** Hears of every exchange, in a line without anything of its content. */
  readonly told: (line: string) => void
}

/** Between a client and Claude: passes on all that either says, and keeps the streamed answers. */
export class Recorder {
  readonly #options: RecorderOptions
  readonly #upstream: URL
  readonly #server: Server
  readonly #neutral = neutralizer()
  readonly #exchanges = new Set<Promise<void>>()
  #isClosing = false

  private constructor(options: RecorderOptions) {
    this.#options = options
    this.#upstream = new URL(options.upstream)
    this.#server = createServer({ noDelay: true, requestTimeout: 0 }, (request, response) =>
      this.#relay(request, response),
    )
  }

  static async start(options: RecorderOptions): Promise<Recorder> {
    mkdirSync(options.folder, { recursive: true, mode: 0o700 })
    const recorder = new Recorder(options)
    recorder.#server.listen({ port: options.port ?? 0, host: options.host ?? '127.0.0.1' })
    await once(recorder.#server, 'listening')
    return recorder
  }

  get url(): string {
    const { address, family, port } = this.#server.address() as AddressInfo
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
  }

  /** Cuts what is under way; resolves when all files have their names. */
  async close(): Promise<void> {
    this.#isClosing = true
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
    await Promise.all(this.#exchanges)
  }

  #relay(request: IncomingMessage, response: ServerResponse): void {
    const { url = '', method } = request
    // Of an absolute URL the host would not be the one that it names.
    if (!url.startsWith('/')) {
      refuse(response, 400, 'invalid_request_error', 'The path must begin with a slash.')
      return
    }
    const askedAt = performance.now()
    const { protocol, hostname, port, host, pathname } = this.#upstream
    const send = protocol === 'https:' ? requestByHttps : requestByHttp
    const outgoing = send({
      protocol,
      hostname: hostname.replace(/^\[|\]$/g, ''),
      port,
      method,
      path: pathname.replace(/\/$/, '') + url,
      headers: [...endToEnd(request.rawHeaders, 'host'), 'host', host],
      // A connection that is kept may have been closed meanwhile, and this may ask nothing twice.
      agent: false,
    })
    response.on('close', () => outgoing.destroy())
    // Its closing tells.
    response.on('error', () => {})
    request.pipe(outgoing)
    outgoing.on('response', (incoming) => {
      const exchange = this.#answer(request, incoming, response, performance.now() - askedAt)
      this.#exchanges.add(exchange)
      void exchange.finally(() => this.#exchanges.delete(exchange))
    })
    outgoing.on('error', ({ message }) => {
      if (response.headersSent || response.destroyed) return
      this.#options.told(`502, Claude does not answer: ${message}`)
      refuse(response, 502, 'api_error', `sluice record cannot reach Claude: ${message}`)
    })
  }

  async #answer(
    request: IncomingMessage,
    incoming: IncomingMessage,
    response: ServerResponse,
    headersMs: number,
  ): Promise<void> {
    const { statusCode = 502, statusMessage = '' } = incoming
    const began = performance.now()
    const file = isStreamed(request, incoming) ? this.#openFile(request, incoming, headersMs) : undefined
    response.sendDate = false
    response.writeHead(statusCode, statusMessage, endToEnd(incoming.rawHeaders))
    response.flushHeaders()
    const how = await this.#passOn(incoming, response, file)
    const recorded = await file?.end(how).catch((error: Error) => error.message)
    const seconds = ((performance.now() - began) / 1_000).toFixed(1)
    this.#options.told(`${statusCode}, ${fateOf(recorded, seconds)}`)
  }

  #openFile(request: IncomingMessage, incoming: IncomingMessage, headersMs: number): RecordingFile | undefined {
    const asked = String(request.headers['anthropic-version'] ?? '')
    const version = /^[\w.-]{1,32}$/.test(asked) ? asked : 'unknown'
    const head = { date: new Date().toISOString(), status: incoming.statusCode ?? 0, version, headersMs }
    try {
      return new RecordingFile(this.#options.folder, head, this.#neutral, incoming)
    } catch (error) {
      this.#options.told(`cannot write there: ${(error as Error).message}`)
      return undefined
    }
  }

  /** Gives on the body as it comes, as fast as the client takes it. Whoever breaks off, the other one hears of it. */
  async #passOn(
    incoming: IncomingMessage,
    response: ServerResponse,
    file: RecordingFile | undefined,
  ): Promise<TapeEnd> {
    const gone = new AbortController()
    response.on('close', () => gone.abort())
    try {
      for await (const bytes of incoming as AsyncIterable<Buffer>) {
        file?.add(bytes)
        gone.signal.throwIfAborted()
        if (!response.write(bytes)) await once(response, 'drain', { signal: gone.signal })
      }
      gone.signal.throwIfAborted()
      response.end()
      return 'whole'
    } catch {
      if (this.#isClosing) return 'cut by recorder'
      if (response.destroyed) return 'cut by client'
      // What has come goes out first; without its last chunk the client knows that there was to be more.
      response.socket?.destroySoon()
      return 'cut by upstream'
    }
  }
}

function isStreamed(request: IncomingMessage, { headers }: IncomingMessage): boolean {
  const path = request.url?.split('?', 1)[0] ?? ''
  return path.endsWith('/v1/messages') && headers['content-type']?.startsWith('text/event-stream') === true
}

function fateOf(recorded: Recorded | string | undefined, seconds: string): string {
  if (recorded === undefined) return 'no stream: not recorded'
  if (typeof recorded === 'string') return `not recorded: ${recorded}`
  const { events, how, path, fault } = recorded
  return `${events} events in ${seconds} s, ${how}: ${path ?? `not recorded, as ${fault}`}`
}

/** Headers that are of one connection alone, in both directions. */
const ofOneConnection: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** @param headers names and values in turn, as they came */
function endToEnd(headers: readonly string[], ...without: string[]): string[] {
  return headers.filter((_, index) => {
    const name = headers[index - (index % 2)]?.toLowerCase() ?? ''
    return !ofOneConnection.has(name) && !without.includes(name)
  })
}

/** In the shape of Claude's own errors, so that clients say what it says. */
function refuse(response: ServerResponse, status: number, type: string, message: string): void {
  const body = JSON.stringify({ type: 'error', error: { type, message } })
  response.writeHead(status, { 'content-type': 'application/json' }).end(body)
}
