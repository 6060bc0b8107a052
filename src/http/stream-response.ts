import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Caller } from '../core/caller.ts'
import type { Format } from '../core/format.ts'
import type { Connection } from '../delivery/connection.ts'
import { http2StreamOf, streamHeaders } from './headers.ts'
import { ResponseOutlet } from './outlet.ts'
import { noteStream } from './watch.ts'

/**
 * The response that a connection writes to, from before its head is out. A class: as an object literal with a getter it
 * had a hidden class of its own for each stream, which V8 makes as an old object. So all that hangs on a stream outlived
 * it until the next full collection: each collection of young objects took 20 ms, not 1.
 */
export class StreamResponse {
  readonly connection: Connection
  readonly #request: FastifyRequest
  readonly #reply: FastifyReply
  readonly #format: Format
  #alive = true

  constructor(request: FastifyRequest, reply: FastifyReply, connection: Connection, format: Format) {
    this.connection = connection
    this.#request = request
    this.#reply = reply
    this.#format = format
  }

  /** The client is still there. */
  get alive(): boolean {
    return this.#alive
  }

  get caller(): Caller {
    return this.#request.caller
  }

  /** Its client comes back by itself: `EventSource` and its like. */
  get returns(): boolean {
    return comesBack(this.#request, this.#format)
  }

  /** Sends the head, and all there is. */
  open(): void {
    const { connection } = this
    const { log } = connection
    const { raw } = this.#reply
    this.#reply.hijack()
    if (!this.#alive) return
    noteStream(this.#reply)
    const resumable = log.isolated && { 'x-resumable': 'false' }
    raw.writeHead(200, { ...streamHeaders(this.#reply, this.#format), 'x-stream-id': log.id, ...resumable })
    // The head goes out with the first frames where there are some, which saves a system call.
    const outlet = new ResponseOutlet(raw, () => connection.resume())
    if (!connection.start(outlet)) raw.flushHeaders()
  }

  /** Kept alive, the HTTP connection would bring the client back to where it was. */
  endConnection(): void {
    const { raw } = this.#reply
    const { socket } = raw
    // Over HTTP/2 it has been told to come back over another one by then.
    if (!http2StreamOf(raw)) raw.once('finish', () => socket?.end())
  }

  /** The client is gone, or the response has ended. */
  close(): void {
    this.#alive = false
    this.connection.close()
  }
}

/** Clients of `EventSource` and its like. */
export function comesBack({ method }: FastifyRequest, format: Format): boolean {
  return method === 'GET' && format.reconnects === true
}
