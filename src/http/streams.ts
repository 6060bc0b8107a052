import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '../core/errors.ts'
import type { Format } from '../core/format.ts'
import { snapshot } from '../core/message.ts'
import type { StreamLog } from '../core/ports.ts'
import { parsePosition } from '../core/position.ts'
import { type Defaults, type DisconnectPolicy, requestReader, type StreamOptions } from '../core/request.ts'
import { type FormatName, formats } from '../formats/registry.ts'
import type { Streams } from '../run/streams.ts'
import type { Attacher, View } from './attach.ts'
import { takeBody } from './body.ts'
import { headerOf, keyOf } from './headers.ts'
import { checkPosition, requestedPosition } from './position.ts'

export interface StreamRoutesOptions extends Defaults {
  readonly on_disconnect: DisconnectPolicy
}

/** `/stream` and `/streams/:id`: the routes of Sluice's own formats. */
export function streamRoutes(
  app: FastifyInstance,
  streams: Streams,
  attacher: Attacher,
  options: StreamRoutesOptions,
): void {
  const read = requestReader(Object.keys(formats), options)

  app.get('/stream', async (request, reply) => {
    const lastEventId = headerOf(request, 'last-event-id')
    if (lastEventId !== undefined) {
      const position = parsePosition(lastEventId)
      if (!position) throw new SluiceError('invalid_position')
      const { format, smooth } = request.query as Record<string, unknown>
      return resume(request, reply, position.stream, viewOf(read.attachment({ format, smooth })), () => position.n)
    }
    const { message, options: chosen } = read.fromQuery(request.query)
    const view = viewOf(chosen)
    const { progress } = chosen
    const key = keyOf(request)
    const asked = { request: message, principal: request.caller.principal, key, requestId: request.id, progress }
    const { log, run } = await streams.begin({ ...asked, onDisconnect: options.on_disconnect })
    // The headers name the stream: it should be there by then.
    await run?.logged
    // EventSource takes any status but 200 as final, so what happens from here on is told in the stream.
    return attacher.attach(request, reply, log, view)
  })

  app.post('/stream', streamPost(streams, attacher, options))

  app.get<{ Params: { id: string } }>('/streams/:id', async (request, reply) => {
    const { id } = request.params
    const { after, ...chosen } = read.attachment(request.query)
    if (wantsJson(request))
      return reply.header('cache-control', 'no-store').send(await describe(await known(request, id)))
    const position = () => requestedPosition(headerOf(request, 'last-event-id'), after, id)
    return resume(request, reply, id, viewOf(chosen), position)
  })

  app.delete<{ Params: { id: string } }>('/streams/:id', async (request) => {
    const log = await known(request, request.params.id)
    await log.stop()
    return { id: log.id, status: (await log.terminal())?.type ?? 'running' }
  })

  async function known({ caller }: FastifyRequest, id: string): Promise<StreamLog> {
    const log = await streams.find(id, caller.principal)
    if (!log) throw new SluiceError('stream_not_found')
    return log
  }

  /** Attaches to a stream that exists; nothing is ever generated anew for a client that has been here before. */
  async function resume(
    request: FastifyRequest,
    reply: FastifyReply,
    id: string,
    chosen: View,
    position: () => number | undefined,
  ) {
    try {
      const log = await known(request, id)
      const view = { ...chosen, after: position() }
      if (view.after && (await checkPosition(log, view)) === 'at end') return reply.code(204).send()
      return attacher.attach(request, reply, log, view)
    } catch (error) {
      const away = error instanceof SluiceError && error.code === 'store_unavailable'
      // An error would be the last that an EventSource hears; so it is let come back until somebody can tell.
      if (!away || !attacher.sendBack(request, reply, chosen.format)) throw error
    }
  }
}

/** The handler of a POST that starts a stream, which `/api/chat` shares. */
export function streamPost(streams: Streams, attacher: Attacher, options: StreamRoutesOptions) {
  const read = requestReader(Object.keys(formats), options)

  return async function post(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const { message, options: chosen } = read.fromBody(takeBody(request))
    const view = viewOf(chosen)
    const detached = wantsJson(request)
    const onDisconnect = chosen.on_disconnect ?? (detached ? 'finish' : options.on_disconnect)
    const begun = await streams.begin({
      request: message,
      onDisconnect,
      progress: chosen.progress,
      principal: request.caller.principal,
      key: keyOf(request),
      requestId: request.id,
    })
    if (!detached) return attacher.attachWhenOpen(request, reply, begun, view)
    const failure = await attacher.opened(begun, reply)
    if (failure) throw failure
    const { id } = begun.log
    const url = `/streams/${id}`
    const { format, smooth } = chosen
    const query = new URLSearchParams({ ...(format && { format }), ...(smooth && { smooth }) })
    const events_url = query.size > 0 ? `${url}?${query}` : url
    return reply.code(201).headers({ location: url, 'x-stream-id': id }).send({ id, url, events_url })
  }
}

async function describe(log: StreamLog) {
  const { message, terminal } = snapshot(await log.history())
  const { type, ...facts } = terminal ?? { type: 'running', usage: message?.usage ?? null }
  return { id: log.id, status: type, created_at: log.createdAt.toISOString(), message, ...facts }
}

/** @throws SluiceError `invalid_request` when the format's text is not for people to read */
function viewOf({ format = 'json', smooth }: Pick<StreamOptions, 'format' | 'smooth'>): View {
  const named: Format = formats[format as FormatName]
  if (smooth && !named.smoothable) {
    const smoothable = Object.values<Format>(formats).filter((each) => each.smoothable)
    const names = smoothable.map(({ name }) => name).join(', ')
    throw new SluiceError('invalid_request', { message: `smooth: works with the formats ${names}` })
  }
  return { format: named, smooth }
}

function wantsJson(request: FastifyRequest): boolean {
  const accept = request.headers.accept ?? ''
  return accept.includes('application/json') && !accept.includes('text/event-stream')
}
