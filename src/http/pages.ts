import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { SluiceError } from '../core/errors.ts'
import type { PageFile } from './page-files.ts'
import { pageHeaders } from './security.ts'

/** Pages hold no secret: who opens one needs no key, what it then asks for does. */
const open = { exposeHeadRoute: true, config: { open: true, page: true } }

/**
 * The playground, what operators see, and the doctor for browsers. Files are read when somebody first asks for one: a
 * server that nobody opens in a browser has nothing of them.
 */
export function pageRoutes(app: FastifyInstance): void {
  let files: Promise<ReadonlyMap<string, PageFile>> | undefined
  async function send(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    files ??= import('./page-files.ts').then(({ readPageFiles }) => readPageFiles())
    const [path = ''] = request.url.split('?')
    const file = (await files).get(path)
    if (!file) throw new SluiceError('route_not_found')
    reply.headers({
      etag: file.etag,
      'cache-control': 'no-cache',
      ...pageHeaders,
      'cross-origin-opener-policy': 'same-origin',
    })
    if (request.headers['if-none-match'] === file.etag) return reply.code(304).send()
    return reply.type(file.type).send(file.text)
  }
  for (const path of ['/', '/ops', '/doctor', '/pages/*']) app.get(path, open, send)
}
