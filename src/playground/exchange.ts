import {
  Answer,
  type Frame,
  resume,
  SluiceClientError,
  type SluiceStream,
  stream,
  type Turn,
} from '../client/stream.ts'
import { Series } from './chart.ts'
import { SideReader } from './side-reader.ts'
import { Tap } from './tap.ts'
import type { WireFrame } from './wire.ts'

export interface Surroundings {
  headers(): Record<string, string>
  /** `json` is what the conversation reads itself. */
  format(): string
  onFrame(frame: Frame): void
  onWire(frames: readonly WireFrame[]): void
  onStatus(text: string): void
}

/** One question and its answer over whatever becomes of the network, and all that can be seen of it. */
export class Exchange {
  readonly series = new Series()
  readonly #around: Surroundings
  readonly #startedAt = performance.now()
  readonly #answer = new Answer()
  readonly #tap: Tap
  readonly #stream: SluiceStream
  #side: SideReader | undefined
  #isLost = false
  isLive = true
  /** By whoever sits here. */
  isStopped = false

  /** @param from a question to be asked, or the id of a stream that is there */
  constructor(from: { readonly body: Record<string, unknown> } | { readonly id: string }, around: Surroundings) {
    this.#around = around
    this.#tap = new Tap(this.#startedAt, (frames) => {
      if (!this.#side) around.onWire(frames)
    })
    const options = {
      headers: around.headers,
      fetch: this.#tap.fetch,
      onReconnect: ({ delayMs, cause }: { delayMs: number; cause: unknown }) => this.#lost(delayMs, cause),
    }
    this.#stream = 'id' in from ? resume('stream', from.id, options) : stream('stream', from.body, options)
    if ('id' in from) this.showFormat(around.format())
  }

  get id(): string | undefined {
    return this.#stream.id
  }

  get now(): number {
    return this.#tap.now
  }

  /** What the answer adds to the conversation. */
  get turns(): readonly Turn[] {
    return this.#answer.turns.map(withoutHalfThoughts).filter(({ content }) => content.length > 0)
  }

  /** Reads it to its end. @throws SluiceClientError */
  async read(): Promise<void> {
    try {
      for await (const frame of this.#stream) this.#take(frame)
    } finally {
      this.isLive = false
    }
  }

  /** Stops the answer here and at Claude. */
  stop(): Promise<void> {
    this.isStopped = true
    return this.#stream.abort()
  }

  cut(): void {
    this.series.mark({ at: this.now, kind: 'cut', label: 'Cut here' })
    this.#tap.note('the connection was cut here')
    this.#tap.cut()
    this.#side?.cut()
  }

  /** Shows the frames of another format, from the first one. */
  showFormat(format: string): void {
    this.#side?.close()
    this.#side = undefined
    if (this.id === undefined || (format === 'json' && this.#stream.position === 0)) return
    const url = `streams/${encodeURIComponent(this.id)}?format=${encodeURIComponent(format)}`
    this.#side = new SideReader(url, this.#around.headers, this.#startedAt, this.#around.onWire)
  }

  #take(frame: Frame): void {
    const at = this.now
    if (this.#isLost) this.series.mark({ at, kind: 'back', label: `Back after frame ${this.#stream.position - 1}` })
    if (this.#isLost) this.#around.onStatus('Connected again: the answer goes on.')
    this.#isLost = false
    if (frame.type === 'start' && this.#around.format() !== 'json' && !this.#side)
      this.showFormat(this.#around.format())
    if (frame.type === 'text' || frame.type === 'thinking') this.series.add(at, frame.text)
    else if (frame.type === 'tool_delta') this.series.add(at, frame.json)
    else if (frame.type === 'recovery')
      this.series.mark({ at, kind: 'recovery', label: `Recovered from ${frame.reason}` })
    this.#answer.add(frame)
    this.#around.onFrame(frame)
  }

  #lost(delayMs: number, cause: unknown): void {
    this.#isLost = true
    const why = cause instanceof Error ? cause.message : String(cause)
    this.#tap.note(`lost (${why}), back in ${Math.round(delayMs)} ms, after frame ${this.#stream.position}`)
    const what = cause instanceof SluiceClientError && cause.status !== undefined ? why : 'Connection lost.'
    this.#around.onStatus(`${what} Back in ${(delayMs / 1_000).toFixed(1)} s.`)
  }
}

/** Claude takes no thinking back that was cut off before its signature. */
function withoutHalfThoughts({ role, content }: Turn): Turn {
  if (typeof content === 'string') return { role, content }
  return { role, content: content.filter(({ type, signature }) => type !== 'thinking' || Boolean(signature)) }
}
