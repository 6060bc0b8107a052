import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { Connection } from './connection.ts'
import type { Counters, Question } from './counters.ts'
import { Lockstep } from './lockstep.ts'
import { FillerCounter } from './scan.ts'
import { sluice, sourceFile } from './targets.ts'

/**
 * Megabytes of new space: so large that nothing is collected while something is counted. Then the heap's growth is all
 * that was allocated.
 */
const semiSpace = 128

const startMs = 20_000

const collections = 5
const collectEveryMs = 20

/** What is streamed. */
export interface Shape {
  readonly deltas: number
  /** Deltas that upstream sends at once. */
  readonly perWrite: number
}

const heldShape: Shape = { deltas: 1_000, perWrite: 1 }

/** What a server used for some work. */
export interface Use {
  /** System calls; `undefined` where the system does not count them. */
  readonly reads: number | undefined
  readonly writes: number | undefined
  /** Bytes allocated, on V8's heap and in buffers; `undefined` when garbage was collected meanwhile. */
  readonly heap: number | undefined
  readonly external: number | undefined
  /** Promises, ticks, timers and the like, by kind. */
  readonly made: Readonly<Record<string, number>>
}

/** Sluice in a process of its own, which counts what it does, between an upstream and a client that go in step. */
export class CountedServer implements Disposable {
  readonly #child: ChildProcess
  readonly #port: number
  readonly #upstream: Lockstep
  #models = 0

  private constructor(child: ChildProcess, port: number, upstream: Lockstep) {
    this.#child = child
    this.#port = port
    this.#upstream = upstream
  }

  static async start(): Promise<CountedServer> {
    const upstream = new Lockstep()
    const place = { own: 0, upstream: await upstream.listen(), folder: '', redis: undefined }
    const { command, env } = sluice.start?.(place) ?? { command: [], env: {} }
    const [, file = '', ...args] = command
    const child = fork(file, args, {
      env: { PATH: process.env['PATH'], ...env },
      execArgv: [
        // Compiled and swept in step too: what is allocated until then does not depend on other threads' getting on.
        '--single-threaded',
        '--expose-gc',
        `--min-semi-space-size=${semiSpace}`,
        `--max-semi-space-size=${semiSpace}`,
        `--import=${sourceFile('counters.ts')}`,
      ],
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    try {
      return new CountedServer(child, await portOf(child), upstream)
    } catch (error) {
      child.kill('SIGKILL')
      upstream.close()
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
    this.#upstream.close()
  }

  async ask(question: Question): Promise<Counters> {
    this.#child.send(question)
    const [answer] = await once(this.#child, 'message', { signal: AbortSignal.timeout(startMs) })
    return answer as Counters
  }

  /** Without garbage: some of what a collection finds dead is given back only some time later, or by the next. */
  async settled(): Promise<Counters> {
    for (let n = 1; n < collections; n++) {
      await this.ask('collect')
      await delay(collectEveryMs)
    }
    return this.ask('collect')
  }

  /** Streams whole answers, so many in flight. */
  async stream(streams: number, shape: Shape, inFlight = 1): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let toBegin = streams
    let toEnd = streams
    const connections = Array.from({ length: inFlight }, () => {
      const model = this.#newModel(shape)
      const connection = this.#connect(model, shape, '[DONE]', () => this.#upstream.advance(model), {
        onEnded: () => {
          if (--toEnd === 0) resolve()
          else if (toBegin-- > 0) connection.send()
        },
        onFailed: (reason) => reject(new Error(reason)),
      })
      return connection
    })
    toBegin -= inFlight
    for (const connection of connections) connection.send()
    await promise
    for (const connection of connections) connection.hangUp()
  }

  /** Opens streams that stay as they are after their first delta; call what it gives to hang up. */
  async hold(streams: number): Promise<() => void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let toBegin = streams
    const connections = Array.from({ length: streams }, () =>
      this.#connect(this.#newModel(heldShape), heldShape, undefined, () => --toBegin === 0 && resolve(), {
        onEnded: () => {},
        onFailed: (reason) => reject(new Error(reason)),
      }),
    )
    for (const connection of connections) connection.send()
    await promise
    return () => {
      for (const connection of connections) connection.hangUp()
    }
  }

  /** What the server uses during some work. Of memory it tells the truth only when what was there before has settled. */
  async use(work: () => Promise<void>): Promise<Use> {
    const from = { counters: await this.ask('read'), calls: this.#calls() }
    await work()
    const to = { calls: this.#calls(), counters: await this.ask('read') }
    const kept = to.counters.collections === from.counters.collections
    return {
      reads: from.calls && to.calls && to.calls.reads - from.calls.reads,
      writes: from.calls && to.calls && to.calls.writes - from.calls.writes,
      heap: kept ? to.counters.heap - from.counters.heap : undefined,
      external: kept ? to.counters.external - from.counters.external : undefined,
      made: difference(from.counters.made, to.counters.made),
    }
  }

  /** System calls of the process so far; of sockets, each is one of them. */
  #calls(): { reads: number; writes: number } | undefined {
    try {
      const text = readFileSync(`/proc/${this.#child.pid}/io`, 'latin1')
      const count = (name: string) => Number(new RegExp(`${name}: (\\d+)`).exec(text)?.[1])
      return { reads: count('syscr'), writes: count('syscw') }
    } catch {
      return undefined
    }
  }

  #newModel({ deltas, perWrite }: Shape): string {
    return `claude-sim?text=${deltas}&bytes=40&per_write=${perWrite}&name=${++this.#models}`
  }

  /** @param onAll called when the client has all that upstream has sent */
  #connect(
    model: string,
    { deltas, perWrite }: Shape,
    terminator: string | undefined,
    onAll: () => void,
    events: { onEnded(): void; onFailed(reason: string): void },
  ): Connection {
    const messages = [{ role: 'user', content: 'What is a sluice?' }]
    const exchange = {
      port: this.#port,
      path: sluice.path,
      headers: sluice.headers,
      body: JSON.stringify({ model, max_tokens: 1_000_000, messages }),
      deltas,
      stamped: false,
      ...(terminator !== undefined && { terminator }),
    }
    return new Connection(exchange, new InStep(Math.min(perWrite, deltas), onAll), events)
  }
}

/** Says so each time as many deltas more are here. */
class InStep extends FillerCounter {
  readonly #step: number
  readonly #onStep: () => void
  #due: number

  constructor(step: number, onStep: () => void) {
    super()
    this.#step = step
    this.#due = step
    this.#onStep = onStep
  }

  override scan(bytes: Buffer, from: number, to: number): void {
    super.scan(bytes, from, to)
    if (this.count < this.#due) return
    this.#due += this.#step
    this.#onStep()
  }
}

export function bytesOf({ heap, external }: Counters): number {
  return heap + external
}

function difference(from: Counters['made'], to: Counters['made']): Record<string, number> {
  return Object.fromEntries(Object.entries(to).map(([kind, count]) => [kind, count - (from[kind] ?? 0)]))
}

/** From the line that says where it listens; what comes later is read and dropped. */
function portOf(child: ChildProcess): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  let said = ''
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const url = /"url":"(http[^"]*)"/.exec(line)?.[1]
    if (url) resolve(Number(new URL(url).port))
    else said = line
  })
  child.once('exit', () => reject(new Error(`the server did not start: ${said}`)))
  return promise
}
