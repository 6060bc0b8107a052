import type { FastifyInstance } from 'fastify'
import type { Streams } from '../run/streams.ts'
import { leadAway } from './headers.ts'

/** Some load balancers probe with HEAD, and none has a key. */
const probed = { exposeHeadRoute: true, config: { open: true } }

/** `/healthz`: the process answers. `/readyz`: it takes new streams. */
export function healthRoutes(app: FastifyInstance, streams: Streams): void {
  app.get('/healthz', probed, async (_request, reply) =>
    reply.header('cache-control', 'no-store').send({ status: 'ok' }),
  )
  app.get('/readyz', probed, async (_request, reply) => {
    const status = streams.draining ? 'draining' : 'ready'
    return reply
      .code(streams.draining ? 503 : 200)
      .header('cache-control', 'no-store')
      .send({ status })
  })
  // A client that keeps its connection would send its next request to a server that is about to be gone.
  app.addHook('onRequest', async (request, reply) => {
    if (streams.draining) leadAway(request, reply)
  })
}
