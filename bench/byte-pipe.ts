import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { pipeline } from 'node:stream'

/**
 * The yardstick: a reverse proxy that hands bytes through and understands none of them. What it costs is what Node
 * takes for two sockets; what Sluice costs on top is the price of what Sluice does.
 */
const upstream = new URL(process.env['UPSTREAM'] ?? 'http://127.0.0.1:8788')
const agent = new Agent({ keepAlive: true })

/** Headers that speak of one connection, not of the message. */
const hopByHop = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'trailer', 'proxy-authorization']

function endToEnd({ headers }: IncomingMessage) {
  const kept = { ...headers }
  for (const name of hopByHop) delete kept[name]
  return kept
}

function relay(incoming: IncomingMessage, response: ServerResponse): void {
  const { hostname, port, host } = upstream
  const outgoing = request({
    agent,
    hostname,
    port,
    method: incoming.method,
    path: incoming.url,
    headers: { ...endToEnd(incoming), host },
  })
  outgoing.on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, endToEnd(answer))
    pipeline(answer, response, () => {})
  })
  outgoing.on('error', () => {
    if (response.headersSent) response.destroy()
    else response.writeHead(502).end()
  })
  response.on('close', () => {
    if (!response.writableFinished) outgoing.destroy()
  })
  incoming.pipe(outgoing)
}

createServer(relay).listen({ port: Number(process.env['PORT']), host: '127.0.0.1', backlog: 4096 })
