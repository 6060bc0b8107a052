import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { eventually } from '../support/client.ts'
import { answerOf, askAll, openSession } from '../support/http2.ts'
import { openRig, type Rig, sim } from '../support/sluice.ts'
import { type CertificateFiles, makeCertificate } from '../support/tls.ts'

let files: CertificateFiles
let rig: Rig
beforeAll(async () => {
  files = makeCertificate()
  rig = await openRig({ env: { ...files.env, SLUICE_SERVER__HEADERS_TIMEOUT_MS: '1000' } })
})
afterAll(async () => {
  await rig.close()
  files.remove()
})

const types = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, continuation: 9 }

function frame(type: keyof typeof types, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = types[type]
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A header block: `GET https://localhost/healthz`, as literals without a table. */
const block = Buffer.concat(
  Object.entries({ ':method': 'GET', ':scheme': 'https', ':authority': 'localhost', ':path': '/healthz' }).map(
    ([name, value]) =>
      Buffer.concat([
        Buffer.from([0, name.length]),
        Buffer.from(name),
        Buffer.from([value.length]),
        Buffer.from(value),
      ]),
  ),
)

const endStream = 1
const endHeaders = 4

/** A connection that has said no more than that it speaks HTTP/2; it takes what comes unless told otherwise. */
async function bare(): Promise<TLSSocket> {
  const socket = connect({ port: Number(new URL(rig.url).port), rejectUnauthorized: false, ALPNProtocols: ['h2'] })
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  await once(socket, 'secureConnect')
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame('settings', 0, 0)]))
  return socket
}

/** Sends pieces until the server hangs up, or there is no more. */
async function pour(socket: TLSSocket, pieces: Iterable<Buffer>): Promise<void> {
  const closed = once(socket, 'close')
  for (const piece of pieces) {
    if (socket.destroyed || socket.writableEnded) return
    if (!socket.write(piece)) await Promise.race([once(socket, 'drain'), closed])
  }
}

function* repeat(times: number, make: (n: number) => Buffer): Iterable<Buffer> {
  for (let n = 0; n < times; n++) yield make(n)
}

const floods: [string, () => Iterable<Buffer>, 'reads' | 'does not read'][] = [
  [
    'streams that are reset as soon as they are opened',
    () =>
      repeat(4_000, (n) =>
        Buffer.concat([
          frame('headers', endHeaders | endStream, 2 * n + 1, block),
          frame('reset', 0, 2 * n + 1, Buffer.from([0, 0, 0, 8])),
        ]),
      ),
    'reads',
  ],
  [
    'pings whose answers nobody reads',
    () => repeat(3_000, () => Buffer.concat(Array.from({ length: 100 }, () => frame('ping', 0, 0, Buffer.alloc(8))))),
    'does not read',
  ],
  [
    'settings whose answers nobody reads',
    () => repeat(3_000, () => Buffer.concat(Array.from({ length: 100 }, () => frame('settings', 0, 0)))),
    'does not read',
  ],
  [
    'headers that go on and on',
    () =>
      (function* () {
        yield frame('headers', 0, 1, block)
        const header = Buffer.concat([
          Buffer.from([0, 3]),
          Buffer.from('abc'),
          Buffer.from([100]),
          Buffer.alloc(100, 'x'),
        ])
        const more = Buffer.concat(Array.from({ length: 100 }, () => header))
        yield* repeat(2_000, () => frame('continuation', 0, 1, more))
      })(),
    'reads',
  ],
  [
    'empty pieces of headers',
    () =>
      (function* () {
        yield frame('headers', 0, 1, block)
        yield* repeat(100_000, () => frame('continuation', 0, 1))
      })(),
    'reads',
  ],
  [
    'more streams than it may open',
    () => repeat(2_000, (n) => frame('headers', endHeaders, 2 * n + 1, block)),
    'reads',
  ],
]

it.each(floods)('%s: the connection is ended, memory is not taken, and others are served', async (_, make, kind) => {
  globalThis.gc?.()
  const before = process.memoryUsage().rss
  const socket = await bare()
  if (kind === 'reads') socket.resume()
  else socket.pause()
  const poured = pour(socket, make())
  const other = await openSession(rig.url)
  for (let n = 0; n < 5; n++) {
    const started = performance.now()
    expect((await askAll(other, '/healthz')).status).toBe(200)
    expect(performance.now() - started).toBeLessThan(1_000)
  }
  socket.on('end', () => socket.destroy())
  await Promise.race([poured, eventually(() => socket.destroyed, 10_000)])
  // What is paused hears of the end only when it reads.
  socket.resume()
  await eventually(() => socket.destroyed, 10_000)
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20)
  expect((await askAll(other, '/stream', { body: { prompt: 'hi', model: sim({ text: 2 }) } })).body).toContain('"done"')
})

it('headers of more than 16 KiB are refused, and the connection lives on', async () => {
  const session = await openSession(rig.url)
  // By its answer the client has the server's settings.
  await askAll(session, '/healthz')
  const large = session.request({ ':path': '/healthz', x: 'x'.repeat(20_000) })
  const answer = await answerOf(large).then(
    ({ status }) => status,
    (error) => error.message,
  )
  expect(answer).toContain('ENHANCE_YOUR_CALM')
  expect((await askAll(session, '/healthz')).status).toBe(200)
})

it('requests that were reset before they were read have no error of ours', () => {
  expect(rig.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([])
})
