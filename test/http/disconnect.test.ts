import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { eventually, fetchAll, open } from '../support/client.ts'
import { type Rig, sim, startRig } from '../support/sluice.ts'

const slow = sim({ text: 2000, delay_ms: 5 })

/** Sends a request on a bare socket; destroying it is what a closed tab does. */
function post(rig: Rig, body: object, path = '/stream') {
  const { port } = new URL(rig.url)
  const socket = connect(Number(port), '127.0.0.1')
  const text = JSON.stringify(body)
  socket.on('error', () => {})
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  )
  return socket
}

const upstream = (rig: Rig) => eventually(() => rig.simulator.requests[0])

/** How long upstream stayed open after `since`, in milliseconds. */
async function closedAfter(rig: Rig, since: number): Promise<number> {
  const seen = await upstream(rig)
  return (await eventually(() => seen.abortedAt)) - since
}

describe('when the last reader leaves', () => {
  it('cancel closes upstream at once', async () => {
    const rig = await startRig()
    const stream = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: slow, on_disconnect: 'cancel' } })
    await stream.until('"text"')
    const left = performance.now()
    stream.destroy()
    expect(await closedAfter(rig, left)).toBeLessThan(50)
    const snapshot = await fetchAll(`${rig.url}/streams/${stream.headers['x-stream-id']}`, {
      headers: { accept: 'application/json' },
    })
    expect(JSON.parse(snapshot.body)).toMatchObject({ status: 'cancelled', by: 'client', usage: { measured: false } })
    await eventually(() => rig.log.some((line) => line['status'] === 'cancelled' && line['by'] === 'client'))
  })

  it.each([
    ['while upstream has not answered', { headers_ms: 5_000 }],
    ['while upstream has sent nothing but its headers', { first_ms: 5_000 }],
    ['while upstream sends only pings', { pings_at: 0 }],
    ['in the middle of the answer', { text: 2000, delay_ms: 5 }],
  ])('cancel closes upstream %s', async (_, scenario) => {
    const rig = await startRig({ env: { SLUICE_STREAMS__COMMIT_AFTER_MS: '100' } })
    const socket = post(rig, { prompt: 'hi', model: sim(scenario), on_disconnect: 'cancel' })
    await upstream(rig)
    const left = performance.now()
    socket.destroy()
    expect(await closedAfter(rig, left)).toBeLessThan(100)
    await eventually(() => rig.app.streams.live === 0)
  })

  it('grace waits grace_ms, then closes upstream', async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__GRACE_MS: '200' } })
    const stream = await open(`${rig.url}/stream?prompt=hi&model=${encodeURIComponent(slow)}`)
    await stream.until('"text"')
    const left = performance.now()
    stream.destroy()
    const elapsed = await closedAfter(rig, left)
    expect(elapsed).toBeGreaterThan(150)
    expect(elapsed).toBeLessThan(350)
  })

  it('grace goes on when somebody comes back in time', async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__GRACE_MS: '150' } })
    const first = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 60, delay_ms: 10 }) } })
    await first.until('"text"')
    first.destroy()
    const second = await open(`${rig.url}/streams/${first.headers['x-stream-id']}`)
    expect(await second.ended).toContain('"type":"done"')
    expect(rig.simulator.requests[0]?.abortedAt).toBeUndefined()
  })

  it('stays open as long as one of several readers is there', async () => {
    const rig = await startRig()
    const first = await open(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 30, delay_ms: 10 }), on_disconnect: 'cancel' },
    })
    const second = await open(`${rig.url}/streams/${first.headers['x-stream-id']}`)
    await second.until('"text"')
    first.destroy()
    expect(await second.ended).toContain('"type":"done"')
  })

  it('finish goes on to the end without anybody', async () => {
    const rig = await startRig({ env: { SLUICE_STREAMS__GRACE_MS: '0' } })
    const stream = await open(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 40, delay_ms: 3 }), on_disconnect: 'finish' },
    })
    await stream.until('"text"')
    stream.destroy()
    await eventually(() => rig.simulator.requests[0]?.finished)
    const replay = await fetchAll(`${rig.url}/streams/${stream.headers['x-stream-id']}`)
    expect(replay.body).toContain('"type":"done"')
  })
})

it('a detached run finishes unless told otherwise', async () => {
  const rig = await startRig({ env: { SLUICE_STREAMS__GRACE_MS: '50' } })
  const create = (extra: object) =>
    fetchAll(`${rig.url}/stream`, {
      body: { prompt: 'hi', model: sim({ text: 60, delay_ms: 5 }), ...extra },
      headers: { accept: 'application/json' },
    })
  const status = async (id: string) =>
    JSON.parse((await fetchAll(`${rig.url}/streams/${id}`, { headers: { accept: 'application/json' } })).body).status
  const finishing = JSON.parse((await create({})).body).id
  const abandoned = JSON.parse((await create({ on_disconnect: 'grace' })).body).id
  await eventually(async () => (await status(abandoned)) === 'cancelled')
  await eventually(async () => (await status(finishing)) === 'done')
})

it('reading a snapshot is no reading: it neither holds nor ends a run', async () => {
  const rig = await startRig()
  const created = await fetchAll(`${rig.url}/stream`, {
    body: { prompt: 'hi', model: sim({ text: 30, delay_ms: 5 }), on_disconnect: 'cancel' },
    headers: { accept: 'application/json' },
  })
  const { id } = JSON.parse(created.body)
  await fetchAll(`${rig.url}/streams/${id}`, { headers: { accept: 'application/json' } })
  await fetchAll(`${rig.url}/streams/${id}?after=0`)
  expect(rig.simulator.requests[0]?.abortedAt).toBeUndefined()
})

it('a request whose client is gone before it is read costs nothing for long', async () => {
  const rig = await startRig({ env: { SLUICE_STREAMS__GRACE_MS: '0' } })
  for (let n = 0; n < 50; n++) post(rig, { prompt: 'hi', model: slow, on_disconnect: 'cancel' }).end().destroySoon()
  await eventually(() => rig.app.streams.live === 0 && rig.simulator.open === 0, 5_000)
})
