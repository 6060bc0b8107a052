import type { FastifyInstance } from 'fastify'
import type { Defaults, DisconnectPolicy } from '../core/request.ts'
import { agUi } from '../formats/ag-ui.ts'
import { agUiReader } from '../formats/ag-ui-request.ts'
import type { Streams } from '../run/streams.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import { keyOf } from './headers.ts'

export interface AgUiRoutesOptions extends Defaults {
  readonly on_disconnect: DisconnectPolicy
}

/** `/ag-ui`: an agent for AG-UI's `HttpAgent` and the front ends that are built on it. */
export function agUiRoutes(
  app: FastifyInstance,
  streams: Streams,
  attacher: Attacher,
  options: AgUiRoutesOptions,
): void {
  const read = agUiReader(options)

  app.post('/ag-ui', async (request, reply) => {
    const { message, echo, onDisconnect = options.on_disconnect } = read(takeBody(request))
    const key = keyOf(request)
    const asked = { request: message, key, requestId: request.id, principal: request.caller.principal, echo }
    const begun = await streams.begin({ ...asked, onDisconnect })
    return attacher.attachWhenOpen(request, reply, begun, { format: agUi })
  })
}
