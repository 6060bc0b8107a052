import { trace } from '@opentelemetry/api'
import { describe, expect, it } from 'vitest'
import { Traces } from '../../src/telemetry/traces.ts'
import { eventually, fetchAll } from '../support/client.ts'
import { type Collector, startCollector } from '../support/collector.ts'
import { report } from '../support/reports.ts'
import { sim, startRig } from '../support/sluice.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const callerSpan = '00f067aa0ba902b7'
const traceparent = `00-${traceId}-${callerSpan}-01`

const retrying = { SLUICE_RETRY__MAX_ATTEMPTS: '1', SLUICE_RECOVERY__MAX_ATTEMPTS: '1' }

const traced = (collector: Collector, env: Record<string, string> = {}) =>
  startRig({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...retrying, ...env } })

/** Asks, and has what there is of traces sent. */
async function askAll(rig: Awaited<ReturnType<typeof traced>>, models: readonly string[], headers = {}) {
  const bodies: string[] = []
  for (const model of models) {
    bodies.push((await fetchAll(`${rig.url}/stream`, { body: { prompt: 'PROMPTCANARY', model }, headers })).body)
  }
  await eventually(() => rig.log.filter(({ message }) => message === 'stream ended').length >= models.length)
  await rig.app.shutDown()
  return bodies
}

describe('the trace of a run', () => {
  it('stands in that of its caller, and tells what it was', async () => {
    const collector = await startCollector()
    const rig = await traced(collector, {
      OTEL_SERVICE_NAME: 'chat',
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20b,x-other=1',
      SLUICE_TELEMETRY__SEND_TRACEPARENT: 'true',
    })
    const before = Date.now()
    const [body = ''] = await askAll(rig, [sim({ text: 5 })], { traceparent })
    const [run, call, ...others] = collector.spans
    expect(others).toEqual([])
    expect(run).toMatchObject({ traceId, parentSpanId: callerSpan, kind: 2, status: {} })
    expect(run?.resource).toMatchObject({ 'service.name': 'chat', 'service.version': expect.stringMatching(/^\d/) })
    expect(run?.name).toBe(`chat ${sim({ text: 5 })}`)
    expect(run?.attributes).toMatchObject({
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'anthropic',
      'gen_ai.request.model': sim({ text: 5 }),
      'gen_ai.response.model': expect.any(String),
      'gen_ai.response.id': expect.stringMatching(/^msg_/),
      'gen_ai.response.finish_reasons': ['end_turn'],
      'gen_ai.usage.output_tokens': expect.any(Number),
      'sluice.status': 'done',
      'sluice.stream': /"stream":"(s_[^"]+)"/.exec(body)?.[1],
    })
    expect(run?.events.map(({ name }) => name)).toEqual(['first_token'])
    expect(Number(run?.startTimeUnixNano) / 1e6).toBeGreaterThan(before - 50)
    expect(Number(run?.endTimeUnixNano)).toBeGreaterThan(Number(run?.startTimeUnixNano))
    expect(call).toMatchObject({ traceId, parentSpanId: run?.spanId, kind: 3 })
    expect(call?.attributes).toMatchObject({ 'sluice.attempt.kind': 'first', 'server.address': '127.0.0.1' })
    // Claude hears of the call, and the log line can be found by the trace.
    expect(rig.simulator.requests[0]?.headers['traceparent']).toBe(`00-${traceId}-${call?.spanId}-01`)
    expect(rig.log.find(({ message }) => message === 'stream ended')).toMatchObject({ trace_id: traceId })
    expect(collector.headers[0]).toMatchObject({ ':path': '/v1/traces', 'x-key': 'a b', 'x-other': '1' })
  })

  it('has a span for each call, and says what failed and how it went on', async () => {
    const collector = await startCollector()
    const rig = await traced(collector)
    await askAll(rig, [
      sim({ text: 20, reset_at: 12 }),
      sim({ status: 529, fail_first: 1 }),
      sim({ text: 9, junk_at: 4 }),
    ])
    const runs = collector.spans.filter(({ kind }) => kind === 2)
    const callsOf = (run: (typeof runs)[number] | undefined) =>
      collector.spans
        .filter(({ parentSpanId }) => parentSpanId === run?.spanId)
        .map(({ attributes, status }) => [attributes['sluice.attempt.kind'], status.message])
    const [healed, retried, broken] = runs
    expect(callsOf(healed)).toEqual([
      ['first', 'upstream_truncated'],
      ['quote', undefined],
    ])
    expect(healed?.events.find(({ name }) => name === 'recovery')?.attributes).toMatchObject({
      'error.type': 'upstream_truncated',
    })
    expect(callsOf(retried)).toEqual([
      ['first', 'upstream_overloaded'],
      ['retry', undefined],
    ])
    expect(broken?.status).toEqual({ code: 2, message: 'upstream_protocol' })
    expect(broken?.attributes).toMatchObject({ 'error.type': 'upstream_protocol', 'sluice.status': 'error' })
    // Without a caller's, each has a trace of its own; and nothing of a conversation is in any.
    expect(new Set(runs.map(({ traceId }) => traceId)).size).toBe(3)
    expect(collector.bodies.join()).not.toMatch(/PROMPTCANARY|test-key/)
    expect(rig.simulator.requests.some(({ headers }) => 'traceparent' in headers)).toBe(false)
  })

  it('is not kept when its caller, or the ratio, says so', async () => {
    const collector = await startCollector()
    const unsampled = await traced(collector)
    await askAll(unsampled, [sim({ text: 2 })], { traceparent: traceparent.replace(/01$/, '00') })
    const none = await traced(collector, { SLUICE_TELEMETRY__TRACE_SAMPLE_RATIO: '0' })
    await askAll(none, [sim({ text: 2 })])
    expect(collector.spans).toEqual([])
  })

  it('makes nobody else trace: there is no provider for all', async () => {
    const collector = await startCollector()
    await askAll(await traced(collector), [sim({ text: 2 })])
    expect(trace.getTracer('anybody').startSpan('x').isRecording()).toBe(false)
  })
})

describe('a collector that', () => {
  it.each([
    ['refuses', (response: import('node:http').ServerResponse) => void response.writeHead(400).end('no')],
    ['hangs', () => {}],
    ['hangs up', (response: import('node:http').ServerResponse) => void response.destroy()],
  ])('%s costs streams nothing, and the end of the process half a second', async (_, answer) => {
    const rig = await traced(await startCollector(answer))
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        fetchAll(`${rig.url}/stream`, { body: { prompt: 'hi', model: sim({ text: 3 }) } }),
      ),
    )
    for (const { body } of answers) expect(body).toContain('"type":"done"')
    const before = performance.now()
    await rig.app.shutDown()
    expect(performance.now() - before).toBeLessThan(1_900)
  })

  it('is not there is told once, and so is that it is back', async () => {
    const log: string[] = []
    const spans = { exported: 0, failed: 0, dropped: 0 }
    let status = 400
    const { url } = await startCollector((response) => void response.writeHead(status).end('{}'))
    const traces = openTraces(url, log, spans)
    for (let n = 1; n <= 2; n++) {
      traces.record(sampled)
      await eventually(() => spans.failed === 2 * n)
    }
    status = 200
    traces.record(sampled)
    await eventually(() => spans.exported === 2)
    expect(log).toEqual(['traces cannot be exported', 'traces are exported again'])
    await traces.close()
  })

  it('hangs has so many spans waiting for it, and no more', async () => {
    const spans = { exported: 0, failed: 0, dropped: 0 }
    const { url } = await startCollector(() => {})
    const traces = openTraces(url, [], spans, 60_000)
    for (let n = 0; n < 2_000; n++) traces.record(sampled)
    expect(spans.dropped).toBe(4_000 - 2_048)
    await traces.close()
  })
})

const sampled = { ...report, trace: { traceId, spanId: callerSpan, sampled: true } }

function openTraces(endpoint: string, log: string[], spans: Record<string, number>, exportMs = 500): Traces {
  return new Traces({
    ...{ endpoint, headers: {}, service: 'sluice', version: '1', worker: undefined, server: 'claude.test' },
    ...{ gatherMs: 10, exportMs },
    log: { warn: (_, message) => void log.push(message), info: (_, message) => void log.push(message) },
    onSpans: (result, count) => {
      spans[result] = (spans[result] ?? 0) + count
    },
  })
}
