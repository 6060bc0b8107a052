import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { type Score, scoreFor } from './score.ts'

/**
 * The upstream of paced loads: thousands of streams, each delta a write of its own, at a rate that does not drift. The
 * simulated Claude can do far more, but a paced frame takes it longer: on the one processor that is left for the load,
 * it and the client would be at their end before the targets are.
 */
interface Stream {
  readonly response: ServerResponse
  readonly socket: Socket
  readonly score: Score
  due: number
  left: number
}

/** Who is to be served in which millisecond. */
const slots = new Map<number, Stream[]>()
let served = Math.floor(performance.now())
let begun = 0
let open = 0

/** Spreads the streams over the time between two deltas, however they come: a burst would be a load of its own. */
const goldenRatio = (Math.sqrt(5) - 1) / 2

function schedule(stream: Stream): void {
  const slot = slots.get(stream.due)
  if (slot) slot.push(stream)
  else slots.set(stream.due, [stream])
}

function tick(): void {
  const now = Math.floor(performance.now())
  while (served < now) {
    const due = slots.get(++served)
    slots.delete(served)
    for (const stream of due ?? []) serve(stream, now)
  }
}

function serve(stream: Stream, now: number): void {
  const { response, socket, score } = stream
  if (socket.destroyed) return
  if (stream.left === 0) {
    socket.write(score.end, 'latin1')
    response.end()
    return
  }
  // Who does not take what was sent gets no more for now, as no API holds answers for slow readers.
  if (!socket.writableNeedDrain) {
    socket.write(score.delta(), 'latin1')
    stream.left--
  }
  // When this process is late, it keeps to the score, but does not make up for more than one missed delta.
  stream.due = Math.max(stream.due + score.delayMs, now + 1)
  schedule(stream)
}

async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  if (incoming.method === 'GET') return void response.end(JSON.stringify({ open }))
  const { model } = JSON.parse(await text(incoming)) as { model: string }
  const score = scoreFor(model)
  const { socket } = response
  if (!socket) return
  open++
  response.on('close', () => open--)
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' })
  response.flushHeaders()
  socket.write(score.start, 'latin1')
  const wait = Math.ceil(score.delayMs * ((++begun * goldenRatio) % 1)) + 1
  schedule({ response, socket, score, due: served + wait, left: score.deltas })
}

setInterval(tick, 1)
createServer((incoming, response) => {
  answer(incoming, response).catch(() => response.destroy())
}).listen({ port: Number(process.env['PORT']), host: '127.0.0.1', backlog: 4096 })
