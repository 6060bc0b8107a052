import { type RetryOptions, resume, type StreamBody, stream } from '../../src/client/stream.ts'

/** What came of one stream where a client read it. */
export interface Outcome {
  readonly id: string | undefined
  /** Each frame as JSON, in the order in which they were taken. */
  readonly frames: string[]
  /** The number that the client gave for each. */
  readonly positions: number[]
  readonly reconnects: number
  /** Of the promise; `undefined` where that was rejected. */
  readonly text: string | undefined
  /** The code, or the sentence, of what the loop threw. */
  readonly failure: string | undefined
}

/** Of the last reading, as `progress` where it runs. */
export interface Progress {
  readonly frames: number
  readonly reconnects: number
}

export interface Reading {
  readonly url: string
  readonly body: StreamBody
  readonly retry?: RetryOptions
  readonly silenceMs?: number
  /** Reads that stream instead of asking. */
  readonly id?: string
  /** Stops the answer behind so many frames. */
  readonly abortBehind?: number
}

/** Reads one stream to its end with the client; it runs here, in a page, in a worker and in other runtimes. */
export async function readWithClient({ url, body, id, abortBehind, ...options }: Reading): Promise<Outcome> {
  let reconnects = 0
  const all = {
    ...options,
    onReconnect: () => {
      reconnects++
    },
  }
  const answer = id === undefined ? stream(url, body, all) : resume(url, id, all)
  const frames: string[] = []
  const positions: number[] = []
  let failure: string | undefined
  Object.defineProperty(globalThis, 'progress', {
    configurable: true,
    get: (): Progress => ({ frames: frames.length, reconnects }),
  })
  try {
    for await (const frame of answer) {
      frames.push(JSON.stringify(frame))
      positions.push(answer.position)
      if (frames.length === abortBehind) await answer.abort()
    }
  } catch (error) {
    failure = String((error as { code?: string }).code ?? error)
  }
  const text = await answer.text.catch(() => undefined)
  return { id: answer.id, frames, positions, reconnects, text, failure }
}
