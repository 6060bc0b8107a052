import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Guesses } from '../access/guesses.ts'
import { SluiceError } from '../core/errors.ts'
import { snapshot } from '../core/message.ts'
import type { StreamLog } from '../core/ports.ts'
import { newStreamId, parsePosition } from '../core/position.ts'
import type { DisconnectPolicy } from '../core/request.ts'
import type { Begun, Streams } from '../run/streams.ts'
import { mayRead } from './access.ts'
import type { Attacher, View } from './attach.ts'
import { takeBody } from './body.ts'
import { headerOf, keyOf } from './headers.ts'
import type { Intake } from './intake.ts'
import { checkPosition, requestedPosition } from './position.ts'
import { chosenBy, streamReader, viewOf } from './view.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Streams that were asked for and are not there. */
    misses: Guesses
  }
}

export interface StreamRoutesOptions {
  readonly on_disconnect: DisconnectPolicy
}

/** `/stream` and `/streams/:id`: the routes of Sluice's own formats. */
export function streamRoutes(
  app: FastifyInstance,
  streams: Streams,
  intake: Intake,
  attacher: Attacher,
  options: StreamRoutesOptions,
): void {
  app.decorate('misses', new Guesses(() => {}, undefined, maxMisses))

  app.get('/stream', takingTickets, async (request, reply) => {
    const lastEventId = headerOf(request, 'last-event-id')
    if (lastEventId !== undefined) {
      const position = parsePosition(lastEventId)
      if (!position) throw new SluiceError('invalid_position')
      const { format, smooth, preset } = request.query as Record<string, unknown>
      const delivery = intake.deliveryOf(request, typeof preset === 'string' ? preset : undefined)
      const view = viewOf(chosenBy(streamReader.attachment({ format, smooth }), delivery))
      return resume(request, reply, position.stream, view, () => position.n)
    }
    const { message, options: chosen } = streamReader.fromQuery(request.query)
    const permitted = intake.permit(request, { message, preset: chosen.preset })
    const { delivery } = permitted
    const view = viewOf(chosenBy(chosen, delivery))
    const { id, isThere } = await streamOfTicket(request)
    if (id !== undefined && isThere) return resume(request, reply, id, view, () => undefined)
    const { progress } = chosen
    const onDisconnect = delivery.on_disconnect ?? options.on_disconnect
    const wanted = { id, permitted, progress, onDisconnect }
    const { log, run } = await beginning(request, id, intake.begin(request, reply, wanted))
    // The headers name the stream: it should be there by then.
    await run?.logged
    // EventSource takes any status but 200 as final, so what happens from here on is told in the stream.
    return attacher.attach(request, reply, log, view)
  })

  app.post('/stream', streamPost(intake, attacher, options))

  app.get<{ Params: { id: string } }>('/streams/:id', takingTickets, async (request, reply) => {
    const { id } = request.params
    const { after, ...chosen } = streamReader.attachment(request.query)
    if (wantsJson(request))
      return reply.header('cache-control', 'no-store').send(await describe(await knownStream(streams, request, id)))
    const position = () => requestedPosition(headerOf(request, 'last-event-id'), after, id)
    return resume(request, reply, id, viewOf(chosen), position)
  })

  app.delete<{ Params: { id: string } }>('/streams/:id', async (request) => {
    const log = await knownStream(streams, request, request.params.id)
    await log.stop()
    return { id: log.id, status: (await log.terminal())?.type ?? 'running' }
  })

  /** Attaches to a stream that exists; nothing is ever generated anew for a client that has been here before. */
  async function resume(
    request: FastifyRequest,
    reply: FastifyReply,
    id: string,
    chosen: View,
    position: () => number | undefined,
  ) {
    try {
      const log = await knownStream(streams, request, id)
      const view = { ...chosen, after: position() }
      if (view.after && (await checkPosition(log, view)) === 'at end') return reply.code(204).send()
      return attacher.attach(request, reply, log, view)
    } catch (error) {
      const away =
        error instanceof SluiceError && (error.code === 'store_unavailable' || isOnItsWay(request, id, error))
      // An error would be the last that an EventSource hears; so it is let come back until somebody can tell.
      if (!away || !attacher.sendBack(request, reply, chosen.format)) throw error
    }
  }
}

/** For `EventSource`, which can send no headers. */
export const takingTickets = { config: { tickets: true } } as const

/**
 * The stream of a request's ticket, which begins one and reads it ever after: `EventSource` comes back with the same URL,
 * and without a position when it was cut off before the first frame.
 */
async function streamOfTicket(request: FastifyRequest): Promise<{ id?: string; isThere?: boolean }> {
  const { caller, ticket } = request
  if (caller.stream !== undefined) return { id: caller.stream, isThere: true }
  if (!ticket) return {}
  // The two could mean different streams.
  if (keyOf(request) !== undefined)
    throw new SluiceError('invalid_request', { message: 'key: a ticket stands in its place' })
  const own = newStreamId()
  const id = await ticket.bind(own)
  // Another request with it was first.
  if (id !== own) request.caller = { ...caller, stream: id }
  return { id, isThere: id !== own }
}

/** A ticket of which nothing came, as there was no room for its stream, can be used again. */
async function beginning({ ticket }: FastifyRequest, id: string | undefined, begun: Promise<Begun>): Promise<Begun> {
  try {
    return await begun
  } catch (refusal) {
    if (id !== undefined) await ticket?.free(id)
    throw refusal
  }
}

/** Another request with the same ticket is about to begin it. */
function isOnItsWay({ caller, ticket }: FastifyRequest, id: string, { code }: SluiceError): boolean {
  return code === 'stream_not_found' && ticket?.isYoung === true && caller.stream === id
}

/** So many streams that are not there, or not his, may be asked for from one address in a minute. */
const maxMisses = 300

/** @throws SluiceError `stream_not_found`, for those of others too; `too_many_unknown_streams` */
export async function knownStream(streams: Streams, request: FastifyRequest, id: string): Promise<StreamLog> {
  const log = await streams.find(id, request.caller.principal)
  if (log && (await mayRead(request, id))) return log
  const retryAfterMs = request.server.misses.add(request.ip)
  throw new SluiceError(retryAfterMs === undefined ? 'stream_not_found' : 'too_many_unknown_streams', { retryAfterMs })
}

/** The handler of a POST that starts a stream, which `/api/chat` shares. */
export function streamPost(intake: Intake, attacher: Attacher, options: StreamRoutesOptions) {
  return async function post(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const { message, options: chosen } = streamReader.fromBody(takeBody(request))
    const permitted = intake.permit(request, { message, preset: chosen.preset })
    const { delivery } = permitted
    const { format, smooth } = chosenBy(chosen, delivery)
    const view = viewOf({ format, smooth })
    const detached = wantsJson(request)
    const usual = detached ? 'finish' : (delivery.on_disconnect ?? options.on_disconnect)
    const { progress, on_disconnect: onDisconnect = usual } = chosen
    const begun = await intake.begin(request, reply, { permitted, onDisconnect, progress })
    if (!detached) return attacher.attachWhenOpen(request, reply, begun, view)
    const failure = await attacher.opened(begun, reply)
    if (failure) throw failure
    const { id } = begun.log
    const url = `/streams/${id}`
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

function wantsJson(request: FastifyRequest): boolean {
  const accept = request.headers.accept ?? ''
  return accept.includes('application/json') && !accept.includes('text/event-stream')
}
