import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { describeFault, SluiceError } from '../core/errors.ts'
import type { DoneEvent } from '../core/events.ts'
import type { Format, SmoothUnit } from '../core/format.ts'
import { type Message, snapshot } from '../core/message.ts'
import type { StreamLog } from '../core/ports.ts'
import { parsePosition } from '../core/position.ts'
import type { Sweep } from '../core/sweep.ts'
import { Connection, countFrames, type Outlet } from '../delivery/connection.ts'
import type { Run } from '../run/run.ts'
import type { HttpLog } from './server.ts'

export interface AttachOptions {
  readonly heartbeat_ms: number
  readonly client_stall_ms: number
  /** How long a POST waits for upstream before it answers 200 all the same, in milliseconds. */
  readonly commit_after_ms: number
}

/** How a client wants to read a stream. */
export interface View {
  readonly format: Format
  readonly smooth?: SmoothUnit | undefined
  /** The number of the last frame it has already. */
  readonly after?: number | undefined
}

/** A whole answer and how it ended. */
export interface DoneSnapshot {
  readonly message: Message
  readonly done: DoneEvent
}

/** Opens event streams on HTTP responses. */
export class Attacher {
  readonly #options: AttachOptions
  readonly #sweep: Sweep
  readonly #log: HttpLog

  constructor(options: AttachOptions, sweep: Sweep, log: HttpLog) {
    this.#options = options
    this.#sweep = sweep
    this.#log = log
  }

  /** Streams a log from frame `view.after` on. */
  attach(request: FastifyRequest, reply: FastifyReply, log: StreamLog, view: View): void {
    this.#connect(request, reply, log, view).open()
  }

  /**
   * Streams a new run, once upstream has said something or `commit_after_ms` is over.
   * @throws SluiceError when the run failed before that: the response is still free for an HTTP status
   */
  async attachWhenOpen(request: FastifyRequest, reply: FastifyReply, run: Run, view: View): Promise<void> {
    const connection = this.#connect(request, reply, run.log, view)
    const failure = await this.opened(run, reply)
    if (failure && connection.alive) throw failure
    connection.open()
  }

  /**
   * Waits for a run to end without sending anything, for clients that want the answer whole. Their leaving counts as
   * that of any reader.
   * @throws SluiceError when there is no whole answer
   */
  async collect(reply: FastifyReply, run: Run): Promise<DoneSnapshot> {
    const cursor = run.log.cursor(() => {})
    reply.raw.on('close', () => cursor.close())
    if (reply.request.raw.socket.destroyed) cursor.close()
    const { failure } = await run.ended
    if (failure) throw failure
    const { message, terminal } = snapshot(await run.log.history())
    cursor.close()
    if (terminal?.type !== 'done' || !message) throw new SluiceError('stopped')
    return { message, done: terminal }
  }

  /** Waits for a run's first sign of life, its failure, the client's leaving or `commit_after_ms`. */
  async opened(run: Run, reply: FastifyReply): Promise<SluiceError | undefined> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const commit = () => resolve(undefined)
    const timer = setTimeout(commit, this.#options.commit_after_ms)
    reply.raw.once('close', commit)
    const failure = await Promise.race([run.opened, promise])
    reply.raw.off('close', commit)
    clearTimeout(timer)
    return failure
  }

  /** Makes the client a reader of the log before its response has begun, so that its leaving counts from the start. */
  #connect(request: FastifyRequest, reply: FastifyReply, log: StreamLog, { format, after = 0, smooth }: View) {
    const { raw } = reply
    const connection = new Connection(log, {
      format,
      after,
      smooth,
      heartbeatMs: this.#options.heartbeat_ms,
      clientStallMs: this.#options.client_stall_ms,
      sweep: this.#sweep,
      onFault: (fault) =>
        this.#log.error({ request_id: request.id, stream: log.id, fault: describeFault(fault) }, 'connection failed'),
    })
    let alive = true
    const gone = () => {
      alive = false
      connection.close()
    }
    // The request's own `close` comes as soon as a POST body is read; the response's comes when the client is gone.
    raw.on('close', gone)
    if (request.raw.socket.destroyed) gone()
    return {
      get alive() {
        return alive
      },
      open: () => {
        reply.hijack()
        if (!alive) return
        raw.on('drain', () => connection.resume())
        raw.writeHead(200, streamHeaders(reply, log, format))
        // The head goes out with the first frames where there are some, which saves a system call.
        if (!connection.start(outletOf(reply))) raw.flushHeaders()
      },
    }
  }
}

/** Headers that hooks have set (CORS, request id) and those every stream needs. A hijacked reply sends none by itself. */
function streamHeaders(reply: FastifyReply, log: StreamLog, format: Format): OutgoingHttpHeaders {
  return {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    'content-type': 'text/event-stream; charset=utf-8',
    // no-transform keeps proxies from compressing, and so from buffering; the other header is nginx's own.
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
    'x-stream-id': log.id,
    ...format.headers,
  }
}

function outletOf({ raw }: FastifyReply): Outlet {
  return {
    get pendingBytes() {
      return raw.writableLength
    },
    write: (text) => raw.write(text),
    end: () => raw.end(),
    destroy: () => raw.destroy(),
  }
}

/**
 * The frame a client wants to go on after: `Last-Event-ID`, else `?after=`; `undefined` when it named none.
 * @throws SluiceError `invalid_position` when it is malformed or of another stream
 */
export function requestedPosition(lastEventId: string | undefined, after: string | undefined, stream: string) {
  if (lastEventId !== undefined) {
    const position = parsePosition(lastEventId)
    if (position?.stream !== stream) throw new SluiceError('invalid_position')
    return position.n
  }
  if (after === undefined) return undefined
  if (!/^\d{1,15}$/.test(after)) throw new SluiceError('invalid_position')
  return Number(after)
}

/**
 * Whether something follows frame `after`.
 * @returns `'at end'` when the client has the terminal frame already
 * @throws SluiceError `invalid_position` beyond what the stream has sent
 */
export async function checkPosition(log: StreamLog, view: View): Promise<'behind' | 'at end'> {
  const ended = await log.terminal()
  const count = ended ? await finalCount(log, view) : countFrames(view.format, await log.history(), view.smooth)
  const { after = 0 } = view
  if (after > count) throw new SluiceError('invalid_position')
  return ended && after === count ? 'at end' : 'behind'
}

/** Counting folds the whole log: for a finished one, whose counts no longer change, once a format. */
const finalCounts = new WeakMap<StreamLog, Map<string, number>>()

async function finalCount(log: StreamLog, { format, smooth }: View): Promise<number> {
  const counts = finalCounts.get(log) ?? new Map<string, number>()
  finalCounts.set(log, counts)
  const key = `${format.name} ${smooth}`
  const known = counts.get(key)
  if (known !== undefined) return known
  const count = countFrames(format, await log.history(), smooth)
  counts.set(key, count)
  return count
}
