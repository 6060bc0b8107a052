import { request as httpRequest, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { parseFrames, type WireFrame } from './client.ts'
import type { Random } from './random.ts'
import { announced, hasDoneMark, isTerminal, type SeenFrame, type Transcript } from './transcript.ts'

/** Where the reader loses a connection, counted from the beginning of its body: whichever comes first. */
export interface Cut {
  readonly frames?: number
  readonly bytes?: number
  /** The connection ends in a reset instead of a clean end. */
  readonly reset?: boolean
}

export interface ReaderOptions {
  /** Base URLs; connection n goes to number n, and round again. May be changed meanwhile. */
  readonly bases: readonly string[]
  /** Path and query: `/stream?prompt=…`, `/streams/:id?format=…`, or what a `post` goes to. */
  readonly path: string
  /** By default the one that `path` names, or `json`. */
  readonly format?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Begins with a `POST` of this; resumes by `GET /streams/:id`. */
  readonly post?: unknown
  /** The id of a frame to begin after. */
  readonly lastEventId?: string
  /** Asked for each connection, from 1. */
  readonly cut?: (connection: number) => Cut | undefined
  /** Until a server says otherwise (`retry:`), in milliseconds. */
  readonly retryMs?: number
  /** Gives up after that. */
  readonly patienceMs?: number
  readonly onFrame?: (frame: SeenFrame) => void
}

export interface Reader {
  /** What it has so far. */
  readonly transcript: Transcript
  /** Resolves at the end, however it came about: `transcript.end` says. */
  readonly ended: Promise<Transcript>
  /** The id of the stream, as soon as a header or a frame has told it. */
  readonly stream: Promise<string>
  /** Hangs up and does not come back. */
  close(): void
}

const agentless = { agent: false } as const
const maxConnections = 1_000
/** How long the server may take to hang up after the end of the format. */
const hangUpMs = 2_000

/**
 * Reads a stream as a perfect EventSource would that knows when its format ends: it keeps the last id, comes back with it
 * when the connection is lost, obeys `retry:`, stops at the end or at 204, and takes any other status as final.
 */
export function startReader(options: ReaderOptions): Reader {
  const format = options.format ?? new URLSearchParams(options.path.split('?')[1]).get('format') ?? 'json'
  const frames: SeenFrame[] = []
  const announcement: WireFrame[] = []
  const strays: WireFrame[] = []
  const found = Promise.withResolvers<string>()
  const stop = new AbortController()
  const patience = setTimeout(() => stop.abort('out of patience'), options.patienceMs ?? 60_000)
  let position = options.lastEventId
  let retryMs = options.retryMs ?? 10
  let connections = 0
  let end = ''
  const transcript: Transcript = {
    format,
    frames,
    announcement,
    strays,
    get connections() {
      return connections
    },
    get end() {
      return end
    },
  }
  // Nobody has to ask for it.
  found.promise.catch(() => undefined)

  function take(frame: WireFrame): void {
    const { retry } = frame as { retry?: string }
    if (retry !== undefined && /^\d+$/.test(retry)) retryMs = Number(retry)
    if (frame.id === undefined) takeUnnumbered(frame)
    else if (end !== '') strays.push(frame)
    else takeNumbered(frame, frame.id)
  }

  function takeNumbered({ event, data }: WireFrame, id: string): void {
    position = id
    const [stream = '', n] = id.split('.')
    found.resolve(stream)
    const seen: SeenFrame = {
      ...{ id, n: Number(n), connection: connections, at: performance.now() },
      ...(event !== undefined && { event }),
      ...(data !== undefined && { data }),
    }
    frames.push(seen)
    options.onFrame?.(seen)
    if (!hasDoneMark(format) && isTerminal(format, seen)) end = 'whole'
  }

  function takeUnnumbered(frame: WireFrame): void {
    if (frame.data === undefined || (format === 'anthropic' && frame.event === 'ping')) return
    if (end !== '') strays.push(frame)
    else if (frame.data === '[DONE]' && hasDoneMark(format)) end = 'whole'
    else announcement.push(frame)
    if (!hasDoneMark(format) && announced(transcript)) end = 'whole'
  }

  /** One connection, until it is lost or the stream is at its end. */
  async function connect(): Promise<void> {
    const base = options.bases[connections % options.bases.length]
    connections++
    const cut = options.cut?.(connections)
    const { post } = options
    const first = post !== undefined && position === undefined
    const path = post !== undefined && !first ? `/streams/${position?.split('.')[0]}?format=${format}` : options.path
    const body = first ? JSON.stringify(post) : undefined
    const request = httpRequest(`${base}${path}`, {
      ...agentless,
      method: first ? 'POST' : 'GET',
      signal: stop.signal,
      headers: {
        ...(body === undefined ? { accept: 'text/event-stream' } : { 'content-type': 'application/json' }),
        ...options.headers,
        ...(position !== undefined && { 'last-event-id': position }),
      },
    })
    const response = await new Promise<IncomingMessage | undefined>((resolve) => {
      request.on('response', resolve)
      // Kept on: a reset comes as an error at any time, and `close` of the response tells what follows.
      request.on('error', () => resolve(undefined))
      request.end(body)
    })
    if (!response) return
    response.on('error', () => undefined)
    if (response.statusCode === 204) end = 'known'
    else if (response.statusCode !== 200) end = `${response.statusCode} ${codeOf(await readAll(response))}`
    else await read(response, cut)
    request.destroy()
  }

  async function read(response: IncomingMessage, cut: Cut | undefined): Promise<void> {
    const id = response.headers['x-stream-id']
    if (typeof id === 'string') found.resolve(id)
    const before = frames.length
    const framesLeft = cut?.frames ?? Number.POSITIVE_INFINITY
    let bytesLeft = cut?.bytes ?? Number.POSITIVE_INFINITY
    let rest = ''
    let lost = false
    let hangUp: NodeJS.Timeout | undefined
    const decoder = new TextDecoder()
    const lose = () => {
      lost = true
      if (cut?.reset) response.socket.resetAndDestroy()
      else response.destroy()
    }
    const tooLate = () => {
      end = 'the server did not hang up after the end'
      response.destroy()
    }
    response.on('data', (chunk: Buffer) => {
      if (lost) return
      const bytes = chunk.subarray(0, Math.min(chunk.length, bytesLeft))
      bytesLeft -= bytes.length
      const text = rest + decoder.decode(bytes, { stream: true })
      const whole = text.lastIndexOf('\n\n') + 2
      rest = whole >= 2 ? text.slice(whole) : text
      for (const frame of whole >= 2 ? parseFrames(text.slice(0, whole)) : []) {
        if (frames.length - before >= framesLeft && end === '') break
        take(frame)
      }
      if (end !== '') hangUp ??= setTimeout(tooLate, hangUpMs)
      else if (bytesLeft <= 0 || frames.length - before >= framesLeft) lose()
    })
    await new Promise((resolve) => response.once('close', resolve))
    clearTimeout(hangUp)
  }

  async function readToTheEnd(): Promise<Transcript> {
    try {
      while (end === '' && connections < maxConnections) {
        await connect()
        if (end === '') await delay(retryMs, undefined, { signal: stop.signal })
      }
    } catch (thrown) {
      if (!stop.signal.aborted) throw thrown
    }
    if (end === '') end = stop.signal.aborted ? String(stop.signal.reason) : 'too many connections'
    clearTimeout(patience)
    found.reject(new Error(`the stream was never told: ${end}`))
    return transcript
  }

  return { transcript, ended: readToTheEnd(), stream: found.promise, close: () => stop.abort('closed') }
}

/** Reads a stream to its end. */
export function readStream(options: ReaderOptions): Promise<Transcript> {
  return startReader(options).ended
}

/** The code of an error in a body, or the beginning of a body that holds none. */
function codeOf(body: string): string {
  return /"code":"(\w+)"/.exec(body)?.[1] ?? body.slice(0, 100)
}

async function readAll(response: IncomingMessage): Promise<string> {
  let text = ''
  response.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
  })
  await new Promise((resolve) => response.once('close', resolve))
  return text
}

export interface CutOptions {
  /** How many connections are lost, at most. */
  readonly cuts: number
  /** Up to so many frames, or bytes, come on each. */
  readonly mostFrames: number
  readonly mostBytes: number
  /** No connection is lost before a frame has come: without an id a client asks anew. */
  readonly afterFirstFrame?: boolean
}

/** Loses connections at random places: between frames or anywhere in one, by a clean end or by a reset. */
export function randomCuts(random: Random, { cuts, mostFrames, mostBytes, afterFirstFrame }: CutOptions) {
  return (connection: number): Cut | undefined => {
    if (connection > cuts) return undefined
    const reset = random.chance(0.5)
    if (random.chance(0.5) || (afterFirstFrame && connection === 1)) {
      return { reset, frames: random.between(afterFirstFrame && connection === 1 ? 1 : 0, mostFrames) }
    }
    return { reset, bytes: random.between(1, mostBytes) }
  }
}
