import type { OutgoingHttpHeaders } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Format } from '../core/format.ts'
import { check, idempotencyKey } from '../core/request.ts'

/** What every stream needs. */
export const eventStreamHeaders = {
  'content-type': 'text/event-stream; charset=utf-8',
  // no-transform keeps proxies from compressing, and so from buffering; the other header is nginx's own.
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const

/** An empty header counts as absent. */
export function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** What stands behind `Authorization: Bearer`. */
export function bearerTokenOf({ headers }: FastifyRequest): string | undefined {
  return /^bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1]
}

/**
 * The idempotency key of a request that starts a stream: `Idempotency-Key`, or `key=` for those who cannot send headers.
 * @throws SluiceError `invalid_request`
 * @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
 */
export function keyOf(request: FastifyRequest): string | undefined {
  const { key } = request.query as { key?: unknown }
  const asked = headerOf(request, 'idempotency-key') ?? key
  return asked === undefined ? undefined : check(idempotencyKey, asked)
}

/** The HTTP/2 stream of a request or of its response, if it came over one. */
export function http2StreamOf(message: object): ServerHttp2Stream | undefined {
  return (message as { stream?: ServerHttp2Stream }).stream
}

/** Has the client take another connection for its next request; what else goes on over this one does so to its end. */
export function leadAway(request: FastifyRequest, reply: FastifyReply): void {
  const stream = http2StreamOf(request.raw)
  if (stream) stream.session?.close()
  else reply.header('connection', 'close')
}

/** Headers that hooks have set (CORS, request id) and those every stream needs. A hijacked reply sends none by itself. */
export function streamHeaders(reply: FastifyReply, format: Format): OutgoingHttpHeaders {
  return {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    ...eventStreamHeaders,
    ...format.headers,
  }
}
