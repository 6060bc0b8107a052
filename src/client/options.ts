import type { DisconnectPolicy } from '../core/request.ts'

/** What `POST /stream` takes: `prompt` or `messages`, and any other field of the Messages API or of Sluice's. */
export interface StreamBody {
  readonly prompt?: string
  readonly messages?: readonly { readonly role: string; readonly content: unknown }[]
  readonly preset?: string
  readonly smooth?: 'word' | 'sentence' | 'line'
  readonly on_disconnect?: DisconnectPolicy
  /** This client reads `json` alone. */
  readonly format?: 'json'
  readonly [field: string]: unknown
}

type HeaderList = Readonly<Record<string, string>>

/** A connection was lost and is made again. */
export interface Reconnect {
  /** How many times in a row it has been lost without a frame; 0 while the browser says that there is no network. */
  readonly attempt: number
  /** Until the next one, unless the network comes back before. */
  readonly delayMs: number
  /** What happened. */
  readonly cause: unknown
}

export interface RetryOptions {
  /** Connections that are lost in a row, without a frame between them, before it gives up; 12 unless given. */
  readonly attempts?: number
  /** Answers to the question that ask to try again later, before it gives up; 3 unless given. */
  readonly refusals?: number
  /** The first delay, which doubles from then on; 500 unless given, and whatever the server says instead. */
  readonly minMs?: number
  /** The longest delay; 30,000 unless given. Who is told to wait longer than that gives up. */
  readonly maxMs?: number
}

export interface ClientOptions {
  /** Sent with every request; a function is asked each time, so that a token can be a fresh one. */
  readonly headers?: HeaderList | (() => HeaderList | Promise<HeaderList>)
  readonly fetch?: typeof fetch
  /** Aborted, it stops the stream as `abort()` does. */
  readonly signal?: AbortSignal
  readonly retry?: RetryOptions
  /** Without a byte for so long a connection is lost; 45,000 unless given. The server sends a heartbeat every 15,000. */
  readonly silenceMs?: number
  readonly onReconnect?: (event: Reconnect) => void
}

export interface StartOptions extends ClientOptions {
  /** 1 to 255 visible ASCII characters; the same one is the same answer, for 24 hours. A random one unless given. */
  readonly idempotencyKey?: string
}

export interface ResumeOptions extends ClientOptions {
  /** The number of the last frame you have: 0, for all of them, unless given. */
  readonly after?: number
  /** As it was asked for, since frames are numbered as they are cut. */
  readonly smooth?: 'word' | 'sentence' | 'line'
}
