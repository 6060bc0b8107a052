import { type WireFrame, WireSplitter } from './wire.ts'

/** A `fetch` that lets somebody watch what comes, byte for byte, and cut the wire. */
export class Tap {
  readonly #startedAt: number
  readonly #onFrames: (frames: readonly WireFrame[]) => void
  #cutting = new AbortController()

  constructor(startedAt: number, onFrames: (frames: readonly WireFrame[]) => void) {
    this.#startedAt = startedAt
    this.#onFrames = onFrames
  }

  get now(): number {
    return performance.now() - this.#startedAt
  }

  note(text: string): void {
    this.#onFrames([{ at: this.now, text, kind: 'note' }])
  }

  /** What a lost network does, without the loss of a network. */
  cut(): void {
    this.#cutting.abort(new Error('cut here'))
    this.#cutting = new AbortController()
  }

  readonly fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const signal = AbortSignal.any([this.#cutting.signal, ...(init.signal ? [init.signal] : [])])
    const isStop = init.method === 'DELETE'
    const response = await fetch(input, { ...init, signal: isStop ? (init.signal ?? null) : signal })
    const type = response.headers.get('content-type') ?? 'no type'
    this.note(
      `${init.method ?? 'GET'} ${new URL(String(input), location.href).pathname}: HTTP ${response.status}, ${type}`,
    )
    if (!response.body || !type.startsWith('text/event-stream')) return response
    return new Response(response.body.pipeThrough(this.#watch()), response)
  }

  #watch(): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
    const splitter = new WireSplitter()
    return new TransformStream({
      transform: (bytes, controller) => {
        const frames = splitter.feed(bytes, this.now)
        if (frames.length > 0) this.#onFrames(frames)
        controller.enqueue(bytes)
      },
    })
  }
}
