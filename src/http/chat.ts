import type { FastifyInstance } from 'fastify'
import { aiSdk } from '../formats/ai-sdk.ts'
import { chatReader, isChatBody } from '../formats/ai-sdk-request.ts'
import type { Streams } from '../run/streams.ts'
import { mayRead } from './access.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import type { Intake } from './intake.ts'
import { type StreamRoutesOptions, streamPost, takingTickets } from './streams.ts'
import { chosenBy, streamReader, viewOf } from './view.ts'

/** `/api/chat`: where the AI SDK's `useChat` goes by itself; it takes the bodies of `/stream` too. */
export function chatRoutes(
  app: FastifyInstance,
  streams: Streams,
  intake: Intake,
  attacher: Attacher,
  options: StreamRoutesOptions,
): void {
  const post = streamPost(intake, attacher, options)
  const read = chatReader(streamReader.fromBody)

  app.post('/api/chat', async (request, reply) => {
    if (!isChatBody(request.body)) return post(request, reply)
    const { message, options: chosen, chatId, continues } = read(takeBody(request))
    const permitted = intake.permit(request, { message, preset: chosen.preset })
    const begun = await intake.begin(request, reply, {
      permitted,
      onDisconnect: chosen.on_disconnect ?? permitted.delivery.on_disconnect ?? options.on_disconnect,
      alias: chatId,
      echo: continues === undefined ? {} : { message_id: continues },
    })
    return attacher.attachWhenOpen(
      request,
      reply,
      begun,
      viewOf(chosenBy({ ...chosen, format: 'ai-sdk' }, permitted.delivery)),
    )
  })

  // The client asks this whenever a page with `resume` opens, mostly in vain, and wants the answer from its start.
  app.get<{ Params: { id: string } }>('/api/chat/:id/stream', takingTickets, async (request, reply) => {
    const log = await streams.findLive(request.params.id, request.caller.principal)
    if (!log || !(await mayRead(request, log.id))) return reply.code(204).header('cache-control', 'no-store').send()
    const { smooth } = streamReader.attachment(request.query)
    return attacher.attach(request, reply, log, { format: aiSdk, smooth })
  })
}
