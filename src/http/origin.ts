import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { SluiceError } from '../core/errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A page for people, which links on other sites may lead to. */
    page?: boolean
  }
}

/** Where requests may come from, and to which names. */
export interface Edges {
  readonly cors_origins: ReadonlySet<string>
  /** As `plainHost` writes them; empty for any. */
  readonly allowed_hosts: ReadonlySet<string>
}

/** A name or address as `Host` has it, but for the port: in lower case, IPv6 in brackets. */
export function plainHost(host: string): string {
  const text = host.toLowerCase()
  return isIPv6(text) ? `[${text}]` : text
}

/** @throws SluiceError when a request comes to a name, or from a page, that is not served */
export function checkEdges(request: FastifyRequest, { cors_origins, allowed_hosts }: Edges): void {
  const host = hostOf(request.raw)
  // DNS rebinding makes a browser send other sites' names to this address.
  const served = allowed_hosts.size === 0 || allowed_hosts.has(host.replace(/:\d{1,5}$/, ''))
  if (!served) throw new SluiceError('host_not_allowed')
  if (isForeign(request.headers, cors_origins, host) && !isVisit(request)) throw new SluiceError('origin_not_allowed')
}

/**
 * In lower case, with its port if it has one. `X-Forwarded-Host` counts for nothing.
 * @throws SluiceError when there are several: something on the way here may have gone by another one
 */
export function hostOf({ headers, rawHeaders, url = '' }: IncomingMessage): string {
  const { host, ':authority': authority } = headers as IncomingHttpHeaders & { ':authority'?: string }
  // HTTP/2 has the first, what was sent as to a proxy (GET http://…) the other.
  const other = authority ?? (url.startsWith('/') ? undefined : authorityOf(url))
  const isClear = (host === undefined || other === undefined || host === other) && !isRepeated('host', rawHeaders)
  if (!isClear) throw new SluiceError('invalid_request', { message: 'Host: must be given once' })
  return (other ?? host ?? '').toLowerCase()
}

function authorityOf(target: string): string | undefined {
  return /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target)?.[1]
}

/** @param rawHeaders names and values in turn; Node would quietly take the first */
function isRepeated(name: string, rawHeaders: readonly string[]): boolean {
  let count = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const each = rawHeaders[at] as string
    if (each.length === name.length && each.toLowerCase() === name) count++
  }
  return count > 1
}

/**
 * Without CORS permission a page cannot read an answer, but it can have one generated: an `<img>` is enough to spend.
 * Browsers say where a request comes from, and no page can make them say otherwise. `same-site` is foreign, too: it is
 * every other name below the same domain, and every other port of localhost.
 * @see https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
 */
function isForeign(headers: IncomingHttpHeaders, origins: ReadonlySet<string>, host: string): boolean {
  const { origin, 'sec-fetch-site': site } = headers
  if (origin !== undefined && origins.has(origin)) return false
  if (site !== undefined) return site !== 'same-origin' && site !== 'none'
  // Browsers of before 2023 may say only this. Programs say neither.
  return origin !== undefined && origin !== `https://${host}` && origin !== `http://${host}`
}

/** Somebody has followed a link to a page. */
function isVisit({ headers, method, routeOptions }: FastifyRequest): boolean {
  const isNavigation = headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
  return isNavigation && (method === 'GET' || method === 'HEAD') && routeOptions.config?.page === true
}
