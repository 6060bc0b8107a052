import type { FastifyInstance, FastifyReply } from 'fastify'
import type { SluiceError } from '../core/errors.ts'

/** Told of each response when its head goes out; `route` is its pattern, `failure` why it is no success. */
export type HttpWatch = (method: string, route: string | undefined, status: number, failure?: SluiceError) => void

declare module 'fastify' {
  interface FastifyInstance {
    watch?: HttpWatch | undefined
  }
  interface FastifyReply {
    failure?: SluiceError
  }
}

/** To be called before the routes are there. Listening for the end of each response would take memory for each. */
export function watchResponses(app: FastifyInstance, watch: HttpWatch | undefined): void {
  app.decorate('watch', watch)
  app.decorateReply('failure')
  if (!watch) return
  app.addHook('onSend', (_request, reply, payload, done) => {
    note(reply, reply.statusCode)
    done(null, payload)
  })
}

/** For event streams, which go past all hooks. */
export function noteStream(reply: FastifyReply): void {
  note(reply, 200)
}

function note({ request, server, failure }: FastifyReply, status: number): void {
  server.watch?.(request.method, request.routeOptions.url, status, failure)
}
