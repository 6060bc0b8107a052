import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { WireEvent } from '../../src/core/codec.ts'
import { Delta, eventOpening } from '../../src/core/delta.ts'
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

const message = (id: string): LogEvent[] => [
  {
    type: 'message_start',
    message: { id, type: 'message', role: 'assistant', model: 'm', content: [], usage },
  } as never,
]
const block = (index: number, content_block: object, ...deltas: LogEvent[]): LogEvent[] => [
  { type: 'content_block_start', index, content_block } as never,
  ...deltas,
  { type: 'content_block_stop', index },
]
const messageEnd = (stop_reason: string): LogEvent[] => [
  { type: 'message_delta', delta: { stop_reason, stop_sequence: null }, usage: { output_tokens: 7 } } as never,
  { type: 'message_stop' },
]
const call = (index: number, name: string, id: string): LogEvent[] =>
  block(index, { type: 'tool_use', id, name, input: {} }, new Delta('input_json', index, '{\\"n\\":1}'))
const saying = (index: number, text: string): LogEvent[] =>
  block(index, { type: 'text', text: '' }, new Delta('text', index, text), new Delta('text', index, ' and'))

/** The log of an answer in steps, with all that tools of the server's can bring about. */
export function toolLog(): LogEvent[] {
  const odd = JSON.stringify({
    type: 'content_block_delta',
    index: 2,
    delta: { type: 'text_delta', text: 'odd', more: 1 },
  })
  const signature = { type: 'content_block_delta', index: 0, delta: { type: 'signature_delta', signature: 'c2ln' } }
  const one = { id: 'toolu_1', name: 'look' }
  const two = { id: 'toolu_2', name: 'act' }
  return [
    { ...start, tools: ['look', 'act'] } as LogEvent,
    ...message('msg_1'),
    ...block(0, { type: 'thinking', thinking: '', signature: '' }, new Delta('thinking', 0, 'hm'), signature as never),
    ...saying(1, 'First'),
    ...call(2, 'look', 'toolu_1'),
    ...call(3, 'act', 'toolu_2'),
    ...messageEnd('tool_use'),
    { type: 'tool_approval', ...two, input: { n: 1 }, expires_at: '2026-11-21T12:00:00.000Z' },
    { type: 'tool_progress', ...one, text: 'half way' },
    { type: 'tool_result', ...one, content: 'two\nlines', is_error: false },
    { type: 'tool_decision', ...two, decision: 'approved', input: { n: 2 } },
    { type: 'tool_result', ...two, content: [{ type: 'text', text: 'a block' }], is_error: true },
    ...message('msg_2'),
    ...call(0, 'act', 'toolu_3'),
    ...saying(1, 'Second'),
    ...block(2, { type: 'text', text: '' }, new Delta('text', 2, 'odd', odd)),
    ...messageEnd('tool_use'),
    { type: 'tool_approval', ...two, id: 'toolu_3', input: { n: 1 }, expires_at: '2026-11-21T12:00:00.000Z' },
    { type: 'tool_decision', ...two, id: 'toolu_3', decision: 'expired' },
    { type: 'tool_result', ...two, id: 'toolu_3', content: 'The user denied this call.', is_error: true },
    ...message('msg_3'),
    ...block(0, { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {} }),
    ...messageEnd('pause_turn'),
    ...message('msg_4'),
    ...block(0, { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] }),
    ...saying(1, 'Last'),
    ...messageEnd('end_turn'),
    done,
  ]
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
