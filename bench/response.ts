/** What a response comes to. Called while the bytes are read; `bytes` are overwritten by the next read. */
export interface ResponseSink {
  onBody(bytes: Buffer, from: number, to: number): void
  onEnd(): void
  onFault(reason: string): void
}

const LF = 0x0a
const maxHeadBytes = 16 * 1024
const headEnd = '\r\n\r\n'

/** Where in a response a reader is. */
type State = 'head' | 'size' | 'data' | 'after data' | 'trailer' | 'failed'

/**
 * Reads HTTP/1.1 responses with a chunked body, one after the other, from one connection. It knows no other framing:
 * every stream comes this way, and Node's own client costs more per read than the proxies that are measured with it.
 */
export class ResponseReader {
  readonly #sink: ResponseSink
  #state: State = 'head'
  #head = ''
  /** The line of a chunk's size, as far as it has come; of a trailer, its length so far. */
  #line = ''
  #left = 0

  constructor(sink: ResponseSink) {
    this.#sink = sink
  }

  read(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#state === 'data') at = this.#readData(bytes, at)
      else if (this.#state === 'head') at = this.#readHead(bytes, at)
      else if (this.#state === 'failed') return
      else at = this.#readLine(bytes, at)
    }
  }

  #readHead(bytes: Buffer, at: number): number {
    const before = this.#head.length
    this.#head += bytes.toString('latin1', at, bytes.length)
    const end = this.#head.indexOf(headEnd)
    if (end < 0) {
      if (this.#head.length > maxHeadBytes) this.#fail('endless response headers')
      return bytes.length
    }
    const head = this.#head.slice(0, end)
    this.#head = ''
    if (!/^HTTP\/1\.1 200 /.test(head)) this.#fail(`status ${head.slice(9, 12)}`)
    else if (!/^transfer-encoding: *chunked$/im.test(head)) this.#fail('body is not chunked')
    else this.#state = 'size'
    return at + end + headEnd.length - before
  }

  #readData(bytes: Buffer, at: number): number {
    const to = Math.min(bytes.length, at + this.#left)
    this.#sink.onBody(bytes, at, to)
    this.#left -= to - at
    if (this.#left === 0) this.#state = 'after data'
    return to
  }

  #readLine(bytes: Buffer, at: number): number {
    const lf = bytes.indexOf(LF, at)
    const to = lf < 0 ? bytes.length : lf + 1
    this.#line += bytes.toString('latin1', at, to)
    if (lf < 0) return to
    const line = this.#line.trim()
    this.#line = ''
    if (this.#state === 'after data') {
      if (line === '') this.#state = 'size'
      else this.#fail('broken chunk')
    } else if (this.#state === 'trailer') {
      if (line === '') this.#end()
    } else {
      this.#left = /^[\da-f]{1,8}(;|$)/i.test(line) ? Number.parseInt(line, 16) : -1
      if (this.#left < 0) this.#fail('broken chunk size')
      else this.#state = this.#left === 0 ? 'trailer' : 'data'
    }
    return to
  }

  #end(): void {
    this.#state = 'head'
    this.#sink.onEnd()
  }

  #fail(reason: string): void {
    this.#state = 'failed'
    this.#sink.onFault(reason)
  }
}
