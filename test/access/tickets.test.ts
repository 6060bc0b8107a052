import { describe, expect, it } from 'vitest'
import { Tickets, ticketSecret } from '../../src/access/tickets.ts'

const secret = ticketSecret('x'.repeat(32))
const alice = { principal: 'alice', key: 'k', presets: ['short'], stream: undefined, limits: { usd_per_day: 1 } }

describe('a ticket', () => {
  it('says what it was made with, to whoever has the same secret', () => {
    const { ticket, expiresAt } = new Tickets(secret, () => 1_000).issue(alice, 500)
    expect([ticket, expiresAt]).toEqual([expect.stringMatching(/^slt_[\w-]+\.[\w-]{43}$/), 1_500])
    const read = new Tickets(ticketSecret('x'.repeat(32))).read(ticket)
    expect(read).toMatchObject({ principal: 'alice', presets: ['short'], limits: { usd_per_day: 1 }, expiresAt: 1_500 })
    expect(new Tickets(ticketSecret('y'.repeat(32))).read(ticket)).toBeUndefined()
    expect(new Tickets(ticketSecret(undefined)).read(ticket)).toBeUndefined()
  })

  it('is none any more with any of its characters changed, added or left out', () => {
    const tickets = new Tickets(secret)
    const { ticket } = tickets.issue(alice, 500)
    const id = tickets.read(ticket)?.id
    for (let at = 0; at < ticket.length; at++) {
      const [before, after] = [ticket.slice(0, at), ticket.slice(at + 1)]
      for (const changed of [
        before + after,
        `${before}A${after}`,
        `${before}.${after}`,
        `${before}A${ticket.slice(at)}`,
      ]) {
        const read = changed === ticket ? undefined : tickets.read(changed)
        // The last character has two bits that say nothing: it is the same ticket, and used with it.
        if (read) expect([at, read.id]).toEqual([ticket.length - 1, id])
      }
    }
  })

  it.each([
    '',
    'slt_',
    'slt_.',
    'slt_e30.',
    `slt_e30.${'A'.repeat(43)}`,
    `slt_${'A'.repeat(100_000)}.${'A'.repeat(43)}`,
    'é',
  ])('is not made of %j', (text) => {
    expect(new Tickets(secret).read(text)).toBeUndefined()
  })

  it('is over at its time', () => {
    let now = 0
    const tickets = new Tickets(secret, () => now)
    const ticket = tickets.read(tickets.issue(alice, 500).ticket)
    if (!ticket) throw new Error('no ticket')
    now = 499
    expect(tickets.isOver(ticket)).toBe(false)
    now = 500
    expect(tickets.isOver(ticket)).toBe(true)
  })
})
