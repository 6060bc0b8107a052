import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { SluiceError } from '../core/errors.ts'
import { check } from '../core/request.ts'
import type { SelfTestFrame, SelfTestState } from '../core/self-test.ts'
import { Frames } from '../core/sse.ts'
import { nameOf } from '../run/names.ts'
import { eventStreamHeaders } from './headers.ts'

/** At one time. One costs a socket and a timer, and nobody needs more than a handful. */
const maxOpen = 32
/** How many are remembered after their end. */
const maxKept = 256

const selfTestId = z.string().regex(/^[\w-]{8,64}$/, 'must be 8 to 64 letters, digits, dashes and underscores')
const count = (least: number, most: number, standard: number) =>
  z.coerce.number().int().min(least).max(most).default(standard)

export const selfTestQuery = z.strictObject({
  /** Chosen by whoever asks, to ask later how the stream ended. */
  id: selfTestId,
  frames: count(1, 200, 20),
  interval_ms: count(5, 5_000, 100),
  /** Silence before the last frame, without heartbeats. */
  idle_ms: count(0, 180_000, 0),
  /** Leave out what asks proxies not to buffer: shows those that obey it. */
  bare: z.enum(['true', 'false']).optional(),
})

/** Request headers that streams need, and that something on the way may have taken away. */
const watched = ['accept', 'last-event-id', 'idempotency-key', 'origin', 'x-request-id'] as const

/**
 * `/self-test`: a stream of this server's own making, which costs no tokens, to find out what lies between a client and
 * here. The clients of it are `sluice doctor` and a page.
 */
export function selfTestRoutes(app: FastifyInstance, heartbeatMs: number): void {
  const ends = new Map<string, SelfTestState>()
  let open = 0

  app.get('/self-test', (request, reply) => {
    const { id, frames, interval_ms, idle_ms, bare } = check(selfTestQuery, request.query)
    if (open >= maxOpen) throw new SluiceError('too_many_streams', { retryAfterMs: 1_000 })
    open++
    const name = nameOf(request.caller.principal, id)
    remember(name, { state: 'open' })
    const leaving = new AbortController()
    const { raw } = reply
    raw.once('close', () => {
      open--
      leaving.abort()
      remember(name, { state: raw.writableFinished ? 'sent' : 'left' })
    })
    const { 'x-accel-buffering': accel, ...plain } = eventStreamHeaders
    reply.headers({ ...plain, ...(bare !== 'true' && { 'x-accel-buffering': accel }), 'x-stream-id': id })
    return reply.send(Readable.from(frameTexts(request, { id, frames, interval_ms, idle_ms }, leaving.signal)))
  })

  app.get<{ Params: { id: string } }>('/self-test/:id', (request, reply) => {
    const end = ends.get(nameOf(request.caller.principal, check(selfTestId, request.params.id)))
    if (!end) throw new SluiceError('stream_not_found')
    return reply.header('cache-control', 'no-store').send(end)
  })

  function remember(name: string, end: SelfTestState): void {
    ends.delete(name)
    ends.set(name, end)
    const [oldest] = ends.keys()
    if (ends.size > maxKept && oldest !== undefined) ends.delete(oldest)
  }

  async function* frameTexts(
    request: FastifyRequest,
    {
      id,
      frames: total,
      interval_ms,
      idle_ms,
    }: Pick<z.output<typeof selfTestQuery>, 'id' | 'frames' | 'interval_ms' | 'idle_ms'>,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    const startedAt = performance.now()
    const frames = new Frames(id)
    const write = (frame: SelfTestFrame) => {
      frames.data(JSON.stringify(frame))
      return frames.take()
    }
    try {
      yield write({ type: 'hello', heartbeat_ms: heartbeatMs, http: request.raw.httpVersion, seen: seenBy(request) })
      for (let n = 1; n <= total; n++) {
        await delay(n === total && idle_ms > 0 ? idle_ms : interval_ms, undefined, { signal })
        yield write({ type: 'tick', n, sent_ms: Math.round(performance.now() - startedAt) })
      }
      frames.end('with [DONE]')
      yield frames.take()
    } catch (error) {
      // Nobody is left to be told.
      if (!signal.aborted) throw error
    }
  }
}

function seenBy({ headers }: FastifyRequest): Record<string, string> {
  return Object.fromEntries(
    watched.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  )
}
