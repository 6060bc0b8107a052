import type { FastifyInstance } from 'fastify'
import { requestReader } from '../core/request.ts'
import { aiSdk } from '../formats/ai-sdk.ts'
import { chatReader, isChatBody } from '../formats/ai-sdk-request.ts'
import { formats } from '../formats/registry.ts'
import type { Streams } from '../run/streams.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import { keyOf } from './headers.ts'
import { type StreamRoutesOptions, streamPost } from './streams.ts'

/** `/api/chat`: where the AI SDK's `useChat` goes by itself; it takes the bodies of `/stream` too. */
export function chatRoutes(
  app: FastifyInstance,
  streams: Streams,
  attacher: Attacher,
  options: StreamRoutesOptions,
): void {
  const post = streamPost(streams, attacher, options)
  const reader = requestReader(Object.keys(formats), options)
  const read = chatReader(reader.fromBody)

  app.post('/api/chat', async (request, reply) => {
    if (!isChatBody(request.body)) return post(request, reply)
    const { message, options: chosen, chatId, continues } = read(takeBody(request))
    const begun = await streams.begin({
      request: message,
      onDisconnect: chosen.on_disconnect ?? options.on_disconnect,
      requestId: request.id,
      principal: request.caller.principal,
      key: keyOf(request),
      alias: chatId,
      echo: continues === undefined ? {} : { message_id: continues },
    })
    return attacher.attachWhenOpen(request, reply, begun, { format: aiSdk, smooth: chosen.smooth })
  })

  // The client asks this whenever a page with `resume` opens, mostly in vain, and wants the answer from its start.
  app.get<{ Params: { id: string } }>('/api/chat/:id/stream', async (request, reply) => {
    const log = await streams.findLive(request.params.id, request.caller.principal)
    if (!log) return reply.code(204).header('cache-control', 'no-store').send()
    const { smooth } = reader.attachment(request.query)
    return attacher.attach(request, reply, log, { format: aiSdk, smooth })
  })
}
