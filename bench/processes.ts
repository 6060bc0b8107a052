import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Load, Order, Outcome } from './orders.ts'
import { processTree } from './proc.ts'

/** The target has a processor for itself; what loads it shares the other. */
export const processors = { target: 0, load: 1 } as const

export const pinned = availableParallelism() >= 2 && spawnSync('taskset', ['-V']).status === 0

const startMs = 15_000
const stopMs = 2_000
/** How much longer than its load a client may take. */
const clientMs = 60_000

const running = new Set<Process>()
process.on('exit', () => {
  for (const each of running) each.kill()
})

export interface ProcessOptions {
  readonly processor: number
  readonly env?: Readonly<Record<string, string>>
  /** Where it will listen. */
  readonly port?: number
  /** It takes orders. */
  readonly orders?: boolean
}

/** A process of the benchmark, alone on its processor where that can be had. */
export class Process {
  readonly #child: ChildProcess
  #complaints = ''

  protected constructor(command: readonly string[], { processor, env, orders }: ProcessOptions) {
    const [program, ...args] = pinned ? ['taskset', '-c', String(processor), ...command] : command
    this.#child = spawn(program as string, args, {
      // A clean one: settings of whoever runs this must not reach a target.
      env: { PATH: process.env['PATH'], ...env },
      stdio: ['ignore', 'ignore', 'pipe', ...(orders ? ['ipc' as const] : [])],
    })
    this.#child.stderr?.on('data', (text) => {
      this.#complaints = (this.#complaints + text).slice(-2_000)
    })
    running.add(this)
    this.#child.once('exit', () => running.delete(this))
    this.#child.once('error', (error) => {
      this.#complaints += error.message
    })
  }

  /** Resolves when the process takes connections on `options.port`. */
  static async start(command: readonly string[], options: ProcessOptions): Promise<Process> {
    const started = new Process(command, options)
    const until = performance.now() + startMs
    while (options.port !== undefined && !(await listens(options.port))) {
      if (started.#gone || performance.now() > until) {
        await started.stop()
        throw started.#failure('did not start')
      }
      await delay(20)
    }
    return started
  }

  /** The process and its descendants. */
  get tree(): number[] {
    return processTree(this.#child.pid as number)
  }

  get #gone(): boolean {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** Has a client process carry out an order. */
  async carryOut(order: Order): Promise<Outcome> {
    const settled = new AbortController()
    const { signal } = settled
    try {
      this.#child.send(order)
      const answer = once(this.#child, 'message', { signal })
      const exit = once(this.#child, 'exit', { signal })
      const timer = delay(lengthMs(order.load) + clientMs, undefined, { signal })
      for (const each of [answer, exit, timer]) each.catch(() => {})
      const [outcome] = await Promise.race([
        answer,
        exit.then(() => Promise.reject(this.#failure('ended'))),
        timer.then(() => Promise.reject(this.#failure('does not answer'))),
      ])
      return outcome as Outcome
    } finally {
      settled.abort()
    }
  }

  async stop(): Promise<void> {
    if (this.#gone) return
    const pids = this.tree
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    if (await Promise.race([exit, delay(stopMs, undefined, { ref: false })])) return
    for (const pid of pids.reverse()) killQuietly(pid)
    await exit
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #failure(what: string): Error {
    return new Error(`${this.#child.spawnargs.join(' ')} ${what}\n${this.#complaints}`.trim())
  }
}

function lengthMs(load: Load): number {
  return load.kind === 'sequence' ? 0 : load.rampMs + load.warmUpMs + load.windowMs
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself meanwhile.
  }
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}
