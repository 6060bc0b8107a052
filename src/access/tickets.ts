import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import type { Caller } from '../core/caller.ts'
import { randomText } from '../core/random.ts'

/** Settings of `access.tickets`. */
export const ticketSettings = z.strictObject({
  ttl_ms: z.int().min(1_000).max(600_000).default(60_000),
  secret: z
    .string()
    .regex(/^[\x21-\x7e]{32,256}$/, 'must be 32 to 256 visible ASCII characters, e.g. what openssl rand -hex 32 prints')
    .optional(),
})

/** What a ticket says; its bearer can read it. */
export interface Ticket extends Pick<Caller, 'principal' | 'key' | 'presets' | 'stream' | 'limits'> {
  readonly id: string
  /** Its first use has to come before; in milliseconds since 1970. */
  readonly expiresAt: number
}

const form = /^slt_([\w-]{1,6000})\.([\w-]{43})$/

/** Writes tickets and knows them again: their text holds all there is, signed, so that any replica can read it. */
export class Tickets {
  readonly #key: Buffer
  readonly #now: () => number

  /** @param now in milliseconds since 1970 */
  constructor(secret: Buffer, now = Date.now) {
    this.#key = derive(secret, 'tickets')
    this.#now = now
  }

  /** @param until when it is over at the latest, in milliseconds since 1970 */
  issue(
    bearer: Omit<Ticket, 'id' | 'expiresAt'>,
    ttlMs: number,
    until = Number.POSITIVE_INFINITY,
  ): { ticket: string; expiresAt: number } {
    const ticket: Ticket = { ...bearer, id: randomText(16), expiresAt: Math.min(this.#now() + ttlMs, until) }
    const payload = Buffer.from(JSON.stringify(ticket)).toString('base64url')
    return { ticket: `slt_${payload}.${this.#sign(payload).toString('base64url')}`, expiresAt: ticket.expiresAt }
  }

  /** Also one that is over, as that is a question of what it is used for. */
  read(text: string): Ticket | undefined {
    const [, payload = '', signature = ''] = form.exec(text) ?? []
    if (payload === '' || !timingSafeEqual(Buffer.from(signature, 'base64url'), this.#sign(payload))) return undefined
    return JSON.parse(Buffer.from(payload, 'base64url').toString()) as Ticket
  }

  isOver({ expiresAt }: Ticket): boolean {
    return this.#now() >= expiresAt
  }

  #sign(payload: string): Buffer {
    return createHmac('sha256', this.#key).update(payload).digest()
  }
}

/** The secret of this process alone, or the one that all replicas are given. */
export function ticketSecret(shared: string | undefined): Buffer {
  return shared === undefined ? randomBytes(32) : Buffer.from(shared)
}

/** One secret for each purpose, so that nothing made for one is good for another. */
export function derive(secret: Buffer, purpose: 'tickets' | 'keys'): Buffer {
  return createHmac('sha256', secret).update(`sluice ${purpose}`).digest()
}
