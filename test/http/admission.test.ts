import { expect, it, onTestFinished } from 'vitest'
import { refuseUnderPressure } from '../../src/http/admission.ts'
import { createServer, withErrorShape } from '../../src/http/server.ts'

const log = { isLevelEnabled: () => false, debug: () => {}, error: () => {} }

/** A server under pressure for as long as `pressure.reason` says so. */
async function serverUnder(pressure: { reason: string | undefined }) {
  const app = await createServer(
    {
      cors_origins: [],
      allowed_hosts: [],
      trusted_proxies: [],
      max_connections_per_address: 0,
      max_body_bytes: 1_000_000,
      headers_timeout_ms: 1_000,
      request_timeout_ms: 1_000,
    },
    log,
  )
  onTestFinished(() => app.close())
  refuseUnderPressure(app, pressure)
  app.route({ method: ['GET', 'POST', 'DELETE'], url: '/own', handler: async () => ({ served: true }) })
  await withErrorShape(
    app,
    log,
    ({ code }) => ({ status: 529, body: { foreign: code } }),
    (scope) => void scope.post('/foreign', async () => ({ served: true })),
  )
  return app
}

it('refuses what may begin a stream before it reads the body, each API in its own shape', async () => {
  const pressure: { reason: string | undefined } = { reason: 'heap' }
  const app = await serverUnder(pressure)
  const post = (url: string) =>
    // Not JSON: whoever had read it would complain.
    app.inject({ method: 'POST', url, headers: { 'content-type': 'application/json' }, payload: '{' })
  const own = await post('/own')
  expect([own.statusCode, own.headers['retry-after']]).toEqual([503, '1'])
  expect(own.json().error).toMatchObject({ code: 'too_many_streams', retryable: true })
  const foreign = await post('/foreign')
  expect([foreign.statusCode, foreign.headers['retry-after']]).toEqual([529, '1'])
  expect(foreign.json()).toEqual({ foreign: 'too_many_streams' })
  pressure.reason = undefined
  expect((await post('/own')).statusCode).toBe(400)
})

it('serves readers, stops and health checks meanwhile', async () => {
  const app = await serverUnder({ reason: 'memory' })
  expect((await app.inject({ method: 'GET', url: '/own' })).json()).toEqual({ served: true })
  expect((await app.inject({ method: 'DELETE', url: '/own' })).json()).toEqual({ served: true })
})
