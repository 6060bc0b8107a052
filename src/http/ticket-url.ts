import type { IncomingMessage } from 'node:http'

const parameter = 'ticket='

/** Of requests whose URL held one. */
const taken = new WeakMap<IncomingMessage, string>()

/**
 * Takes the ticket out of a request's URL before anything else sees it: whatever is made of the URL from then on, be it
 * logged, told in an error or sent to Claude, holds none.
 * @returns the URL without it
 */
export function takeTicket(request: IncomingMessage): string {
  const { url = '' } = request
  if (!url.includes(parameter)) return url
  const [path = '', ...queries] = url.split('?')
  const all = queries.join('?').split('&')
  const tickets = all.filter((each) => each.startsWith(parameter))
  const rest = all.filter((each) => !each.startsWith(parameter)).join('&')
  if (tickets[0] === undefined) return url
  // Several are none.
  taken.set(request, tickets.length > 1 ? '' : tickets[0].slice(parameter.length))
  return rest === '' ? path : `${path}?${rest}`
}

/** What stood there. */
export function ticketOf(request: IncomingMessage): string | undefined {
  return taken.get(request)
}
