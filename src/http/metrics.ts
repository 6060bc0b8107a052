import type { FastifyInstance } from 'fastify'
import type { Operators } from './operators.ts'

export interface Exposition {
  readonly contentType: string
  text(): Promise<string>
}

/** `/metrics`: for Prometheus, and for nobody else. */
export function metricsRoute(app: FastifyInstance, operators: Operators, exposition: Exposition): void {
  app.get('/metrics', { config: { open: true } }, async (request, reply) => {
    operators.admit(request)
    const text = await exposition.text()
    return reply.header('cache-control', 'no-store').type(exposition.contentType).send(text)
  })
}
