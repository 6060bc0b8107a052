import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { WireEvent } from '../../src/core/codec.ts'
import { type Delta, eventOpening } from '../../src/core/delta.ts'
import type { DoneEvent, ErrorEvent, LogEvent } from '../../src/core/events.ts'
import type { Format } from '../../src/core/format.ts'
import type { LogReader } from '../../src/core/ports.ts'
import { Frames } from '../../src/core/sse.ts'
import { EventDecoder } from '../../src/upstream/decode.ts'

/** A reader that is not interested. */
export const nobody: LogReader = { wake() {} }

/** A delta as Claude's JSON. */
export function jsonOf({ kind, index, escaped, raw }: Delta): string {
  return raw ?? `${eventOpening(kind, index)}${escaped}"}}`
}

export const streamId = `s_${'A'.repeat(22)}`

const timing = { ttft_ms: 1, duration_ms: 2, tokens_per_second: null }
const usage = { input_tokens: 1, output_tokens: 1 }

export const start: LogEvent = {
  type: 'start',
  stream: streamId,
  model: 'claude-test',
  created: 1_790_000_000,
  echo: {},
}

export const done: DoneEvent = {
  type: 'done',
  stop_reason: 'end_turn',
  usage,
  cost_usd: null,
  timing,
  recovered: 0,
  upstream_request_id: null,
}

export const failed: ErrorEvent = {
  type: 'error',
  error: { code: 'upstream_truncated', message: 'It ended early.', retryable: true },
  partial: true,
  usage,
  timing,
}

/** The events of an upstream body that comes in one read and ends cleanly. */
export function decode(body: Buffer | string, maxEventBytes = 1 << 20): WireEvent[] {
  const events: WireEvent[] = []
  const decoder = new EventDecoder(maxEventBytes)
  decoder.feed([Buffer.from(body)], events)
  decoder.end(events)
  return events
}

/** The log a run makes of a recording. */
export function logOf(recording: Buffer): LogEvent[] {
  const events = decode(recording)
  const content = events.filter((event) => event.type !== 'ping' && event.type !== 'wire_error')
  const whole = content.some((event) => event.type === 'message_stop')
  return [start, ...content, whole ? done : failed]
}

/** What a client that has frame `after` gets of a log. */
export function fold(format: Format, events: Iterable<LogEvent>, after = 0): string {
  const frames = new Frames(streamId, after)
  const encode = format.encoder()
  for (const event of events) encode(event, frames)
  return frames.take()
}

/** What an SSE client makes of a body. */
export function parse(body: string): EventSourceMessage[] {
  const messages: EventSourceMessage[] = []
  const parser = createParser({ onEvent: (message) => void messages.push(message) })
  parser.feed(body)
  return messages
}
