import type { FastifyInstance } from 'fastify'
import type { SluiceError } from '../core/errors.ts'
import { openai, openaiError } from '../formats/openai.ts'
import { openaiRequest } from '../formats/openai-request.ts'
import { chatCompletion } from '../formats/openai-response.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import type { Intake } from './intake.ts'
import { type ErrorShape, type HttpLog, withErrorShape } from './server.ts'

/** `/v1/chat/completions`: for every client that takes a base URL in place of OpenAI's. */
export function openaiRoutes(app: FastifyInstance, intake: Intake, attacher: Attacher, log: HttpLog): Promise<void> {
  return withErrorShape(app, log, errorShape, (scope) => {
    scope.post('/v1/chat/completions', async (request, reply) => {
      const { message, echo, stream } = openaiRequest(takeBody(request))
      const permitted = intake.permit(request, { message, byModel: true })
      const onDisconnect = permitted.delivery.on_disconnect ?? 'cancel'
      const begun = await intake.begin(request, reply, { permitted, onDisconnect, passesPauses: true, echo })
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
