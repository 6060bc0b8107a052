import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { principalName } from '../access/keyring.ts'
import type { Tickets } from '../access/tickets.ts'
import type { Caller } from '../core/caller.ts'
import { SluiceError } from '../core/errors.ts'
import { streamIdPattern } from '../core/position.ts'
import { check } from '../core/request.ts'
import type { Streams } from '../run/streams.ts'
import { takeBody } from './body.ts'

export const ticketBody = z.strictObject({
  principal: principalName.optional(),
  preset: z.string().min(1).max(64).optional(),
  stream: z.string().regex(streamIdPattern, 'is no stream id').optional(),
  ttl_ms: z.int().min(1).optional(),
})

export interface TicketRoutesOptions {
  /** Without it, none are made. */
  readonly tickets: Tickets | undefined
  /** The longest that a ticket may wait for its first use, in milliseconds. */
  readonly ttl_ms: number
}

/** `/tickets`: what a page may have in a URL, where its key may not be. */
export function ticketRoutes(app: FastifyInstance, streams: Streams, { tickets, ttl_ms }: TicketRoutesOptions): void {
  const body = ticketBody.extend({ ttl_ms: z.int().min(1).max(ttl_ms).default(ttl_ms) })

  app.post('/tickets', async (request, reply) => {
    if (!tickets) throw new SluiceError('tickets_off')
    const { caller } = request
    const { principal = caller.principal, preset, stream, ttl_ms } = check(body, takeBody(request))
    if (principal !== caller.principal && !caller.speaksForOthers) {
      const message = 'principal: only a key with tickets_for_others has tickets made for others.'
      throw new SluiceError('not_permitted', { message })
    }
    const presets = presetsOf(caller, preset)
    if (stream !== undefined && !(await streams.find(stream, principal))) throw new SluiceError('stream_not_found')
    // His own limits are nobody else's.
    const limits = principal === caller.principal ? caller.limits : undefined
    const bearer = { principal, key: caller.key, presets, stream, limits }
    // Else a token that is about to be over, or was stolen, would be good for longer by it.
    const { ticket, expiresAt } = tickets.issue(bearer, ttl_ms, caller.until)
    const expires_at = new Date(expiresAt).toISOString()
    return reply.code(201).header('cache-control', 'no-store').send({ ticket, expires_at })
  })
}

/** A ticket allows nothing that its maker is not allowed. */
function presetsOf({ presets }: Caller, preset: string | undefined): readonly string[] | undefined {
  if (preset === undefined) return presets
  if (presets && !presets.includes(preset)) {
    throw new SluiceError('not_permitted', { message: 'preset: is none of those that you may name.' })
  }
  return [preset]
}
