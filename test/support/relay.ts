import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'

/** A listening server for a proxy: on 127.0.0.1, and on a free port unless one is named. */
export async function listenOn(port: number, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, onConnection)
  server.listen({ port, host: '127.0.0.1', backlog: 1024 })
  await once(server, 'listening')
  return server
}

export function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server is not listening')
  return address.port
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = await listenOn(0, (socket) => socket.destroy())
  const port = portOf(server)
  server.close()
  await once(server, 'close')
  return port
}

/** Connects, or says that nobody is there. */
export async function tryConnect(host: string, port: number): Promise<Socket | undefined> {
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true })
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(socket))
    // Kept on: a proxy's sockets fail all the time, and `close` tells what follows from it.
    socket.on('error', () => resolve(undefined))
  })
}

/**
 * Passes bytes on in one direction, no faster than they are taken, and the end when it comes.
 * @param pass what of a chunk goes on, possibly nothing
 * @param passEnd whether the end goes on
 */
export function relay(
  from: Socket,
  to: Socket,
  pass: (chunk: Buffer) => Buffer | undefined = (chunk) => chunk,
  passEnd: () => boolean = () => true,
): void {
  from.on('data', (chunk: Buffer) => {
    const bytes = pass(chunk)
    if (!bytes || bytes.length === 0 || to.destroyed || to.writableEnded) return
    if (to.write(bytes)) return
    from.pause()
    to.once('drain', () => from.resume())
  })
  from.on('end', () => {
    if (passEnd() && !to.destroyed) to.end()
  })
}
