import { Tap } from './tap.ts'
import type { WireFrame } from './wire.ts'

/** How long it waits before it comes back, in milliseconds, and how often it does so in a row. */
const returnMs = 600
const mostReturns = 20

/** Reads a stream a second time, in another format, for the sake of its frames alone. */
export class SideReader {
  readonly #tap: Tap
  readonly #leaving = new AbortController()
  #last = ''

  constructor(
    url: string,
    headers: () => Record<string, string>,
    startedAt: number,
    onFrames: (frames: readonly WireFrame[]) => void,
  ) {
    this.#tap = new Tap(startedAt, (frames) => {
      for (const { text } of frames) this.#last = /^id: ?([^\n]+)$/m.exec(text)?.[1] ?? this.#last
      onFrames(frames)
    })
    void this.#read(url, headers)
  }

  cut(): void {
    this.#tap.cut()
  }

  close(): void {
    this.#leaving.abort()
  }

  async #read(url: string, headers: () => Record<string, string>): Promise<void> {
    const { signal } = this.#leaving
    for (let returns = 0; returns < mostReturns && !signal.aborted; returns++) {
      try {
        const position: Record<string, string> = this.#last === '' ? {} : { 'last-event-id': this.#last }
        const response = await this.#tap.fetch(url, {
          headers: { ...headers(), ...position },
          signal,
          cache: 'no-store',
        })
        // A refusal stands in the list as it is; 204 says that nothing is left.
        if (!response.ok || response.status === 204 || !response.body) return
        for (const reader = response.body.getReader(); !(await reader.read()).done; ) returns = 0
        return
      } catch (error) {
        if (signal.aborted) return
        this.#tap.note(`lost (${error instanceof Error ? error.message : error}), back in ${returnMs} ms`)
      }
      await new Promise((resolve) => setTimeout(resolve, returnMs))
    }
  }
}
