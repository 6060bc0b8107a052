import type { FastifyRequest } from 'fastify'
import { check, idempotencyKey } from '../core/request.ts'

/** An empty header counts as absent. */
export function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/**
 * The idempotency key of a POST.
 * @throws SluiceError `invalid_request`
 * @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
 */
export function keyOf(request: FastifyRequest): string | undefined {
  const header = headerOf(request, 'idempotency-key')
  return header === undefined ? undefined : check(idempotencyKey, header)
}
