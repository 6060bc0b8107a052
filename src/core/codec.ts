import { Delta, type DeltaKind, deltaShapes, escapeJson, perBlock } from './delta.ts'
import type { ClaudeEvent, LogEvent, PingEvent, UnknownEvent } from './events.ts'
import { isObject } from './object.ts'

/** Claude's own report of a failure inside a stream, `event: error` on the wire. */
export interface WireError {
  readonly type: 'wire_error'
  readonly error: { readonly type: string; readonly message: string }
}

/** What one `data:` of Claude's can be. */
export type WireEvent = ClaudeEvent | Delta | UnknownEvent | PingEvent | WireError

/** `data` is not an event of Claude's; `reason` says why, without quoting it. */
export class MalformedEvent extends Error {}

type Fields = Record<string, unknown>

function isTyped(value: unknown): value is Fields & { type: string } {
  return isObject(value) && typeof value['type'] === 'string'
}

/** What must hold of each event of Claude's before anything downstream may rely on its type. */
const shapes: Record<ClaudeEvent['type'], (event: Fields) => boolean> = {
  message_start: (event) => isObject(event['message']),
  content_block_start: (event) => Number.isInteger(event['index']) && isTyped(event['content_block']),
  content_block_delta: (event) => Number.isInteger(event['index']) && isTyped(event['delta']),
  content_block_stop: (event) => Number.isInteger(event['index']),
  message_delta: (event) => isObject(event['delta']),
  message_stop: () => true,
}

/**
 * Reads the JSON of one event.
 * @throws MalformedEvent
 */
export function parseWireEvent(json: string): WireEvent {
  let event: unknown
  try {
    event = JSON.parse(json)
  } catch {
    // The parser's own message quotes the data, which is content.
    throw new MalformedEvent(`invalid JSON in an event of ${json.length} characters`)
  }
  if (!isTyped(event)) throw new MalformedEvent('event without a type')
  if (Object.hasOwn(shapes, event.type)) return known(event as unknown as ClaudeEvent, json)
  if (event.type === 'ping') return { type: 'ping' }
  if (event.type === 'error') return toWireError(event)
  return { type: 'unknown', event }
}

function known(event: ClaudeEvent, json: string): ClaudeEvent | Delta {
  const fields = event as unknown as Fields
  if (!shapes[event.type](fields)) throw new MalformedEvent(`malformed ${event.type}`)
  if (event.type !== 'content_block_delta') return event
  const delta = event.delta as unknown as Fields
  const kind = kindByType.get(event.delta.type)
  if (!kind) return event
  const { field } = deltaShapes[kind]
  const payload = delta[field]
  if (typeof payload !== 'string') throw new MalformedEvent(`malformed ${event.delta.type}`)
  const saysMore = Object.keys(fields).length > 3 || Object.keys(delta).length > 2
  return new Delta(kind, event.index, escapeJson(payload), saysMore ? json.replaceAll('\n', ' ') : undefined)
}

const kindByType: ReadonlyMap<string, DeltaKind> = new Map(
  Object.entries(deltaShapes).map(([kind, { type }]) => [type, kind as DeltaKind]),
)

function toWireError(event: Fields): WireError {
  const error = isObject(event['error']) ? event['error'] : {}
  return {
    type: 'wire_error',
    error: { type: String(error['type'] ?? 'api_error'), message: String(error['message'] ?? '') },
  }
}

/** Our own events, which are not read as Claude's. */
const ownTypes: ReadonlySet<string> = new Set<LogEvent['type']>([
  'start',
  'unknown',
  'progress',
  'recovery',
  'tool_result',
  'tool_approval',
  'tool_decision',
  'tool_progress',
  'done',
  'error',
  'cancelled',
])

/** The first letter of an encoded delta: nearly all of a log, so it is kept short. */
const letters: Readonly<Record<DeltaKind, string>> = { text: 't', thinking: 'h', input_json: 'j' }
const kindByLetter: ReadonlyMap<string, DeltaKind> = new Map(
  Object.entries(letters).map(([kind, letter]) => [letter, kind as DeltaKind]),
)

const lineHead = perBlock((kind, index) => `${letters[kind]}${index} `)

/**
 * An event of a log as one line, which `decodeEvent` gives back: Claude's own as JSON, ours as JSON behind a `!`, and
 * deltas as `<letter><index> <payload>`.
 */
export function encodeEvent(event: LogEvent): string {
  if (event.type === 'delta') return event.raw ?? lineHead(event.kind, event.index) + event.escaped
  return ownTypes.has(event.type) ? `!${JSON.stringify(event)}` : JSON.stringify(event)
}

/** @param line what `encodeEvent` made */
export function decodeEvent(line: string): LogEvent {
  const kind = kindByLetter.get(line.charAt(0))
  if (kind) {
    const blank = line.indexOf(' ')
    return new Delta(kind, Number(line.slice(1, blank)), line.slice(blank + 1))
  }
  return (line.startsWith('!') ? JSON.parse(line.slice(1)) : parseWireEvent(line)) as LogEvent
}
