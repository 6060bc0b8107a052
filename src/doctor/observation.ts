import type { SelfTestFrame, SelfTestState } from '../core/self-test.ts'

/** A frame of a self-test and when it was there, in milliseconds since it was asked for. */
export interface Arrival {
  readonly frame: SelfTestFrame
  readonly at: number
}

/** What one self-test stream looked like from here. */
export interface Observed {
  readonly id: string
  readonly status: number
  /** `1.1` or `2`. */
  readonly http: string
  readonly headers: Readonly<Record<string, string>>
  readonly arrivals: readonly Arrival[]
  /** `done` with its `[DONE]`; `cut` without. */
  readonly end: 'done' | 'cut'
  /** In milliseconds since it was asked for. */
  readonly endAt: number
  /** Of a response that is no stream, its beginning. */
  readonly body?: string | undefined
}

/** All that was tried. What could not be tried is not there. */
export interface Observation {
  readonly url: string
  /** Why nothing could be tried at all. */
  readonly unreachable?: string | undefined
  /** A stream of many small frames. */
  readonly paced?: Observed | undefined
  /** The same without the header that asks proxies not to buffer. */
  readonly bare?: Observed | undefined
  /** A stream that falls silent for `silenceMs`. */
  readonly silent?: Observed | undefined
  readonly silenceMs: number
  /** What was sent on the way there, to be compared with what arrived. */
  readonly sent: Readonly<Record<string, string>>
  /** How the server saw a stream end that was left in its middle. */
  readonly left?: SelfTestState['state'] | 'unknown' | undefined
  /** How a page of `origin` would fare. */
  readonly cors?:
    | {
        readonly origin: string
        readonly preflight: Readonly<Record<string, string>>
        readonly preflightStatus: number
        readonly headers: Readonly<Record<string, string>>
      }
    | undefined
}

/** What Sluice says in the body of a response that is no stream, if it was Sluice that answered. */
export function refusalIn(body = ''): { readonly code: string; readonly message: string } | undefined {
  try {
    const { code, message } = JSON.parse(body).error
    return typeof code === 'string' ? { code, message } : undefined
  } catch {
    return undefined
  }
}
