import { connect, type Socket } from 'node:net'
import type { Exchange } from './orders.ts'
import { ResponseReader, type ResponseSink } from './response.ts'
import type { Scanner } from './scan.ts'

/** How many of a body's last bytes are kept: enough for the longest terminal frame. */
const tailBytes = 1024

/** What a stream that the target does not want to carry failed of. */
export const refusal = 'status 503'

/** One read at a time is looked at, at once, so that one buffer serves all sockets. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024)

export interface ConnectionEvents {
  /** The first delta of a stream is here. */
  onFirst?(): void
  /** A stream ended by itself and was whole. */
  onEnded(): void
  /** A stream failed; the connection is of no more use. */
  onFailed(reason: string): void
}

/** One keep-alive connection: sends a request when told to, checks what comes back. */
export class Connection implements ResponseSink {
  readonly #exchange: Exchange
  readonly #request: Buffer
  readonly #scanner: Scanner
  readonly #events: ConnectionEvents
  readonly #socket: Socket
  /** Requests so far. */
  sent = 0
  #countBefore = 0
  #waitsForFirst = false
  #tail = ''
  #closed = false

  constructor(exchange: Exchange, scanner: Scanner, events: ConnectionEvents) {
    this.#exchange = exchange
    this.#request = toRequest(exchange)
    this.#scanner = scanner
    this.#events = events
    const reader = new ResponseReader(this)
    this.#socket = connect({
      port: exchange.port,
      host: '127.0.0.1',
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (length) => {
          if (!this.#closed) reader.read(readBuffer.subarray(0, length))
          return true
        },
      },
    })
    this.#socket.on('error', (error: NodeJS.ErrnoException) => this.onFault(error.code ?? error.message))
    this.#socket.on('close', () => this.onFault('connection closed'))
  }

  /** It has failed, or was hung up. */
  get closed(): boolean {
    return this.#closed
  }

  send(): void {
    this.sent++
    this.#countBefore = this.#scanner.count
    this.#waitsForFirst = true
    this.#tail = ''
    this.#socket.write(this.#request)
  }

  hangUp(): void {
    this.#closed = true
    this.#socket.destroy()
  }

  onBody(bytes: Buffer, from: number, to: number): void {
    this.#scanner.scan(bytes, from, to)
    if (this.#exchange.terminator !== undefined) this.#keepTail(bytes, from, to)
    if (this.#waitsForFirst && this.#scanner.count > this.#countBefore) {
      this.#waitsForFirst = false
      this.#events.onFirst?.()
    }
  }

  onEnd(): void {
    const { terminator, deltas: expected } = this.#exchange
    const deltas = this.#scanner.count - this.#countBefore
    if (terminator === undefined) this.onFault('stream ended before its time')
    else if (!this.#tail.includes(terminator)) this.onFault('end without a terminator')
    else if (deltas !== expected) this.onFault(`${deltas} deltas instead of ${expected}`)
    else this.#events.onEnded()
  }

  onFault(reason: string): void {
    if (this.#closed) return
    this.hangUp()
    this.#events.onFailed(reason)
  }

  #keepTail(bytes: Buffer, from: number, to: number): void {
    const last = bytes.toString('latin1', Math.max(from, to - tailBytes), to)
    this.#tail = last.length < tailBytes ? (this.#tail + last).slice(-tailBytes) : last
  }
}

function toRequest({ port, path, headers, body }: Exchange): Buffer {
  const fields = {
    host: `127.0.0.1:${port}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...headers,
  }
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`)
}
