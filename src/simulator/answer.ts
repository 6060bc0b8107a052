import { parseWireEvent } from '../core/codec.ts'
import type { LogEvent } from '../core/events.ts'
import { snapshot } from '../core/message.ts'
import { compose, type SimulatedRequest, type WireEvent, wire } from './compose.ts'
import { interruptionOf, type Place, placeOf, restOf } from './continuation.ts'
import { splitEvents } from './recordings.ts'
import type { Scenario } from './scenario.ts'

export interface Answer {
  /** As they go on the wire, latin1. */
  readonly events: Iterable<string>
  /** It is the rest of one. */
  readonly continues: boolean
}

/**
 * What Claude says to a request.
 * @returns `undefined` when it quotes the end of an answer that is not the one to this request
 */
export function answerTo(
  request: SimulatedRequest,
  scenario: Scenario,
  id: string,
  recording: Buffer | undefined,
): Answer | undefined {
  const interruption = interruptionOf(request)
  if (interruption) {
    const { original } = interruption
    const whole = (max_tokens: number) =>
      recording ? recorded(recording) : compose({ ...original, max_tokens }, scenario, id)
    const place = placeOf(interruption, whole(Number.POSITIVE_INFINITY))
    if (place) return { events: rest(place, whole(place.deltas + request.max_tokens), scenario), continues: true }
    if (interruption.kind === 'quote') return undefined
    // Any other assistant's turn at the end is answered like a question.
  }
  return { events: recording ? splitEvents(recording) : onWire(compose(request, scenario, id)), continues: false }
}

function rest(place: Place, answer: Iterable<WireEvent>, scenario: Scenario): Iterable<string> {
  return onWire(restOf(answer, place, scenario.continue))
}

function* onWire(events: Iterable<WireEvent>): Generator<string> {
  for (const event of events) yield wire(event)
}

function* recorded(recording: Buffer): Generator<WireEvent> {
  for (const event of splitEvents(recording)) {
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
