import type { ServerResponse } from 'node:http'
import { constants } from 'node:http2'
import type { Socket } from 'node:net'
import type { Outlet } from '../delivery/outlet.ts'
import { http2StreamOf } from './headers.ts'

/**
 * The body of one response. Behind the head, pieces go to the socket as HTTP/1.1 chunks of our own making: one string
 * and one write each, where `response.write` makes three and gathers them, which is a tenth of what a frame costs.
 * @see https://www.rfc-editor.org/rfc/rfc9112.html#name-chunked-transfer-coding
 */
export class ResponseOutlet implements Outlet {
  readonly #response: ServerResponse
  readonly #onDrain: () => void
  /** Where chunks go directly, once the head is out; HTTP/1.0 and HTTP/2 have no chunks. */
  #socket: Socket | undefined
  writtenBytes = 0

  /** @param onDrain called when the client has taken what it lagged behind with */
  constructor(response: ServerResponse, onDrain: () => void) {
    this.#response = response
    // Drains follow one another in a single turn of the event loop when a client reads as fast as it is written to.
    // By a name of its own: V8 takes a function that is made for a property to be a method, and makes it as an old object.
    const onDrainOnce = () => void setImmediate(onDrain)
    this.#onDrain = onDrainOnce
    response.on('drain', onDrainOnce)
  }

  get pendingBytes(): number {
    return (this.#socket ?? this.#response).writableLength
  }

  write(text: string): boolean {
    const bytes = Buffer.byteLength(text)
    this.writtenBytes += bytes
    if (this.#socket) return this.#socket.write(`${bytes.toString(16)}\r\n${text}\r\n`)
    // The head goes out with the first piece, which saves a system call.
    const taken = this.#response.write(text)
    this.#findSocket()
    return taken
  }

  end(text: string): void {
    this.writtenBytes += Buffer.byteLength(text)
    this.#response.end(text)
  }

  /** Over HTTP/2 that is a reset: without one the client would take what it has for the whole. */
  destroy(): void {
    http2StreamOf(this.#response)?.close(constants.NGHTTP2_CANCEL)
    this.#response.destroy()
  }

  /** A response that was asked for before another one on the same connection has ended has no socket yet. */
  #findSocket(): void {
    const { chunkedEncoding, socket } = this.#response
    if (!chunkedEncoding || !socket) return
    this.#socket = socket
    socket.on('drain', this.#onDrain)
    // The connection may be kept alive for the next request.
    this.#response.on('close', () => socket.off('drain', this.#onDrain))
  }
}
