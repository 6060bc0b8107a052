import { setTimeout as delay } from 'node:timers/promises'
import type { Outcome } from './orders.ts'
import { freePort, Process, processors } from './processes.ts'
import { sourceFile, type Target } from './targets.ts'
import { orderFor, type Test } from './tests.ts'

/** The upstream is to be through with a test's streams by then, when their client has hung up. */
const idleMs = 10_000

const node = process.execPath
const load = processors.load

/** The processes around one target. */
export class Stage {
  readonly #target: Target
  /** Where the target may write. */
  readonly #folder: string
  readonly #starts: Promise<Process>[] = []
  #upstream: { readonly kind: Test['upstream']; readonly process: Process } | undefined
  #upstreamPort = 0
  #cast: Promise<Cast> | undefined

  constructor(target: Target, folder: string) {
    this.#target = target
    this.#folder = folder
  }

  async play(test: Test, capacity?: number): Promise<Outcome> {
    this.#upstreamPort ||= await freePort()
    this.#cast ??= this.#start()
    const [upstream, { client, target, redis, port }] = await Promise.all([this.#upstreamFor(test), this.#cast])
    const watched = { target: target?.tree ?? [], store: redis?.tree ?? [], upstream: upstream.tree }
    const order = orderFor(test, this.#target, target ? port : this.#upstreamPort, watched, capacity)
    const outcome = await client.carryOut(order)
    const left = await streamsLeft(this.#upstreamPort)
    if (left === 0) return outcome
    const leak = { [`streams still open ${idleMs / 1000} s after the client left`]: left }
    return { ...outcome, failures: { ...outcome.failures, ...leak } }
  }

  async close(): Promise<void> {
    // One that did not start must not leave behind those that were starting beside it.
    for (const each of await Promise.allSettled(this.#starts.reverse())) {
      if (each.status === 'fulfilled') await each.value.stop()
    }
  }

  /** On one port, whichever it is: the target does not notice when they change. */
  async #upstreamFor({ upstream: kind }: Test): Promise<Process> {
    if (this.#upstream?.kind === kind) return this.#upstream.process
    await this.#upstream?.process.stop()
    const port = this.#upstreamPort
    const command =
      kind === 'simulator'
        ? [node, sourceFile('../src/cli.ts'), 'simulate', '--port', String(port)]
        : [node, sourceFile('metronome.ts')]
    const process = await this.#run(command, { processor: load, port, env: { PORT: String(port) } })
    this.#upstream = { kind, process }
    return process
  }

  async #start(): Promise<Cast> {
    const redisPort = this.#target.redis && (await freePort())
    const redis = redisPort && (await this.#startRedis(redisPort))
    const port = await freePort()
    const place = { own: port, upstream: this.#upstreamPort, folder: this.#folder, redis: redisPort }
    const { command, env } = this.#target.start?.(place) ?? {}
    const [client, target] = await Promise.all([
      this.#run([node, sourceFile('client.ts')], { processor: load, orders: true }),
      command && this.#run(command, { processor: processors.target, env: env ?? {}, port }),
    ])
    return { client, target, redis: redis || undefined, port }
  }

  /** It writes nothing down: its disk is not what is to be measured. */
  #startRedis(port: number): Promise<Process> {
    const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
    return this.#run(['redis-server', ...settings, '--dir', this.#folder], { processor: load, port })
  }

  #run(...args: Parameters<typeof Process.start>): Promise<Process> {
    const start = Process.start(...args)
    this.#starts.push(start)
    return start
  }
}

interface Cast {
  readonly client: Process
  readonly target: Process | undefined
  readonly redis: Process | undefined
  readonly port: number
}

/** Waits until the upstream sends nothing any more, so that one test does not run into the next. */
async function streamsLeft(port: number): Promise<number> {
  const until = performance.now() + idleMs
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/stats`)
    const { open } = (await response.json()) as { open: number }
    if (open === 0 || performance.now() > until) return open
    await delay(50)
  }
}
