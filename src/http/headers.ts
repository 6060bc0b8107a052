import type { FastifyRequest } from 'fastify'
import { check, idempotencyKey } from '../core/request.ts'

/** An empty header counts as absent. */
export function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' && value !== '' ? value : undefined
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
