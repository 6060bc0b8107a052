import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { discreet } from '../core/discreet.ts'
import { type SluiceError, toSluiceError } from '../core/errors.ts'
import type { Policy } from '../core/policy.ts'
import type { ForwardedRequest, Upstream } from '../core/ports.ts'
import { type AskedRequest, check, type MessageRequest, maxTokens, modelName } from '../core/request.ts'
import { anthropic, anthropicError } from '../formats/anthropic.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import { dialectOf } from './dialect.ts'
import type { Intake } from './intake.ts'
import { modelRoutes } from './models.ts'
import { type ErrorShape, type HttpLog, withErrorShape } from './server.ts'

const headerOnly = (header: string) => z.undefined(`goes into the ${header} header`).optional()

/** Claude takes none of these in a body, where a `MessageRequest` has them. */
const onlyInHeaders = {
  betas: headerOnly('anthropic-beta'),
  version: headerOnly('anthropic-version'),
  user_profile_id: headerOnly('anthropic-user-profile-id'),
  workspace_id: headerOnly('anthropic-workspace-id'),
}

/** A pass-through: what Claude must have, and limits; every other field is Claude's to judge. */
export const messagesBody = z.looseObject({
  model: modelName,
  max_tokens: maxTokens,
  messages: z
    .array(z.looseObject({ role: z.string() }))
    .min(1)
    .max(100_000),
  stream: z.boolean().optional(),
  ...onlyInHeaders,
})

export const countBody = z.looseObject({
  model: modelName,
  messages: z.array(z.looseObject({})).max(100_000),
  ...onlyInHeaders,
})

/** What a preset may say of an answer and a count of its question has no use for. */
const notCounted = new Set([
  ...['max_tokens', 'temperature', 'top_p', 'top_k', 'stop_sequences', 'metadata', 'service_tier', 'inference_geo'],
  ...['container', 'fallbacks', 'fallback_credit_token', 'diagnostics', 'thread', 'betas', 'version'],
  ...['user_profile_id', 'workspace_id'],
])

/** `/v1/messages`: for every client that takes a base URL in place of Anthropic's. */
export function anthropicRoutes(
  app: FastifyInstance,
  intake: Intake,
  attacher: Attacher,
  upstream: Upstream,
  policy: Policy,
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
      const { stream, ...body } = asking as AskedRequest & { stream?: boolean }
      const permitted = intake.permit(request, { message: { ...body, ...dialectOf(request) }, byModel: true })
      const onDisconnect = permitted.delivery.on_disconnect ?? 'cancel'
      const begun = await intake.begin(request, reply, { permitted, onDisconnect, passesPauses: true })
      if (stream) return attacher.attachWhenOpen(request, reply, begun, { format: anthropic })
      // Read as a stream all the same: a long answer would outlast any limit on a silent connection to Claude.
      return reply.send((await attacher.collect(reply, begun)).message)
    })

    scope.post('/v1/messages/count_tokens', async (request, reply) => {
      const asked = request.body
      check(countBody, asked)
      const message = { ...(asked as AskedRequest), ...dialectOf(request) }
      const permitted = intake.permit(request, { message, byModel: true })
      const counted = intake.offering(permitted)
      const { preset, request: own } = permitted
      await intake.count(request, reply)
      const isAsIs = preset === undefined && counted === own
      const sent = isAsIs ? forwarded(counted, asked) : forwarded(counted, countedOf(counted))
      return upstream.forward('POST', '/v1/messages/count_tokens', sent).catch((error) => {
        throw preset === undefined ? error : discreet(toSluiceError(error), counted)
      })
    })

    modelRoutes(scope, intake, policy, upstream)
  })
}

/** What a client wrote goes on as it is; of what a preset and the server's tools add to it, only what is counted. */
function countedOf(request: MessageRequest): object {
  return Object.fromEntries(Object.entries(request).filter(([field]) => !notCounted.has(field)))
}

function forwarded({ betas, version }: MessageRequest, body: unknown): ForwardedRequest {
  return { body, betas, version }
}

/** Statuses that Anthropic's clients know better than ours. */
const statuses: Partial<Record<SluiceError['code'], number>> = { upstream_overloaded: 529, budget_exhausted: 402 }

const errorShape: ErrorShape = (error, requestId) => ({
  status: statuses[error.code] ?? error.status,
  body: { ...anthropicError(error.toPublic()), request_id: requestId },
})
