import type { FastifyInstance } from 'fastify'
import type { SluiceError } from '../core/errors.ts'
import type { Defaults } from '../core/request.ts'
import { openai, openaiError } from '../formats/openai.ts'
import { openaiRequest } from '../formats/openai-request.ts'
import { chatCompletion } from '../formats/openai-response.ts'
import type { Streams } from '../run/streams.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import { keyOf } from './headers.ts'
import { type ErrorShape, type HttpLog, withErrorShape } from './server.ts'

/** `/v1/chat/completions`: for every client that takes a base URL in place of OpenAI's. */
export function openaiRoutes(
  app: FastifyInstance,
  streams: Streams,
  attacher: Attacher,
  defaults: Defaults,
  log: HttpLog,
): Promise<void> {
  return withErrorShape(app, log, errorShape, (scope) => {
    scope.post('/v1/chat/completions', async (request, reply) => {
      const { message, echo, stream } = openaiRequest(takeBody(request), defaults)
      const { principal } = request.caller
      const asked = { request: message, principal, key: keyOf(request), requestId: request.id, echo }
      const begun = await streams.begin({ ...asked, onDisconnect: 'cancel' })
      if (stream) return attacher.attachWhenOpen(request, reply, begun, { format: openai })
      const answer = await attacher.collect(reply, begun)
      return reply.send(chatCompletion(answer.message, Math.floor(begun.log.createdAt.getTime() / 1000)))
    })
  })
}

/** Statuses that OpenAI's clients know better than ours: an empty purse is a 429 there. */
const statuses: Partial<Record<SluiceError['code'], number>> = { budget_exhausted: 429 }

const errorShape: ErrorShape = (error) => ({
  status: statuses[error.code] ?? error.status,
  body: openaiError(error.toPublic()),
})
