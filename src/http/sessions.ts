import type { ServerHttp2Session } from 'node:http2'

/** How often sessions are looked at, in milliseconds. */
const lookMs = 1_000

interface State {
  /** Streams that are open. */
  streams: number
  /** When it came, or when its last stream ended. */
  idleSince: number
  /** How long it may have none, in milliseconds. */
  patienceMs: number
  /** That it has had none for too long. */
  told: boolean
}

export interface SessionsOptions {
  /** How long a client may take to send its first request, in milliseconds. */
  readonly headers_timeout_ms: number
  /** How long a session may wait for its next one, in milliseconds. */
  readonly idle_ms: number
}

/**
 * The HTTP/2 connections of a server, and for them what Node has for HTTP/1.1 only: clocks that bytes without a request
 * do not move, and an end for those that are idle.
 */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #all = new Map<ServerHttp2Session, State>()
  #timer: NodeJS.Timeout | undefined

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  add(session: ServerHttp2Session): void {
    const { headers_timeout_ms, idle_ms } = this.#options
    const state: State = { streams: 0, idleSince: performance.now(), patienceMs: headers_timeout_ms, told: false }
    this.#all.set(session, state)
    session.on('stream', (stream) => {
      state.streams++
      stream.once('close', () => {
        state.streams--
        state.idleSince = performance.now()
        state.patienceMs = idle_ms
      })
    })
    session.once('close', () => {
      this.#all.delete(session)
      if (this.#all.size === 0) this.#rest()
    })
    this.#timer ??= setInterval(() => this.#look(), lookMs).unref()
  }

  /** Says to all clients that their next request is to go over another connection. Their streams go on. */
  goAway(): void {
    for (const session of this.#all.keys()) session.close()
  }

  closeIdle(): void {
    for (const [session, { streams }] of this.#all) if (streams === 0) session.destroy()
  }

  #look(): void {
    const now = performance.now()
    for (const [session, state] of this.#all) {
      const { streams, idleSince, patienceMs, told } = state
      if (streams > 0 || now - idleSince < patienceMs) continue
      // One that has been told to go, and is still here, does not read.
      if (told) session.destroy()
      else session.goaway()
      state.told = true
    }
  }

  #rest(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
