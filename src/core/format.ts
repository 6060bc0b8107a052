import type { LogEvent } from './events.ts'
import type { Frames } from './sse.ts'

/** A fold over one log: called with every event in order, it adds the frames of its format to `out`. */
export type Encoder = (event: LogEvent, out: Frames) => void

/** What text can be cut into, for people to read. */
export const smoothUnits = ['word', 'sentence', 'line'] as const
export type SmoothUnit = (typeof smoothUnits)[number]

/**
 * One way to speak a log. An encoder is a deterministic function of the events alone (no clock, no chance), so that a
 * replay in the same format gives the same frames under the same numbers on every replica.
 */
export interface Format {
  readonly name: string
  /** Response headers beyond those of every stream. */
  readonly headers: Readonly<Record<string, string>>
  /** What keeps an idle connection open; it has no id and clients of the format ignore it. */
  readonly heartbeat: string
  /** Its text is read by people, and may be cut anew and paced for them. */
  readonly smoothable?: true
  /** Over GET its clients reconnect by themselves and say where they were, as `EventSource` does. */
  readonly reconnects?: true
  encoder(): Encoder
}
