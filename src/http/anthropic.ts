import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { SluiceError } from '../core/errors.ts'
import type { Upstream } from '../core/ports.ts'
import { check, type MessageRequest, maxTokens, modelName } from '../core/request.ts'
import { anthropic, anthropicError } from '../formats/anthropic.ts'
import type { Streams } from '../run/streams.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import { keyOf } from './headers.ts'
import { type ErrorShape, type HttpLog, withErrorShape } from './server.ts'

const headerOnly = (header: string) => z.undefined(`goes into the ${header} header`).optional()

/** A pass-through: what Claude must have, and limits; every other field is Claude's to judge. */
export const messagesBody = z.looseObject({
  model: modelName,
  max_tokens: maxTokens,
  messages: z
    .array(z.looseObject({ role: z.string() }))
    .min(1)
    .max(100_000),
  stream: z.boolean().optional(),
  // Claude takes none of these in a body, where a `MessageRequest` has them.
  betas: headerOnly('anthropic-beta'),
  version: headerOnly('anthropic-version'),
  user_profile_id: headerOnly('anthropic-user-profile-id'),
  workspace_id: headerOnly('anthropic-workspace-id'),
})

export const countBody = z.looseObject({ model: modelName, messages: z.array(z.looseObject({})).max(100_000) })

/** `/v1/messages` and `/v1/models`: for every client that takes a base URL in place of Anthropic's. */
export function anthropicRoutes(
  app: FastifyInstance,
  streams: Streams,
  attacher: Attacher,
  upstream: Upstream,
  log: HttpLog,
): Promise<void> {
  return withErrorShape(app, log, errorShape, (scope) => {
    scope.addHook('onRequest', (request, reply, done) => {
      reply.header('request-id', request.id)
      done()
    })

    scope.post('/v1/messages', async (request, reply) => {
      const asking = takeBody(request)
      check(messagesBody, asking)
      const { stream, ...body } = asking as MessageRequest & { stream?: boolean }
      const message: MessageRequest = { ...body, ...dialectOf(request) }
      const { principal } = request.caller
      const asked = { request: message, principal, key: keyOf(request), requestId: request.id }
      const begun = await streams.begin({ ...asked, onDisconnect: 'cancel' })
      if (stream) return attacher.attachWhenOpen(request, reply, begun, { format: anthropic })
      // Read as a stream all the same: a long answer would outlast any limit on a silent connection to Claude.
      return reply.send((await attacher.collect(reply, begun)).message)
    })

    scope.post('/v1/messages/count_tokens', (request) => {
      check(countBody, request.body)
      return upstream.forward('POST', '/v1/messages/count_tokens', { body: request.body, ...dialectOf(request) })
    })

    scope.get('/v1/models', (request) => upstream.forward('GET', `/v1/models${queryOf(request)}`, dialectOf(request)))

    scope.get<{ Params: { id: string } }>('/v1/models/:id', (request) => {
      const id = encodeURIComponent(check(modelId, request.params.id))
      return upstream.forward('GET', `/v1/models/${id}${queryOf(request)}`, dialectOf(request))
    })
  })
}

/** A name of dots alone would lead to another path. */
const modelId = modelName.regex(/[^.]/)

/** As the client wrote it: which parameters there are is Claude's to say. */
function queryOf({ url }: FastifyRequest): string {
  const query = url.split('?', 2)[1]
  return query && query.length <= 2_048 ? `?${query}` : ''
}

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
function dialectOf(request: FastifyRequest): Pick<MessageRequest, 'betas' | 'version'> {
  const { headers } = request
  const asked = { 'anthropic-beta': headers['anthropic-beta'], 'anthropic-version': headers['anthropic-version'] }
  const { 'anthropic-beta': list, 'anthropic-version': version } = check(dialect, asked)
  return {
    ...(list && { betas: list.split(',').map((each) => each.trim()) }),
    ...(version && { version }),
  }
}

/** Statuses that Anthropic's clients know better than ours. */
const statuses: Partial<Record<SluiceError['code'], number>> = { upstream_overloaded: 529, budget_exhausted: 402 }

const errorShape: ErrorShape = (error, requestId) => ({
  status: statuses[error.code] ?? error.status,
  body: { ...anthropicError(error.toPublic()), request_id: requestId },
})
