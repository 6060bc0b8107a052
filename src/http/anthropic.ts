import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { SluiceError } from '../core/errors.ts'
import type { Upstream } from '../core/ports.ts'
import { check, type MessageRequest, maxTokens, modelName } from '../core/request.ts'
import { anthropic, anthropicError } from '../formats/anthropic.ts'
import type { Streams } from '../run/streams.ts'
import type { Attacher } from './attach.ts'
import { type ErrorShape, type HttpLog, withErrorShape } from './server.ts'

/** A pass-through: what Claude must have, and limits; every other field is Claude's to judge. */
const messagesBody = z.looseObject({
  model: modelName,
  max_tokens: maxTokens,
  messages: z
    .array(z.looseObject({ role: z.string() }))
    .min(1)
    .max(100_000),
  stream: z.boolean().optional(),
})

const countBody = z.looseObject({ model: modelName, messages: z.array(z.looseObject({})).max(100_000) })

const modelsQuery = z.strictObject({
  limit: z
    .string()
    .regex(/^\d{1,4}$/)
    .optional(),
  before_id: modelName.optional(),
  after_id: modelName.optional(),
})

/** `/v1/messages` and `/v1/models`: for every client that takes a base URL in place of Anthropic's. */
export function anthropicRoutes(
  app: FastifyInstance,
  streams: Streams,
  attacher: Attacher,
  upstream: Upstream,
  log: HttpLog,
): Promise<void> {
  return withErrorShape(app, log, errorShape, (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      reply.header('request-id', request.id)
    })

    scope.post('/v1/messages', async (request, reply) => {
      check(messagesBody, request.body)
      const { stream, ...body } = request.body as MessageRequest & { stream?: boolean }
      const message: MessageRequest = { ...body, ...dialectOf(request) }
      const run = streams.start({ request: message, onDisconnect: 'cancel', requestId: request.id })
      if (stream) return attacher.attachWhenOpen(request, reply, run, { format: anthropic })
      // Read as a stream all the same: a long answer would outlast any limit on a silent connection to Claude.
      return reply.send((await attacher.collect(reply, run)).message)
    })

    scope.post('/v1/messages/count_tokens', (request) => {
      check(countBody, request.body)
      return upstream.forward('POST', '/v1/messages/count_tokens', { body: request.body, ...dialectOf(request) })
    })

    scope.get('/v1/models', (request) => {
      const query = new URLSearchParams(check(modelsQuery, request.query) as Record<string, string>)
      return upstream.forward('GET', `/v1/models${query.size > 0 ? `?${query}` : ''}`, dialectOf(request))
    })

    scope.get<{ Params: { id: string } }>('/v1/models/:id', (request) => {
      const id = check(modelName, request.params.id)
      return upstream.forward('GET', `/v1/models/${encodeURIComponent(id)}`, dialectOf(request))
    })
  })
}

const betaList = /^[\x21-\x7e ]{1,4096}$/
const versionDate = /^\d{4}-\d{2}-\d{2}$/

/** The two headers that decide how Claude reads a request; no other header of a client goes upstream. */
function dialectOf(request: FastifyRequest): Pick<MessageRequest, 'betas' | 'version'> {
  const beta = request.headers['anthropic-beta']
  const version = request.headers['anthropic-version']
  const list = Array.isArray(beta) ? beta.join(',') : (beta ?? '')
  return {
    ...(betaList.test(list) && { betas: list.split(',').map((each) => each.trim()) }),
    ...(typeof version === 'string' && versionDate.test(version) && { version }),
  }
}

/** Statuses that Anthropic's clients know better than ours. */
const statuses: Partial<Record<SluiceError['code'], number>> = { upstream_overloaded: 529, budget_exhausted: 402 }

const errorShape: ErrorShape = (error, requestId) => ({
  status: statuses[error.code] ?? error.status,
  body: { ...anthropicError(error.toPublic()), request_id: requestId },
})
