/** Where a stream can be started, and where it can be read and stopped once it is there. */
export interface Address {
  readonly start: string
  of(id: string): string
}

/**
 * Takes apart the URL of `POST /stream` or `POST /api/chat`, whatever stands before it.
 * @param url relative to the page where there is one
 * @throws TypeError when it is neither
 */
export function addressOf(url: string | URL): Address {
  const here = (globalThis as { location?: { href: string } }).location?.href
  const start = new URL(url, here)
  const prefix = /^(.*)\/(?:stream|api\/chat)\/?$/.exec(start.pathname)?.[1]
  if (prefix === undefined) throw new TypeError(`The URL of Sluice must end in /stream or /api/chat: ${start.pathname}`)
  return {
    start: start.href,
    of: (id) => new URL(`${prefix}/streams/${encodeURIComponent(id)}`, start).href,
  }
}
