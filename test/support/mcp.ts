import { randomUUID } from 'node:crypto'
import { createServer, type Server as HttpServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler } from '@modelcontextprotocol/server'
import { onTestFinished } from 'vitest'
import { eventually } from './client.ts'
import { type McpState, mcpServer, newState } from './mcp-tools.ts'
import { freePort } from './relay.ts'

/** An MCP server over HTTP that can die and come back. */
export interface McpHttp {
  readonly url: string
  readonly state: McpState
  /** Of every request so far. */
  readonly headers: IncomingHttpHeaders[]
  start(): Promise<void>
  /** Cuts all connections, and forgets all sessions. */
  stop(): Promise<void>
}

/**
 * @param age `new` is of 2026: no sessions, changes are told in a stream that is asked for; `old` is of 2025, with
 * sessions, as most servers are
 */
export async function startMcp(age: 'new' | 'old'): Promise<McpHttp> {
  const state = newState()
  const port = await freePort()
  const headers: IncomingHttpHeaders[] = []
  let http: HttpServer | undefined

  async function stop(): Promise<void> {
    const stopping = http
    http = undefined
    stopping?.closeAllConnections()
    await new Promise((resolve) => (stopping ? stopping.close(resolve) : resolve(undefined)))
  }

  async function start(): Promise<void> {
    const listener = age === 'new' ? ofNow(state) : ofSessions(state)
    const server = createServer((request, response) => {
      headers.push(request.headers)
      listener(request, response)
    }).listen(port, '127.0.0.1')
    http = server
    await eventually(() => server.listening)
  }

  onTestFinished(stop)
  await start()
  return { url: `http://127.0.0.1:${port}/mcp`, state, headers, start, stop }
}

function ofNow(state: McpState): RequestListener {
  const handler = createMcpHandler(() => mcpServer(state), { legacy: 'reject' })
  state.onChange = () => handler.notify.toolsChanged()
  const listener = toNodeHandler(handler)
  return (request, response) => void listener(request as Parameters<typeof listener>[0], response)
}

function ofSessions(state: McpState): RequestListener {
  const sessions = new Map<string, NodeStreamableHTTPServerTransport>()
  state.onChange = (server) => void server.sendToolListChanged()
  return async (request, response) => {
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? sessions.get(id) : undefined
    if (id !== undefined && !known) return void response.writeHead(404).end()
    if (known) return known.handleRequest(request, response)
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (session) => void sessions.set(session, transport),
      onsessionclosed: (session) => void sessions.delete(session),
    })
    await mcpServer(state).connect(transport)
    await transport.handleRequest(request, response)
  }
}
