import type { FastifyReply, FastifyRequest } from 'fastify'
import { Bag } from '../core/bag.ts'
import type { Caller } from '../core/caller.ts'
import { describeFault, SluiceError } from '../core/errors.ts'
import { type DoneEvent, isTerminal } from '../core/events.ts'
import type { Format, SmoothUnit } from '../core/format.ts'
import { clientSnapshot, type Message } from '../core/message.ts'
import type { StreamLog } from '../core/ports.ts'
import { reconnectAfter } from '../core/sse.ts'
import type { Sweep } from '../core/sweep.ts'
import { Connection } from '../delivery/connection.ts'
import type { Begun } from '../run/streams.ts'
import { streamHeaders } from './headers.ts'
import type { HttpLog } from './server.ts'
import { comesBack, StreamResponse } from './stream-response.ts'
import { noteStream } from './watch.ts'

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

/** When a client that is handed over reconnects, in milliseconds: by then, load balancers should know. */
const leastReturnMs = 500
const returnSpreadMs = 1_500

/** Not all in the same moment; and all before the grace of their streams is over. */
function returnMs(): number {
  return Math.round(leastReturnMs + Math.random() * returnSpreadMs)
}

/** Opens event streams on HTTP responses. */
export class Attacher {
  readonly #options: AttachOptions
  readonly #sweep: Sweep
  readonly #log: HttpLog
  readonly #open = new Bag<StreamResponse>()

  /** How to end the waiting of those who want whole answers, and who they are. */
  readonly #collecting = new Bag<{ readonly reject: (error: SluiceError) => void; readonly caller: Caller }>()

  constructor(options: AttachOptions, sweep: Sweep, log: HttpLog) {
    this.#options = options
    this.#sweep = sweep
    this.#log = log
  }

  /** How many clients are connected to streams. */
  get connections(): number {
    return this.#open.size
  }

  /** Clients that get streams here. */
  get open(): Iterable<Connection> {
    return Array.from(this.#open, ({ connection }) => connection)
  }

  /** One of them. */
  get any(): Connection | undefined {
    return this.#open.any()?.connection
  }

  /** Streams a log from frame `view.after` on. */
  attach(request: FastifyRequest, reply: FastifyReply, log: StreamLog, view: View): void {
    this.#connect(request, reply, log, view).open()
  }

  /**
   * Streams a run, a new one once upstream has said something or `commit_after_ms` is over.
   * @throws SluiceError when the run failed before that: the response is still free for an HTTP status
   */
  async attachWhenOpen(request: FastifyRequest, reply: FastifyReply, begun: Begun, view: View): Promise<void> {
    const response = this.#connect(request, reply, begun.log, view)
    const failure = await this.opened(begun, reply)
    if (failure && response.alive) throw failure
    response.open()
  }

  /**
   * Waits for a stream to end without sending anything, for clients that want the answer whole. Their leaving counts as
   * that of any reader.
   * @throws SluiceError when there is no whole answer
   */
  async collect(reply: FastifyReply, { log, run }: Begun): Promise<DoneSnapshot> {
    const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
    const cursor = log.cursor({ wake: skip })
    function skip(): void {
      try {
        for (let events = cursor.next(512); events.length > 0; events = cursor.next(512)) {
          if (events.some(isTerminal)) resolve()
        }
      } catch (loss) {
        reject(loss)
      }
    }
    function leave(): void {
      cursor.close()
      reject(new SluiceError('stopped'))
    }
    reply.raw.on('close', leave)
    if (reply.request.raw.socket.destroyed) leave()
    const place = this.#collecting.add({ reject, caller: reply.request.caller })
    try {
      skip()
      await ended
    } finally {
      this.#collecting.remove(place)
    }
    const { message, terminal } = clientSnapshot(await log.history())
    cursor.close()
    if (terminal?.type === 'done' && message) return { message, done: terminal }
    // The run knows more of its failure than the log does: how long to wait, for one.
    const failure = run && (await run.ended).failure
    if (!failure && terminal?.type === 'error') throw new SluiceError(terminal.error.code, terminal.error)
    throw failure ?? new SluiceError('stopped')
  }

  /** Waits for a run's first sign of life, its failure, the client's leaving or `commit_after_ms`. */
  async opened({ run }: Begun, reply: FastifyReply): Promise<SluiceError | undefined> {
    if (!run) return undefined
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const commit = () => resolve(undefined)
    const timer = setTimeout(commit, this.#options.commit_after_ms)
    reply.raw.on('close', commit)
    const failure = await Promise.race([run.opened, promise])
    reply.raw.off('close', commit)
    clearTimeout(timer)
    return failure
  }

  /**
   * Sends those who come back by themselves to another process: over GET, in a format whose clients do so, on a stream
   * that another process can go on with.
   */
  handOver(): void {
    for (const response of this.#open) {
      const { connection } = response
      if (!response.returns || !connection.log.shared) continue
      response.endConnection()
      connection.handOver(returnMs())
    }
  }

  /**
   * Lets a client come back a little later, as one that reconnects by itself does: it gets an empty stream.
   * @returns false, with nothing sent, to any other client
   */
  sendBack(request: FastifyRequest, reply: FastifyReply, format: Format): boolean {
    const returns = comesBack(request, format) && request.headers.accept?.includes('text/event-stream')
    if (!returns) return false
    reply.hijack()
    noteStream(reply)
    reply.raw.writeHead(200, streamHeaders(reply, format))
    reply.raw.end(reconnectAfter(returnMs()))
    return true
  }

  /** How many clients wait for whole answers. */
  get collecting(): number {
    return this.#collecting.size
  }

  /** Tells them that they wait in vain. */
  failCollecting(error: SluiceError): void {
    for (const { reject } of this.#collecting) reject(error)
  }

  /** Ends what clients get whose key is not valid any more; the streams may be others' as well. */
  revoke(isRevoked: (caller: Caller) => boolean): void {
    const error = new SluiceError('access_revoked')
    for (const { connection, caller } of this.#open) if (isRevoked(caller)) connection.fail(error)
    for (const { reject, caller } of this.#collecting) if (isRevoked(caller)) reject(error)
  }

  /** Connections that wait for more than this process has of their streams. */
  async waiting(): Promise<Connection[]> {
    const all = await Promise.all(Array.from(this.open, async (each) => ((await each.log.terminal()) ? [] : [each])))
    return all.flat()
  }

  /** Makes the client a reader of the log before its response has begun, so that its leaving counts from the start. */
  #connect(
    request: FastifyRequest,
    reply: FastifyReply,
    log: StreamLog,
    { format, after = 0, smooth }: View,
  ): StreamResponse {
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
    const response = new StreamResponse(request, reply, connection, format)
    const place = this.#open.add(response)
    const gone = () => {
      this.#open.remove(place)
      response.close()
    }
    // The request's own `close` comes as soon as a POST body is read; the response's comes when the client is gone.
    reply.raw.on('close', gone)
    if (request.raw.socket.destroyed) gone()
    return response
  }
}
