import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { check, type MessageRequest } from '../core/request.ts'

const dialect = z.object({
  'anthropic-beta': z
    .string()
    .regex(/^[\x21-\x7e ]{0,4096}$/)
    .optional(),
  'anthropic-version': z
    .string()
    .regex(/^(\d{4}-\d{2}-\d{2})?$/)
    .optional(),
})

/** The two headers that decide how Claude reads a request; no other header of a client goes upstream. */
export function dialectOf(request: FastifyRequest): Pick<MessageRequest, 'betas' | 'version'> {
  const { headers } = request
  const asked = { 'anthropic-beta': headers['anthropic-beta'], 'anthropic-version': headers['anthropic-version'] }
  const { 'anthropic-beta': list, 'anthropic-version': version } = check(dialect, asked)
  return {
    ...(list && { betas: list.split(',').map((each) => each.trim()) }),
    ...(version && { version }),
  }
}
