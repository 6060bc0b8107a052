import type { FastifyInstance } from 'fastify'
import { SluiceError } from '../core/errors.ts'
import type { Pressure } from '../core/ports.ts'

/**
 * Refuses requests that may begin a stream before their bodies are read: reading and parsing one takes several times its
 * size, and that is how a process dies that has no memory left. To be called before the routes are there.
 */
export function refuseUnderPressure(app: FastifyInstance, pressure: Pressure): void {
  app.addHook('onRequest', async ({ method }) => {
    const reason = method === 'POST' ? pressure.reason : undefined
    if (reason !== undefined) throw new SluiceError('too_many_streams', { retryAfterMs: 1_000, reason })
  })
}
