import type { FastifyInstance } from 'fastify'
import type { Limiter } from '../limits/limiter.ts'
import { rateLimitHeaders } from '../limits/standings.ts'

/** `/limits`: what whoever asks may use, and what of it is left. Asking costs nothing. */
export function limitsRoute(app: FastifyInstance, limiter: Limiter | undefined): void {
  app.get('/limits', async (request, reply) => {
    const limits = limiter?.covers(request) ? await limiter.look(request) : []
    return reply.headers({ ...rateLimitHeaders(limits), 'cache-control': 'no-store' }).send({ limits })
  })
}
