import { SluiceError } from '../core/errors.ts'
import type { MessageRequest } from '../core/request.ts'
import type { Toolbox } from '../core/tools.ts'
import type { RunOptions } from './context.ts'

/** What of a run decides on that. */
type Offering = Pick<RunOptions, 'request' | 'tools' | 'passesPauses'>

/**
 * What is to be run, with the definitions of the server's tools behind the client's own: those that are there now.
 * @throws SluiceError `invalid_request` when the client has a tool of the same name
 */
export function offer<T extends Offering>(options: T, toolbox: Toolbox): T {
  const { request, tools = [], passesPauses } = options
  const offered = tools.flatMap((name) => toolbox.find(name)?.definition ?? [])
  if (offered.length === 0) {
    const pauses = !passesPauses && hasAnthropicsTools(request)
    return { ...options, tools: pauses ? [] : undefined }
  }
  const own = (request['tools'] ?? []) as readonly { readonly name?: unknown }[]
  const clash = offered.find(({ name }) => own.some((tool) => tool.name === name))
  if (clash) {
    const message = `tools: ${JSON.stringify(clash.name)} is a tool of this server, give yours another name`
    throw new SluiceError('invalid_request', { message })
  }
  return {
    ...options,
    request: { ...request, tools: [...own, ...offered] },
    tools: offered.map(({ name }) => name),
  }
}

/** Tools that Anthropic runs are told by their type, or sit behind MCP servers; only with them Claude pauses. */
function hasAnthropicsTools(request: MessageRequest): boolean {
  const { tools, mcp_servers: servers } = request as { tools?: unknown; mcp_servers?: unknown }
  const typed = (tool: { readonly type?: unknown }) => typeof tool?.type === 'string' && tool.type !== 'custom'
  return (Array.isArray(tools) && tools.some(typed)) || (Array.isArray(servers) && servers.length > 0)
}
