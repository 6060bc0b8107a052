import { setTimeout as delay } from 'node:timers/promises'
import { Connection, type ConnectionEvents } from './connection.ts'
import type { Order, Outcome, Percentiles, Watched } from './orders.ts'
import { cpuSeconds, machineSeconds, residentBytes } from './proc.ts'
import { FillerCounter, type Scanner, StampReader } from './scan.ts'

/** From `performance.now()`, which is cheaper to read, to the clock of stamps; what comes first loads its module. */
const clockOffset = -performance.now() * 1e6 + Number(process.hrtime.bigint())

/** Streams are opened this often while a load ramps up. */
const rampStepMs = 10

/** A load that does not come to its end by then never will. */
const patienceMs = 30_000

/** Carries out one order. */
class Load {
  readonly #order: Order
  readonly #scanners: Scanner[] = []
  readonly #connections: Connection[] = []
  readonly #failures: Record<string, number> = {}
  #latencies: number[] = []
  #ended = 0

  constructor(order: Order) {
    this.#order = order
  }

  async run(): Promise<Outcome> {
    const before = residentBytes(this.#order.watched.target)
    const measured = await this.#measure()
    const after = residentBytes(this.#order.watched.target)
    for (const connection of this.#connections) connection.hangUp()
    const latency = percentiles(this.#latencies)
    return { ...measured, latency, bytes: { before, after }, failures: this.#failures }
  }

  #measure(): Promise<Window> {
    switch (this.#order.kind) {
      case 'loop':
        return this.#loop(this.#order)
      case 'sequence':
        return this.#sequence(this.#order)
      case 'hold':
        return this.#hold(this.#order)
    }
  }

  async #loop({ streams, warmUpMs, windowMs }: Extract<Order, { kind: 'loop' }>): Promise<Window> {
    for (let n = 0; n < streams; n++) {
      const connection = this.#open({
        onEnded: () => {
          this.#ended++
          connection.send()
        },
      })
      connection.send()
    }
    await delay(warmUpMs)
    return this.#window(() => delay(windowMs))
  }

  async #sequence({ warmUp, requests }: Extract<Order, { kind: 'sequence' }>): Promise<Window> {
    let whole = Promise.withResolvers<void>()
    let sentAt = 0
    const connection = this.#open({
      onFirst: () => this.#latencies.push(performance.now() - sentAt),
      onEnded: () => {
        this.#ended++
        whole.resolve()
      },
      onFailed: () => whole.reject(new Error('failed')),
    })
    const send = async (count: number) => {
      for (let n = 0; n < count; n++) {
        whole = Promise.withResolvers()
        sentAt = performance.now()
        connection.send()
        await whole.promise
        // What the target does after the end, such as logging, is not to slow down the next request.
        await delay(1)
      }
    }
    const quietly = (count: number) => Promise.race([send(count).catch(() => {}), this.#patience()])
    await quietly(warmUp)
    this.#latencies = []
    return this.#window(() => quietly(requests))
  }

  async #hold(order: Extract<Order, { kind: 'hold' }>): Promise<Window> {
    const { streams, rampMs, warmUpMs, windowMs } = order
    const begin = performance.now()
    for (let n = 0; n < streams; n++) {
      const due = begin + (n / streams) * rampMs
      if (due > performance.now()) await delay(rampStepMs)
      this.#open({ onEnded: () => this.#fail('stream ended before its time') }).send()
    }
    const late = performance.now() + patienceMs
    while (this.#scanners.some((scanner) => scanner.count === 0) && performance.now() < late) await delay(50)
    const mute = this.#scanners.filter((scanner) => scanner.count === 0).length
    if (mute > 0) this.#failures['no delta'] = mute
    await delay(warmUpMs)
    this.#latencies = []
    return this.#window(() => delay(windowMs))
  }

  #open(events: Partial<ConnectionEvents> & Pick<ConnectionEvents, 'onEnded'>): Connection {
    const { exchange } = this.#order
    const onStamp = (stamp: number) => this.#latencies.push(performance.now() - (stamp - clockOffset) / 1e6)
    const scanner = exchange.stamped ? new StampReader(onStamp) : new FillerCounter()
    const onFailed = (reason: string) => {
      this.#fail(reason)
      events.onFailed?.(reason)
    }
    const connection = new Connection(exchange, this.#connections.length, scanner, { ...events, onFailed })
    this.#scanners.push(scanner)
    this.#connections.push(connection)
    return connection
  }

  /** Measures what happens during `work`. */
  async #window(work: () => Promise<void>): Promise<Window> {
    const { watched } = this.#order
    const from = { at: performance.now(), deltas: this.#count(), ended: this.#ended, cpu: cpuTimes(watched) }
    await work()
    const cpu = cpuTimes(watched)
    return {
      seconds: (performance.now() - from.at) / 1000,
      deltas: this.#count() - from.deltas,
      ended: this.#ended - from.ended,
      cpu: {
        target: cpu.target - from.cpu.target,
        simulator: cpu.simulator - from.cpu.simulator,
        client: cpu.client - from.cpu.client,
        machine: cpu.machine - from.cpu.machine,
      },
    }
  }

  #count(): number {
    return this.#scanners.reduce((sum, scanner) => sum + scanner.count, 0)
  }

  async #patience(): Promise<void> {
    await delay(patienceMs)
    this.#fail('took too long')
  }

  #fail(reason: string): void {
    this.#failures[reason] = (this.#failures[reason] ?? 0) + 1
  }
}

type Window = Pick<Outcome, 'seconds' | 'deltas' | 'ended' | 'cpu'>

function cpuTimes({ target, simulator }: Watched): Outcome['cpu'] {
  return {
    target: cpuSeconds(target),
    simulator: cpuSeconds(simulator),
    client: cpuSeconds([process.pid]),
    machine: machineSeconds(),
  }
}

function percentiles(values: number[]): Percentiles | undefined {
  if (values.length === 0) return undefined
  const sorted = Float64Array.from(values).sort()
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number
  return { p50: at(0.5), p99: at(0.99) }
}

process.on('message', async (order: Order) => {
  const outcome = await new Load(order).run()
  process.send?.(outcome)
})
