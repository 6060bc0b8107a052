import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { SluiceError } from '../core/errors.ts'
import type { Bucket } from '../core/history.ts'
import type { OpsFrame, OpsNow } from '../core/ops.ts'
import { Frames } from '../core/sse.ts'
import { eventStreamHeaders } from './headers.ts'
import type { Operators } from './operators.ts'

export interface OpsSource {
  hour(): readonly Bucket[]
  now(): OpsNow
  /** @returns false when no such stream is under way here */
  stop(id: string): Promise<boolean>
}

/** How often watchers hear how things stand, in milliseconds. */
const everyMs = 2_000
const maxWatchers = 16
/** A watcher that has so much to take yet is let go, in characters: it comes back, and gets all anew. */
const maxLag = 1_048_576

/** For whoever operates this server: a look at what it does, and a way to stop a stream of anybody's. */
export function opsRoutes(app: FastifyInstance, operators: Operators, source: OpsSource): void {
  const watchers = new Set<Readable>()
  let timer: NodeJS.Timeout | undefined
  let told = 0

  app.get('/ops/events', { config: { open: true } }, (request, reply) => {
    operators.admit(request)
    if (watchers.size >= maxWatchers) throw new SluiceError('too_many_streams', { retryAfterMs: 5_000 })
    const watcher = new Readable({ read() {}, encoding: 'utf8' })
    watcher.once('close', () => leave(watcher))
    const hour = source.hour()
    // What has been said to the others has yet to be said to nobody else.
    if (watchers.size === 0) told = hour.at(-1)?.until ?? 0
    watchers.add(watcher)
    timer ??= setInterval(tell, everyMs).unref()
    watcher.push(written({ type: 'hour', buckets: hour.filter(({ until }) => until <= told) }, source.now()))
    return reply.headers(eventStreamHeaders).send(watcher)
  })

  app.delete<{ Params: { id: string } }>('/ops/streams/:id', { config: { open: true } }, async (request) => {
    operators.admit(request)
    const { id } = request.params
    if (!(await source.stop(id))) throw new SluiceError('stream_not_found')
    return { id, status: 'cancelled' }
  })

  // Fastify waits for open answers when it closes.
  app.addHook('preClose', async () => {
    for (const watcher of watchers) watcher.push(null)
  })

  function tell(): void {
    const buckets = source.hour().filter(({ until }) => until > told)
    told = buckets.at(-1)?.until ?? told
    const later: OpsFrame[] = buckets.length > 0 ? [{ type: 'later', buckets }] : []
    const text = written(...later, source.now())
    for (const watcher of watchers) {
      if (watcher.readableLength > maxLag) watcher.destroy()
      else watcher.push(text)
    }
  }

  /** Nothing is looked at while nobody looks. */
  function leave(watcher: Readable): void {
    watchers.delete(watcher)
    if (watchers.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
}

function written(...all: readonly OpsFrame[]): string {
  const frames = new Frames(undefined)
  for (const each of all) frames.data(JSON.stringify(each))
  return frames.take()
}
