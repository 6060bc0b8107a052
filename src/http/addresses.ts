import type { Server, Socket } from 'node:net'
import { networkOf } from '../core/address.ts'

/**
 * Closes each connection of an address that has `most` already, before a byte of it is read.
 * @param isExempt proxies have the connections of all their clients
 */
export function limitPerAddress(server: Server, most: number, isExempt: (address: string) => boolean): void {
  const counts = new Map<string, number>()
  server.on('connection', (socket: Socket) => {
    // Already gone.
    if (socket.remoteAddress === undefined || isExempt(socket.remoteAddress)) return
    const network = networkOf(socket.remoteAddress)
    const count = (counts.get(network) ?? 0) + 1
    if (count > most) return void socket.destroy()
    counts.set(network, count)
    socket.once('close', () => {
      const left = (counts.get(network) ?? 1) - 1
      if (left > 0) counts.set(network, left)
      else counts.delete(network)
    })
  })
}
