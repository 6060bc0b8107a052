import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { serve } from './serve.ts'

/** A span as OTLP has it in JSON, with its attributes as a map. */
export interface SeenSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly status: { readonly code?: number; readonly message?: string }
  readonly attributes: Readonly<Record<string, unknown>>
  readonly events: readonly { readonly name: string; readonly attributes: Readonly<Record<string, unknown>> }[]
  /** Of whoever sent it. */
  readonly resource: Readonly<Record<string, unknown>>
}

export interface Collector {
  readonly url: string
  readonly spans: SeenSpan[]
  readonly headers: IncomingHttpHeaders[]
  /** Bodies, as they came. */
  readonly bodies: string[]
}

type Attribute = { key: string; value: Record<string, unknown> }

/** An OpenTelemetry collector that takes traces over HTTP in JSON; `answer` may do something else with a request. */
export async function startCollector(
  answer: (response: ServerResponse, request: IncomingMessage) => void = (response) =>
    void response.setHeader('content-type', 'application/json').end('{}'),
): Promise<Collector> {
  const seen = { spans: [] as SeenSpan[], headers: [] as IncomingHttpHeaders[], bodies: [] as string[] }
  const url = await serve((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text) => {
      body += text
    })
    request.on('end', () => {
      seen.headers.push({ ...request.headers, ':path': request.url ?? '' } as IncomingHttpHeaders)
      seen.bodies.push(body)
      for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
        for (const span of scopeSpans.flatMap((scope: { spans: unknown[] }) => scope.spans)) {
          const events = span.events.map((event: { name: string; attributes: Attribute[] }) => ({
            name: event.name,
            attributes: mapOf(event.attributes),
          }))
          const attributes = mapOf(span.attributes)
          seen.spans.push({ ...span, attributes, events, resource: mapOf(resource.attributes) })
        }
      }
      answer(response, request)
    })
  })
  return { url, ...seen }
}

function mapOf(attributes: readonly Attribute[] = []): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plain(value)]))
}

function plain(value: Record<string, unknown>): unknown {
  const [[kind, content] = []] = Object.entries(value)
  if (kind === 'arrayValue') return (content as { values: Record<string, unknown>[] }).values.map(plain)
  return kind === 'intValue' ? Number(content) : content
}
