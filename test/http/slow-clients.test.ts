import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { eventually, fetchAll } from '../support/client.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

/** A client that sends a request and never reads. */
async function neverReads(rig: Rig, body: object): Promise<Socket> {
  const socket = connect(Number(new URL(rig.url).port), '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.pause()
  const text = JSON.stringify(body)
  socket.write(
    `POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
  )
  return socket
}

/** Far more than the kernel's buffers between two sockets hold. */
const flood = { prompt: 'hi', model: sim({ text: 100_000, bytes: 100 }), max_tokens: 1_000_000 }

it('a client that never reads is cut after client_stall_ms, and upstream is closed by the policy', async () => {
  const rig = await startRig({
    env: { SLUICE_STREAMS__CLIENT_STALL_MS: '300', SLUICE_STREAMS__MAX_BYTES: '100000000' },
  })
  const socket = await neverReads(rig, {
    ...flood,
    model: sim({ text: 100_000, bytes: 100, silence_at: 90_000 }),
    on_disconnect: 'cancel',
  })
  await eventually(() => rig.app.streams.live === 1)
  await eventually(() => rig.app.streams.live === 0, 5_000)
  expect(rig.log.some((line) => line['by'] === 'client')).toBe(true)
  socket.destroy()
})

const openSockets = () => process.getActiveResourcesInfo().filter((each) => each === 'TCPSocketWrap').length

it('a client that stops reading is cut even when the answer is over', async () => {
  const rig = await startRig({ env: { SLUICE_STREAMS__CLIENT_STALL_MS: '300' } })
  const socket = await neverReads(rig, { ...flood, model: sim({ text: 60_000, bytes: 100 }) })
  await eventually(() => rig.log.some((line) => line['status'] === 'done'), 5_000)
  const before = openSockets()
  await eventually(() => openSockets() < before)
  socket.destroy()
})

it('a slow client is not cut while it takes bytes, and gets everything', async () => {
  const rig = await startRig({ env: { SLUICE_STREAMS__CLIENT_STALL_MS: '150' } })
  const socket = await neverReads(rig, { ...flood, model: sim({ text: 50_000, bytes: 100 }) })
  let bytes = 0
  let tail = ''
  for await (const _ of sips(socket, (chunk) => {
    bytes += chunk.length
    tail = (tail + chunk.toString('latin1')).slice(-200)
  })) {
    if (tail.includes('[DONE]')) break
  }
  expect(bytes).toBeGreaterThan(5_000_000)
  expect(tail).toContain('data: [DONE]')
  socket.destroy()
})

/** Lets a socket read for a moment, then not for a longer one, until it ends. */
async function* sips(socket: Socket, take: (chunk: Buffer) => void): AsyncGenerator<void> {
  socket.on('data', (chunk: Buffer) => {
    take(chunk)
    socket.pause()
    setTimeout(() => socket.resume(), 2)
  })
  while (!socket.destroyed) {
    socket.resume()
    await new Promise((resolve) => setTimeout(resolve, 20))
    yield
  }
}

it('a reader that never reads costs less than a megabyte, and the others nothing', async () => {
  const rig = await startRig({ logLevel: 'silent' })
  const { headers } = await fetchAll(`${rig.url}/stream`, {
    body: { ...flood, model: sim({ text: 60_000, bytes: 100 }) },
  })
  const count = 40
  const before = memory()
  const idle = Array.from({ length: count }, () => connect(Number(new URL(rig.url).port), '127.0.0.1'))
  for (const socket of idle) {
    socket.pause()
    socket.write(`GET /streams/${headers['x-stream-id']} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  }
  // Answered after them, so they have been sent what their sockets take.
  const lively = await fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 200, delay_ms: 2 }) } })
  expect(lively.body).toContain('"type":"done"')
  expect((memory() - before) / count).toBeLessThan(1024 * 1024)
  for (const socket of idle) socket.destroy()
})

function memory(): number {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
