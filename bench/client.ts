import { createHistogram } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { Connection, type ConnectionEvents, refusal } from './connection.ts'
import type { Load, Order, Outcome, Percentiles, Watched } from './orders.ts'
import { cpuSeconds, machineSeconds, residentBytes } from './proc.ts'
import { FillerCounter, type Scanner, StampReader } from './scan.ts'

/** From `performance.now()`, which is cheaper to read, to the clock of stamps; what comes first loads its module. */
const clockOffset = -performance.now() * 1e6 + Number(process.hrtime.bigint())

/** Streams are opened this often while a load ramps up. */
const rampStepMs = 10

/** A load that does not come to its end by then never will. */
const patienceMs = 30_000

type Window = Pick<Outcome, 'seconds' | 'deltas' | 'ended' | 'cpu'> & { readonly startBytes: number }
type LoadOf<Kind> = Extract<Load, { kind: Kind }>

/** Carries out one order. */
class Run {
  readonly #order: Order
  readonly #scanners: Scanner[] = []
  readonly #connections: Connection[] = []
  readonly #failures: Record<string, number> = {}
  /** In nanoseconds. An array would grow by millions in a long run, and its collection would be measured. */
  readonly #latencies = createHistogram()
  #refused = 0
  #ended = 0

  constructor(order: Order) {
    this.#order = order
  }

  async carryOut(): Promise<Outcome> {
    const { target } = this.#order.watched
    const before = residentBytes(target)
    const { startBytes: start, ...measured } = await this.#measure(this.#order.load)
    const end = residentBytes(target)
    const mute = this.#mute()
    if (mute > 0 && !this.#order.overload) this.#failures['no delta'] = mute
    for (const connection of this.#connections) connection.hangUp()
    return {
      ...measured,
      latency: this.#percentiles(),
      begun: this.#connections.reduce((sum, { sent }) => sum + sent, 0),
      refused: this.#refused,
      mute,
      bytes: { before, start, end },
      failures: this.#failures,
    }
  }

  #measure(load: Load): Promise<Window> {
    switch (load.kind) {
      case 'loop':
        return this.#loop(load)
      case 'sequence':
        return this.#sequence(load)
      case 'hold':
        return this.#hold(load)
    }
  }

  async #loop({ streams, rampMs, warmUpMs, windowMs }: LoadOf<'loop'>): Promise<Window> {
    await ramp(streams, rampMs, () => {
      const connection = this.#open({
        onEnded: () => {
          this.#ended++
          connection.send()
        },
      })
      connection.send()
    })
    await delay(warmUpMs)
    return this.#window(() => delay(windowMs))
  }

  async #sequence({ warmUp, requests }: LoadOf<'sequence'>): Promise<Window> {
    let whole = Promise.withResolvers<void>()
    let sentAt = 0
    const connection = this.#open({
      onFirst: () => this.#latency(performance.now() - sentAt),
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
    return this.#window(() => quietly(requests))
  }

  async #hold({ streams, rampMs, warmUpMs, windowMs }: LoadOf<'hold'>): Promise<Window> {
    await ramp(streams, rampMs, () => this.#open({ onEnded: () => {} }).send())
    const late = performance.now() + (this.#order.overload ? 0 : patienceMs)
    while (this.#mute() > 0 && performance.now() < late) await delay(50)
    await delay(warmUpMs)
    return this.#window(() => delay(windowMs))
  }

  #open(events: Partial<ConnectionEvents> & Pick<ConnectionEvents, 'onEnded'>): Connection {
    const { exchange, overload } = this.#order
    const onStamp = (stamp: number) => this.#latency(performance.now() - (stamp - clockOffset) / 1e6)
    const scanner = exchange.stamped ? new StampReader(onStamp) : new FillerCounter()
    const onFailed = (reason: string) => {
      if (overload && reason === refusal) this.#refused++
      else this.#fail(reason)
      events.onFailed?.(reason)
    }
    const connection = new Connection(exchange, scanner, { ...events, onFailed })
    this.#scanners.push(scanner)
    this.#connections.push(connection)
    return connection
  }

  /** Measures what happens during `work`. */
  async #window(work: () => Promise<void>): Promise<Window> {
    const { watched } = this.#order
    const startBytes = residentBytes(watched.target)
    this.#latencies.reset()
    const from = { at: performance.now(), deltas: this.#count(), ended: this.#ended, cpu: cpuTimes(watched) }
    await work()
    const cpu = cpuTimes(watched)
    return {
      seconds: (performance.now() - from.at) / 1000,
      deltas: this.#count() - from.deltas,
      ended: this.#ended - from.ended,
      cpu: {
        target: cpu.target - from.cpu.target,
        store: cpu.store - from.cpu.store,
        upstream: cpu.upstream - from.cpu.upstream,
        client: cpu.client - from.cpu.client,
        machine: cpu.machine - from.cpu.machine,
      },
      startBytes,
    }
  }

  /** Streams that are open and have brought nothing. */
  #mute(): number {
    return this.#connections.filter(({ closed }, n) => !closed && this.#scanners[n]?.count === 0).length
  }

  #count(): number {
    return this.#scanners.reduce((sum, scanner) => sum + scanner.count, 0)
  }

  #latency(milliseconds: number): void {
    this.#latencies.record(Math.max(1, Math.round(milliseconds * 1e6)))
  }

  #percentiles(): Percentiles | undefined {
    if (this.#latencies.count === 0) return undefined
    const at = (percent: number) => this.#latencies.percentile(percent) / 1e6
    return { p50: at(50), p99: at(99) }
  }

  async #patience(): Promise<void> {
    await delay(patienceMs)
    this.#fail('took too long')
  }

  #fail(reason: string): void {
    this.#failures[reason] = (this.#failures[reason] ?? 0) + 1
  }
}

/** Does something so often, evenly over a while. */
async function ramp(count: number, rampMs: number, act: () => void): Promise<void> {
  const begin = performance.now()
  for (let n = 0; n < count; n++) {
    const due = begin + (n / count) * rampMs
    if (due > performance.now()) await delay(rampStepMs)
    act()
  }
}

function cpuTimes({ target, store, upstream }: Watched): Outcome['cpu'] {
  return {
    target: cpuSeconds(target),
    store: cpuSeconds(store),
    upstream: cpuSeconds(upstream),
    client: cpuSeconds([process.pid]),
    machine: machineSeconds(),
  }
}

process.on('message', async (order: Order) => {
  const outcome = await new Run(order).carryOut()
  process.send?.(outcome)
})
