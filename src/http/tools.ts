import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { SluiceError } from '../core/errors.ts'
import { isToolEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import { check, toolResultContent } from '../core/request.ts'
import type { ToolDecision } from '../core/tools.ts'
import type { Streams } from '../run/streams.ts'
import { sizeOf } from '../run/tool-calls.ts'
import type { ToolLimits } from '../run/tool-limits.ts'
import { knownStream } from './streams.ts'

/** Yes, no, or the result of whoever ran the tool himself. */
export const decisionBody = z.union([
  z.strictObject({ decision: z.literal('approve'), input: z.looseObject({}).optional() }),
  z.strictObject({ decision: z.literal('deny'), reason: z.string().max(2_000).optional() }),
  z.strictObject({ result: toolResultContent, is_error: z.boolean().optional() }),
])

/** `/streams/:id/tools/:call`: where a call that waits for consent gets it. */
export function toolRoutes(app: FastifyInstance, streams: Streams, { max_result_bytes }: ToolLimits): void {
  app.post<{ Params: { id: string; call: string } }>('/streams/:id/tools/:call', async (request) => {
    const { id, call } = request.params
    const log = await knownStream(streams, request, id)
    // A credential that reads one stream is given to pages: it agrees to nothing.
    if (request.caller.stream !== undefined) throw new SluiceError('not_permitted')
    const decision = decisionOf(request.body)
    const bytes = sizeOf(decision)
    if (bytes > max_result_bytes) {
      throw new SluiceError('invalid_request', { message: `body: more than ${max_result_bytes} bytes (tool_limits)` })
    }
    if (!(await log.decide(call, decision))) throw new SluiceError(await whyNot(log, call))
    return { id, call, decision: decision.decision }
  })
}

function decisionOf(body: unknown): ToolDecision {
  const said = check(decisionBody, body)
  if ('decision' in said) return said
  return { decision: 'answer', content: said.result, is_error: said.is_error ?? false }
}

/** A call that the log tells of, and that did not wait. */
async function whyNot(log: StreamLog, call: string): Promise<'tool_call_decided' | 'tool_call_not_found'> {
  const history = await log.history()
  const isKnown = history.some(
    (event) =>
      (isToolEvent(event) && event.id === call) ||
      (event.type === 'content_block_start' && Object(event.content_block).id === call),
  )
  return isKnown ? 'tool_call_decided' : 'tool_call_not_found'
}
