import { afterAll, describe, expect, it } from 'vitest'
import { holder, lettingIn } from '../support/access.ts'
import { eventually, fetchAll, open } from '../support/client.ts'
import { type Series, scrape } from '../support/metrics.ts'
import { startRedis } from '../support/redis.ts'
import { openRig, sim, startRig } from '../support/sluice.ts'

const prices = { input: 1, output: 1, cache_read: 1, cache_write_5m: 1, cache_write_1h: 1 }
const known = sim({ text: 5 })
const rig = await openRig({
  env: {
    SLUICE_UPSTREAM__PRICES: JSON.stringify({ [known]: prices }),
    SLUICE_TIMEOUTS__SILENCE_MS: '100',
    SLUICE_RETRY__MAX_ATTEMPTS: '1',
    SLUICE_RECOVERY__MAX_ATTEMPTS: '1',
    SLUICE_STREAMS__GRACE_MS: '0',
  },
})
afterAll(() => rig.close())

/** What `work` has added to each series, once `key` is among it: a run is counted right behind its last frame. */
async function addedBy(work: () => Promise<unknown>, key: string): Promise<(key: string) => number> {
  const before = await scrape(rig.url)
  await work()
  const more = (after: Series, key: string) => (after.get(key) ?? 0) - (before.get(key) ?? 0)
  const after = await eventually(async () => {
    const now = await scrape(rig.url)
    return more(now, key) > 0 && now
  })
  return (key) => more(after, key)
}

const ask = (model: string) => fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model } })
const ended = (status: string, reason: string) => `sluice_streams_ended_total{reason="${reason}",status="${status}"}`

describe('after a stream that', () => {
  it('is done, its tokens, times and cost are counted', async () => {
    const added = await addedBy(() => ask(known), ended('done', 'end_turn'))
    expect(added(ended('done', 'end_turn'))).toBe(1)
    expect(added('sluice_streams_started_total')).toBe(1)
    expect(added('sluice_http_requests_total{method="POST",route="/stream",status="200"}')).toBe(1)
    const label = `gen_ai_request_model="${known}"`
    expect(added(`sluice_tokens_total{${label},kind="output"}`)).toBeGreaterThan(0)
    expect(added(`sluice_cost_usd_total{${label}}`)).toBeGreaterThan(0)
    const all = `gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",${label}`
    expect(added(`gen_ai_server_time_to_first_token_seconds_count{${all}}`)).toBe(1)
    expect(added(`gen_ai_client_operation_duration_seconds_count{${all}}`)).toBe(1)
  })

  it('fails before it begins, its error is counted as HTTP sees it, too', async () => {
    const added = await addedBy(() => ask(sim({ status: 400 })), ended('error', 'upstream_invalid_request'))
    expect(added('sluice_http_errors_total{code="upstream_invalid_request"}')).toBe(1)
    expect(added('sluice_http_requests_total{method="POST",route="/stream",status="400"}')).toBe(1)
  })

  it('is retried, the extra call is counted', async () => {
    const added = await addedBy(() => ask(sim({ text: 3, status: 529, fail_first: 1 })), ended('done', 'end_turn'))
    expect(added('sluice_extra_calls_total{kind="retry",reason="upstream_overloaded"}')).toBe(1)
  })

  it('is lost in its middle and healed, so is the continuation, and what has fired', async () => {
    const added = await addedBy(() => ask(sim({ text: 20, silence_at: 12 })), ended('done', 'end_turn'))
    expect(added('sluice_extra_calls_total{kind="continuation",reason="upstream_stalled"}')).toBe(1)
    expect(added('sluice_clocks_fired_total{clock="silence_ms"}')).toBe(1)
    expect(added('sluice_streams_recovered_total')).toBe(1)
  })

  it('is left by its reader, that is how it ended', async () => {
    const leave = async () => {
      const stream = await open(`${rig.url}/stream`, {
        body: { prompt: 'hi', model: sim({ text: 500, delay_ms: 10 }) },
      })
      await stream.until('"text"')
      const live = await scrape(rig.url)
      expect([live.get('sluice_streams_live'), live.get('sluice_readers')]).toEqual([1, 1])
      stream.destroy()
    }
    const added = await addedBy(leave, ended('cancelled', 'client'))
    expect(added(ended('cancelled', 'client'))).toBe(1)
  })
})

it('latency that Sluice adds is sampled while streams run', async () => {
  const added = await addedBy(
    () =>
      fetchAll(`${rig.url}/stream?${new URLSearchParams({ prompt: 'hi', model: sim({ text: 60, delay_ms: 10 }) })}`),
    'sluice_added_latency_seconds_count',
  )
  expect(added('sluice_added_latency_seconds_bucket{le="1"}')).toBe(added('sluice_added_latency_seconds_count'))
})

it('lists the streams under way', async () => {
  const stream = await open(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 500, delay_ms: 10 }) } })
  await stream.until('"text"')
  const [run, ...others] = rig.app.streams.list()
  expect(others).toEqual([])
  expect(run).toMatchObject({ state: 'streaming', readers: 1, recoveries: 0, principal: '' })
  expect(run?.stream).toBe(stream.headers['x-stream-id'])
  expect(run?.ttftMs).toBeLessThanOrEqual(run?.ageMs as number)
  stream.destroy()
  await eventually(() => rig.app.streams.list().length === 0)
})

it('routes are named by their pattern: what a client writes into an address is no label', async () => {
  const secret = 'CANARYROUTE'
  await fetchAll(`${rig.url}/streams/${secret}`)
  await fetchAll(`${rig.url}/${secret}?${secret}`)
  const series = await eventually(async () => {
    const now = await scrape(rig.url)
    return now.has('sluice_http_requests_total{method="GET",route="none",status="404"}') && now
  })
  expect(series.get('sluice_http_requests_total{method="GET",route="/streams/:id",status="404"}')).toBeGreaterThan(0)
  expect([...series.keys()].join('\n')).not.toContain(secret)
})

it('no canary reaches the metrics', async () => {
  const secrets = ['KEYCANARY1', 'PROMPTCANARY2', 'MODELCANARY3', 'NAMECANARY4', 'FIELDCANARY5']
  const [key, prompt, model, name, field] = secrets as [string, string, string, string, string]
  const client = holder(name)
  const noisy = await startRig({ env: { ANTHROPIC_API_KEY: key, ...lettingIn(client) } })
  const headers = { ...client.bearer, 'x-request-id': field, 'user-agent': field }
  for (const scenario of [{ text: 2 }, { status: 401 }, { text: 9, end_at: 5 }, { status: 400, message: field }]) {
    await fetchAll(`${noisy.url}/stream`, { body: { prompt, model: sim({ ...scenario, error_code: model }) }, headers })
  }
  await fetchAll(`${noisy.url}/stream`, { body: { prompt, [field]: field }, headers })
  await fetchAll(`${noisy.url}/stream`, { body: { prompt }, headers: { 'x-api-key': field } })
  // The clients' keys are not asked for here, and worth nothing.
  const { status, body } = await fetchAll(`${noisy.url}/metrics`)
  expect(status).toBe(200)
  expect(body).toContain('sluice_http_errors_total{code="unauthorized"} 1')
  for (const secret of [...secrets, client.key]) expect(body).not.toContain(secret)
})

it('tell that Redis is away, and that it is back', { timeout: 15_000 }, async () => {
  await using redis = await startRedis()
  const { url } = await startRig({ env: { REDIS_URL: redis.url } })
  expect((await scrape(url)).get('sluice_redis_up')).toBe(1)
  await redis.kill()
  await eventually(async () => (await scrape(url)).get('sluice_redis_up') === 0)
  await redis.start()
  await eventually(async () => (await scrape(url)).get('sluice_redis_up') === 1, 5_000)
})

describe('who asks for /metrics', () => {
  it('from this machine through a proxy gets what is not there, trusted or not', async () => {
    const { url } = await startRig({ env: { SLUICE_SERVER__TRUSTED_PROXIES: '127.0.0.1' } })
    expect((await fetchAll(`${url}/metrics`)).status).toBe(200)
    const forwarded = await fetchAll(`${url}/metrics`, { headers: { 'x-forwarded-for': '127.0.0.1' } })
    const unknown = await fetchAll(`${url}/nothing`)
    expect(forwarded.status).toBe(404)
    expect(JSON.parse(forwarded.body).error.message).toBe(JSON.parse(unknown.body).error.message)
  })

  it('needs the token where there is one', async () => {
    const token = 'operators-token-0123456789'
    const client = holder('app')
    const { url } = await startRig({ env: { OPS_TOKEN: token, ...lettingIn(client) } })
    expect(await fetchAll(`${url}/metrics`)).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } })
    expect((await fetchAll(`${url}/metrics`, { headers: client.bearer })).status).toBe(401)
    const served = await fetchAll(`${url}/metrics`, { headers: { authorization: `Bearer ${token}` } })
    expect(served.status).toBe(200)
    expect(served.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    // And the token opens nothing else.
    const asked = { body: { prompt: 'hi' }, headers: { authorization: `Bearer ${token}` } }
    expect((await fetchAll(`${url}/stream`, asked)).status).toBe(401)
  })

  it('finds nothing where they are off', async () => {
    const { url } = await startRig({ env: { SLUICE_TELEMETRY__METRICS: 'false' } })
    expect((await fetchAll(`${url}/metrics`)).status).toBe(404)
  })
})
