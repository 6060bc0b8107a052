import type { Answer } from './answer.ts'
import { type WireEvent, wire } from './compose.ts'
import type { Scenario } from './scenario.ts'

/** What the simulated Claude does next on an open response. `bytes` are latin1: one character is one byte. */
export type Step =
  | { readonly do: 'send'; readonly bytes: string; readonly delta: boolean }
  | { readonly do: 'wait'; readonly milliseconds: number }
  | { readonly do: 'end' }
  | { readonly do: 'reset' }
  | { readonly do: 'silence' }
  | { readonly do: 'pings' }
  | { readonly do: 'endless line' }

const isDelta = /^event: content_block_delta/

/** How a body goes on instead of with another event. */
export type Ending = Exclude<Step['do'], 'send' | 'wait'>

/** Whole events of a body, with the faults that a scenario asks for. The last step says how the body ends. */
export function perform(answer: Answer, scenario: Scenario): Generator<Step> {
  const { end_at_byte, reset_at_byte, lines } = scenario
  const steps = performEvents(answer, scenario)
  // Each layer costs at full speed, and most scenarios need no second one.
  const asTheyAre = end_at_byte === undefined && reset_at_byte === undefined && (lines ?? 'lf') === 'lf'
  return asTheyAre ? steps : performBytes(steps, scenario)
}

function* performBytes(steps: Iterable<Step>, scenario: Scenario): Generator<Step> {
  const byteLimit = Math.min(
    scenario.end_at_byte ?? Number.POSITIVE_INFINITY,
    scenario.reset_at_byte ?? Number.POSITIVE_INFINITY,
  )
  let sent = 0
  for (const step of steps) {
    if (step.do === 'wait') {
      yield step
      continue
    }
    if (step.do !== 'send') return yield step
    const bytes = asLines(step.bytes, scenario.lines)
    if (sent + bytes.length >= byteLimit) {
      yield { ...step, bytes: bytes.slice(0, byteLimit - sent) }
      return yield { do: byteLimit === scenario.reset_at_byte ? 'reset' : 'end' }
    }
    sent += bytes.length
    yield { ...step, bytes }
  }
}

function* performEvents({ events, waits, cut }: Answer, scenario: Scenario): Generator<Step> {
  let at = 0
  for (const event of events) {
    if (waits) yield* waitBefore(at, waits)
    const end = endAt(at, scenario)
    if (end === 'error') yield send(wire(errorEvent(scenario)))
    if (end) return yield { do: end === 'error' ? 'end' : end }
    if (at === scenario.unknown_at) for (const unknown of unknownEvents) yield send(wire(unknown))
    yield at === scenario.junk_at ? send(event.replace('data: {', 'data: {{')) : send(event)
    at++
  }
  yield* waitBefore(at, waits)
  yield { do: cut ? 'reset' : 'end' }
}

function* waitBefore(at: number, waits: Answer['waits']): Generator<Step> {
  const milliseconds = waits?.[at]
  if (milliseconds) yield { do: 'wait', milliseconds }
}

/** How the body goes on instead of with its event number `at`. */
function endAt(at: number, scenario: Scenario): Ending | 'error' | undefined {
  switch (at) {
    case scenario.end_at:
      return 'end'
    case scenario.reset_at:
      return 'reset'
    case scenario.silence_at:
      return 'silence'
    case scenario.pings_at:
      return 'pings'
    case scenario.endless_line_at:
      return 'endless line'
    case scenario.error_at:
      return 'error'
    default:
      return undefined
  }
}

let lastSend: Extract<Step, { do: 'send' }> | undefined

/** `wire` gives the same string for the same event; the same step serves for it. */
function send(bytes: string): Step {
  if (lastSend?.bytes !== bytes) lastSend = { do: 'send', bytes, delta: isDelta.test(bytes) }
  return lastSend
}

function asLines(bytes: string, lines: Scenario['lines']): string {
  if (lines === 'crlf') return bytes.replaceAll('\n', '\r\n')
  return lines === 'cr' ? bytes.replaceAll('\n', '\r') : bytes
}

/** An event, a block and a delta that no SDK knows yet. */
const unknownEvents: readonly WireEvent[] = [
  { type: 'weather_report', forecast: { sky: 'clear' } },
  { type: 'content_block_start', index: 900, content_block: { type: 'hologram', voxels: 8 } },
  { type: 'content_block_delta', index: 900, delta: { type: 'voxel_delta', voxels: 64, colour: 'blue' } },
  { type: 'content_block_stop', index: 900 },
]

const typesByStatus: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  409: 'conflict_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  500: 'api_error',
  504: 'timeout_error',
  529: 'overloaded_error',
}

/** The body of a failed request, and of an `error` event. */
export function errorEvent(scenario: Scenario): WireEvent {
  const type =
    scenario.error ?? (scenario.status ? (typesByStatus[scenario.status] ?? 'api_error') : 'overloaded_error')
  const details = scenario.error_code ? { error_code: scenario.error_code } : null
  const message = scenario.message ?? (type === 'overloaded_error' ? 'Overloaded' : `Simulated ${type}`)
  return { type: 'error', error: { details, type, message }, request_id: 'req_sim_error' }
}
