import { parseWireEvent } from '../core/codec.ts'
import type { LogEvent } from '../core/events.ts'
import { snapshot } from '../core/message.ts'
import { compose, type SimulatedRequest, type WireEvent, wire } from './compose.ts'
import { interruptionOf, type Place, placeOf, restOf } from './continuation.ts'
import { stepsBefore } from './conversation.ts'
import type { Scenario } from './scenario.ts'
import { type Recording, readTape } from './tape.ts'

export interface Answer {
  /** As they go on the wire, latin1. */
  readonly events: Iterable<string>
  /** It is the rest of one. */
  readonly continues: boolean
  /** Which step of a whole answer, counted from 1. */
  readonly step: number
  /** Milliseconds before each event, and before the end, where it is to have the pace of a recording. */
  readonly waits?: readonly number[]
  /** Milliseconds before the response headers, likewise. */
  readonly headersMs?: number
  /** It breaks off at its end, as it did when it was recorded. */
  readonly cut?: boolean
}

/**
 * What Claude says to a request.
 * @returns `undefined` when it quotes the end of an answer that is not the one to this request
 */
export function answerTo(
  request: SimulatedRequest,
  scenario: Scenario,
  id: string,
  recordingBytes: Buffer | undefined,
): Answer | undefined {
  const recording = recordingBytes && readTape(recordingBytes)
  const interruption = interruptionOf(request)
  const step = 1 + stepsBefore((interruption?.original ?? request).messages)
  if (interruption) {
    const { original } = interruption
    const whole = (max_tokens: number) =>
      recording ? recorded(recording) : compose({ ...original, max_tokens }, scenario, id)
    const place = placeOf(interruption, whole(Number.POSITIVE_INFINITY))
    if (place) return { events: rest(place, whole(place.deltas + request.max_tokens), scenario), continues: true, step }
    if (interruption.kind === 'quote') return undefined
    // Any other assistant's turn at the end is answered like a question.
  }
  if (recording) return { ...paced(recording, scenario), continues: false, step }
  return { events: onWire(compose(request, scenario, id)), continues: false, step }
}

/** A recording with its times where the scenario wants them. */
function paced({ events, cut, waits, headersMs = 0 }: Recording, { pace, speed = 1 }: Scenario) {
  if (pace !== 'recorded' || !waits) return { events, cut }
  return { events, cut, waits: waits.map((ms) => ms / speed), headersMs: headersMs / speed }
}

function rest(place: Place, answer: Iterable<WireEvent>, scenario: Scenario): Iterable<string> {
  return onWire(restOf(answer, place, scenario.continue))
}

function* onWire(events: Iterable<WireEvent>): Generator<string> {
  for (const event of events) yield wire(event)
}

function* recorded({ events }: Recording): Generator<WireEvent> {
  for (const event of events) {
    const data = dataOf(event)
    if (data !== undefined) yield JSON.parse(data)
  }
}

function dataOf(event: string): string | undefined {
  return /^data: (.*)$/m.exec(Buffer.from(event, 'latin1').toString('utf8'))?.[1]
}

/** The answer without streaming, as `stream: false` asks for it. */
export function toMessage(events: Iterable<string>): unknown {
  const parsed: LogEvent[] = []
  for (const event of events) {
    const data = dataOf(event)
    const value = data === undefined ? undefined : parseWireEvent(data)
    if (value && value.type !== 'ping' && value.type !== 'wire_error') parsed.push(value)
  }
  return snapshot(parsed).message
}
