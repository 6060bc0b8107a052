import type { FastifyInstance } from 'fastify'
import type { DisconnectPolicy } from '../core/request.ts'
import { agUi } from '../formats/ag-ui.ts'
import { agUiReader } from '../formats/ag-ui-request.ts'
import type { Attacher } from './attach.ts'
import { takeBody } from './body.ts'
import type { Intake } from './intake.ts'

export interface AgUiRoutesOptions {
  readonly on_disconnect: DisconnectPolicy
}

/** `/ag-ui`: an agent for AG-UI's `HttpAgent` and the front ends that are built on it. */
export function agUiRoutes(app: FastifyInstance, intake: Intake, attacher: Attacher, options: AgUiRoutesOptions): void {
  const read = agUiReader()

  app.post('/ag-ui', async (request, reply) => {
    const { message, echo, options: chosen } = read(takeBody(request))
    const permitted = intake.permit(request, { message, preset: chosen.preset })
    const onDisconnect = chosen.on_disconnect ?? permitted.delivery.on_disconnect ?? options.on_disconnect
    const begun = await intake.begin(request, reply, { permitted, onDisconnect, echo })
    return attacher.attachWhenOpen(request, reply, begun, { format: agUi })
  })
}
