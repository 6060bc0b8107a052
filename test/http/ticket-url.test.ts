import type { IncomingMessage } from 'node:http'
import { expect, it } from 'vitest'
import { takeTicket, ticketOf } from '../../src/http/ticket-url.ts'

it.each<[string, string, string?]>([
  ['/stream', '/stream'],
  ['/stream?prompt=hi', '/stream?prompt=hi'],
  ['/stream?ticket=t', '/stream', 't'],
  ['/stream?prompt=hi&ticket=t&model=m', '/stream?prompt=hi&model=m', 't'],
  ['/stream?ticket=', '/stream', ''],
  ['/stream?ticket=t&prompt=a?b=c', '/stream?prompt=a?b=c', 't'],
  ['/stream?ticket=a&ticket=b', '/stream', ''],
  ['/stream?myticket=t&prompt=ticket=x', '/stream?myticket=t&prompt=ticket=x'],
  ['/ticket=t', '/ticket=t'],
])('a ticket is taken out of %s and nothing else is', (url, rest, ticket) => {
  const request = { url } as IncomingMessage
  expect([takeTicket(request), ticketOf(request)]).toEqual([rest, ticket])
})
