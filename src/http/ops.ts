import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { SluiceError } from '../core/errors.ts'
import type { Bucket } from '../core/history.ts'
import type { OpsFrame, OpsNow } from '../core/ops.ts'
import { Frames } from '../core/sse.ts'
import { eventStreamHeaders } from './headers.ts'
import type { Operators } from './operators.ts'

/** How things stand, and what has been added to the hour in its last minute. */
export interface OpsLook {
  readonly now: OpsNow
  readonly later: readonly Bucket[]
}

export interface OpsSource {
  hour(): Promise<readonly Bucket[]>
  look(): Promise<OpsLook>
  /** @returns false when no such stream is under way */
  stop(id: string): Promise<boolean>
}

/** How often watchers hear how things stand, in milliseconds. */
const everyMs = 2_000
const maxWatchers = 16
/** A watcher that has so much to take yet is let go, in characters: it comes back, and gets all anew. */
const maxLag = 1_048_576

/** For whoever operates this server: a look at what it does, and a way to stop a stream of anybody's. */
export function opsRoutes(app: FastifyInstance, operators: Operators, source: OpsSource): void {
  /** Until when each has been told of the hour. */
  const watchers = new Map<Readable, number>()
  let timer: NodeJS.Timeout | undefined
  let closing = false

  app.get('/ops/events', { config: { open: true } }, async (request, reply) => {
    operators.admit(request)
    const [buckets, { now }] = await Promise.all([source.hour(), source.look()])
    if (watchers.size >= maxWatchers) throw new SluiceError('too_many_streams', { retryAfterMs: 5_000 })
    const watcher = new Readable({ read() {}, encoding: 'utf8' })
    watchers.set(watcher, buckets.at(-1)?.until ?? 0)
    watcher.once('close', () => leave(watcher))
    timer ??= setInterval(() => void tell(), everyMs).unref()
    watcher.push(written({ type: 'hour', buckets }, now))
    if (closing) watcher.push(null)
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
    closing = true
    for (const watcher of watchers.keys()) watcher.push(null)
  })

  async function tell(): Promise<void> {
    const { now, later } = await source.look()
    for (const [watcher, told] of watchers) {
      const buckets = later.filter(({ until }) => until > told)
      const last = buckets.at(-1)
      if (last) watchers.set(watcher, last.until)
      if (watcher.readableLength > maxLag) watcher.destroy()
      else watcher.push(written(...(last ? [{ type: 'later', buckets } as const] : []), now))
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
