import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Authenticator } from '../access/authenticator.ts'
import type { Guesses } from '../access/guesses.ts'
import type { Tickets } from '../access/tickets.ts'
import { anybody, type Caller } from '../core/caller.ts'
import { SluiceError } from '../core/errors.ts'
import type { SpentTickets } from '../core/ports.ts'
import { bearerTokenOf } from './headers.ts'
import { ticketOf } from './ticket-url.ts'

/** The ticket that a request came with. */
export interface TicketInUse {
  /** It may still be tied to a stream. */
  readonly isYoung: boolean
  /**
   * Ties it to a stream, unless it is tied to one.
   * @returns the one it is tied to
   */
  bind(stream: string): Promise<string>
  /** Nothing came of that stream. */
  free(stream: string): Promise<void>
}

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller
    ticket: TicketInUse | undefined
  }
  interface FastifyContextConfig {
    /** Asks nobody for a key. */
    open?: boolean
    /** Takes a ticket in the place of a key. */
    tickets?: boolean
  }
}

export interface Access {
  readonly authenticator: Authenticator
  readonly guesses: Guesses
  /** Without it there are none. */
  readonly tickets: Tickets | undefined
  readonly spent: SpentTickets
  /** How long a stream can be read, from the first use of a ticket on, in milliseconds. */
  readonly streamMs: number
}

/**
 * Says of every request who sends it, before anything else is made of it, and refuses those without a valid key where
 * keys are asked for: on every route that does not say otherwise, and where there is none. To be called before the
 * routes are there.
 */
export function identifyCallers(app: FastifyInstance, access: Access | undefined): void {
  app.decorateRequest('caller')
  app.decorateRequest('ticket', undefined)
  app.addHook('onRequest', (request, _reply, done) => {
    function letIn(caller: Caller): void {
      request.caller = caller
      done()
    }
    const isOpen = access === undefined || request.routeOptions.config?.open === true
    try {
      const caller = isOpen ? anybody : callerOf(request, access)
      if (caller instanceof Promise) caller.then(letIn, done)
      else letIn(caller)
    } catch (refusal) {
      done(refusal as SluiceError)
    }
  })
}

/**
 * Whether a caller may read a stream that is his principal's. A ticket that was not used before is tied to it by that.
 */
export async function mayRead({ caller, ticket }: FastifyRequest, stream: string): Promise<boolean> {
  if (caller.stream !== undefined && caller.stream !== stream) return false
  return ticket === undefined || (await ticket.bind(stream)) === stream
}

/**
 * A valid key is taken however many wrong ones have come from its address: many may share it, behind a proxy all do, and
 * one of them could lock the others out. What is random cannot be guessed anyway; it is the noise that is bounded.
 * @throws SluiceError `unauthorized`, `token_invalid`, `token_expired`, `ticket_invalid`, `too_many_wrong_keys`
 */
function callerOf(request: FastifyRequest, access: Access): Caller | Promise<Caller> {
  const ticket = request.routeOptions.config?.tickets ? ticketOf(request.raw) : undefined
  if (ticket !== undefined) return bearerOf(ticket, request, access)
  const keys = keysOf(request)
  if (keys.length === 0) throw new SluiceError('unauthorized')
  return holderOf(keys, request, access)
}

/** Of the first of these keys that is valid. */
function holderOf([key, ...others]: string[], request: FastifyRequest, access: Access): Caller | Promise<Caller> {
  const { authenticator } = access
  if (key === undefined) throw refusalOf(authenticator.refusal, request, access)
  const found = authenticator.find(key)
  if (found instanceof Promise) return found.then((caller) => caller ?? holderOf(others, request, access))
  return found ?? holderOf(others, request, access)
}

/** A ticket that is over is good for the stream that it was used for in its time, as `EventSource` comes back with it. */
async function bearerOf(text: string, request: FastifyRequest, access: Access): Promise<Caller> {
  const { authenticator, tickets, spent, streamMs } = access
  if (!tickets) throw new SluiceError('tickets_off')
  const ticket = tickets.read(text)
  if (!ticket) throw refusalOf('ticket_invalid', request, access)
  if (!authenticator.accepts(ticket)) throw new SluiceError('ticket_invalid')
  const { id, principal, key, presets, limits, expiresAt } = ticket
  const isYoung = !tickets.isOver(ticket)
  const used = await spent.find(id)
  if (used === undefined && !isYoung) throw new SluiceError('ticket_invalid')
  request.ticket = {
    isYoung,
    bind: async (stream) => used ?? spent.bind(id, stream, expiresAt + streamMs),
    free: (stream) => spent.free(id, stream),
  }
  return { principal, key, presets, limits, stream: ticket.stream ?? used }
}

function refusalOf(
  code: 'unauthorized' | 'token_invalid' | 'ticket_invalid',
  request: FastifyRequest,
  { guesses }: Access,
): SluiceError {
  const retryAfterMs = guesses.add(request.ip)
  return new SluiceError(retryAfterMs === undefined ? code : 'too_many_wrong_keys', { retryAfterMs })
}

/** From where the SDKs of OpenAI and of Anthropic put theirs. A proxy may have put its own in one of the two. */
function keysOf(request: FastifyRequest): string[] {
  return [bearerTokenOf(request), request.headers['x-api-key']].filter(
    (key) => typeof key === 'string' && key !== '',
  ) as string[]
}
