import { z } from 'zod'
import { logLevels } from './logger.ts'

const visible = /^[\x21-\x7e]{1,64}$/

/** As a map, or as OpenTelemetry's own variable has them: `name=value` with commas between, values percent-encoded. */
const otlpHeaders = z.preprocess(
  (value) => (typeof value === 'string' ? Object.fromEntries(pairsOf(value)) : value),
  z.record(
    z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/, 'has a name that no header can have'),
    z.string().regex(/^[\x20-\x7e]*$/, 'has a value that no header can have'),
  ),
)

/** The section `telemetry`. */
export const telemetrySettings = {
  log_level: z.enum(logLevels).default('info'),
  metrics: z.boolean().default(true),
  otlp_endpoint: z.url({ protocol: /^https?$/ }).optional(),
  otlp_headers: otlpHeaders.default({}),
  trace_sample_ratio: z.number().min(0).max(1).default(1),
  send_traceparent: z.boolean().default(false),
  service_name: z.string().regex(visible, 'must be 1 to 64 visible ASCII characters').default('sluice'),
}

function pairsOf(text: string): [name: string, value: string][] {
  const pairs = text.split(',').filter((pair) => pair.trim() !== '')
  return pairs.map((pair) => {
    const [name = '', ...rest] = pair.split('=')
    return [name.trim(), decoded(rest.join('=').trim())]
  })
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
