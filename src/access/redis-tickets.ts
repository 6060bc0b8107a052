import { createHash } from 'node:crypto'
import type { SpentTickets } from '../core/ports.ts'
import { ifThere, type Link, orUnavailable } from '../redis/link.ts'
import { script } from '../redis/script.ts'

export const ticketScripts = {
  /** `KEYS`: a ticket. `ARGV`: the stream that it may be tied to still. */
  freeTicket: script<null>(`if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`),
}

/** The used tickets of all replicas. */
export class RedisSpentTickets implements SpentTickets {
  readonly #link: Link<typeof ticketScripts>
  readonly #prefix: string

  /** @param prefix of all names in Redis */
  constructor(link: Link<typeof ticketScripts>, prefix: string) {
    this.#link = link
    this.#prefix = prefix
  }

  async bind(ticket: string, stream: string, untilMs: number): Promise<string> {
    const PX = Math.max(1, Math.ceil(untilMs - Date.now()))
    const tie = { NX: true, GET: true, PX } as const
    const earlier = await orUnavailable(this.#link.send((redis) => redis.set(this.#key(ticket), stream, tie)))
    return earlier ?? stream
  }

  async find(ticket: string): Promise<string | undefined> {
    return (await orUnavailable(this.#link.send((redis) => redis.get(this.#key(ticket))))) ?? undefined
  }

  /** Redis being away, it stays tied, and its holder needs another. */
  free(ticket: string, stream: string): Promise<void> {
    return ifThere(this.#link.send((redis) => redis.freeTicket([this.#key(ticket)], [stream])))
  }

  #key(ticket: string): string {
    return `${this.#prefix}:1:ticket:${createHash('sha256').update(ticket).digest('base64url')}`
  }
}
