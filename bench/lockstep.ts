import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type Score, scoreFor } from './score.ts'

interface Stream {
  readonly response: ServerResponse
  readonly score: Score
  readonly perWrite: number
  left: number
}

/**
 * An upstream that goes on when it is told to. Told so when the client has all that was sent, it makes sure that each of
 * its writes is one read of the server between them, however fast or busy the machine: what the server does can then be
 * counted. It keeps to `text`, `bytes` and `per_write` in the model name, which also tells streams apart: no two at a time
 * have the same.
 */
export class Lockstep {
  readonly #server: Server
  readonly #streams = new Map<string, Stream>()

  constructor() {
    this.#server = createServer({ noDelay: true }, (incoming, response) => {
      text(incoming).then(
        (body) => this.#begin(JSON.parse(body).model, response),
        () => response.destroy(),
      )
    })
  }

  async listen(): Promise<number> {
    this.#server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 })
    await once(this.#server, 'listening')
    return (this.#server.address() as AddressInfo).port
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  /** Sends the next deltas of a stream, or its end when it has had them all. */
  advance(model: string): void {
    const stream = this.#streams.get(model)
    if (!stream) return
    if (stream.left > 0) {
      send(stream, '')
      return
    }
    this.#streams.delete(model)
    stream.response.socket?.write(stream.score.end, 'latin1')
    stream.response.end()
  }

  #begin(model: string, response: ServerResponse): void {
    const score = scoreFor(model)
    const perWrite = Number(/per_write=(\d+)/.exec(model)?.[1] ?? 1)
    const stream = { response, score, perWrite, left: score.deltas }
    this.#streams.set(model, stream)
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
    response.flushHeaders()
    send(stream, score.start)
  }
}

function send(stream: Stream, before: string): void {
  const { response, score, perWrite } = stream
  const count = Math.min(perWrite, stream.left)
  stream.left -= count
  response.socket?.write(before + score.delta().repeat(count), 'latin1')
}
