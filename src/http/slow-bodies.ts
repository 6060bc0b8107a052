import type { Http2ServerRequest } from 'node:http2'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '../core/errors.ts'

/** The deadline for the body of a request over HTTP/2. Node has one for HTTP/1.1 only. */
export function limitBodyTime(app: FastifyInstance, timeoutMs: number): void {
  app.addHook('preParsing', (request, reply, payload, done) => {
    if (request.raw.httpVersionMajor === 2) watch(request, reply, timeoutMs)
    done(null, payload)
  })
}

function watch(request: FastifyRequest, reply: FastifyReply, timeoutMs: number): void {
  const raw = request.raw as unknown as Http2ServerRequest
  const { stream } = raw
  if (stream.endAfterHeaders) return
  const timer = setTimeout(() => {
    if (!reply.sent) void reply.send(new SluiceError('request_timeout'))
  }, timeoutMs)
  const stop = () => clearTimeout(timer)
  raw.once('end', stop)
  stream.once('close', stop)
  // Who has been answered before the end of his request needs not send the rest, and holds nothing open with it.
  stream.once('finish', () => raw.complete || stream.close())
}
