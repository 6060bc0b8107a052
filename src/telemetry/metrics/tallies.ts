import type { Described } from './catalogue.ts'

/** A value as prom-client's JSON has it. */
interface Value {
  readonly value: number
  readonly labels: Record<string, string | number>
  readonly metricName?: string
}

/** A metric as prom-client's JSON has it. */
export interface MetricJson {
  readonly name: string
  readonly help: string
  readonly type: Described['type']
  readonly values: readonly Value[]
}

/** How values are spread over buckets. */
export class Distribution {
  readonly #bounds: readonly number[]
  readonly #counts: number[]
  #sum = 0
  #count = 0

  /** @param bounds of the buckets, rising */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds
    this.#counts = bounds.map(() => 0)
  }

  observe(value: number): void {
    this.#sum += value
    this.#count++
    for (let n = 0; n < this.#bounds.length; n++) {
      if (value > (this.#bounds[n] as number)) continue
      this.#counts[n] = (this.#counts[n] as number) + 1
      return
    }
  }

  values(name: string, labels: Value['labels']): Value[] {
    let below = 0
    const buckets = this.#bounds.map((le, n) => {
      below += this.#counts[n] as number
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below }
    })
    return [
      ...buckets,
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: this.#count },
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: this.#count },
    ]
  }
}

/** A number that only rises. */
export class Count {
  #value = 0

  add(by = 1): void {
    this.#value += by
  }

  values(_name: string, labels: Value['labels']): Value[] {
    return [{ labels, value: this.#value }]
  }
}

/**
 * The series of one metric, by up to three label values. prom-client's own make a string of all labels each time, and
 * took 8.6 KB of garbage for each stream; these take none, and prom-client gets them when somebody asks.
 */
export class Family<Tally extends Count | Distribution> {
  readonly #name: string
  readonly #described: Described
  readonly #constant: Record<string, string>
  readonly #make: () => Tally
  readonly #series = new Map<string, Map<string, Map<string, Tally>>>()

  /** @param constant labels that all series have, of those that the metric is described with */
  constructor(name: string, described: Described, make: () => Tally, constant: Record<string, string> = {}) {
    this.#name = name
    this.#described = described
    this.#constant = constant
    this.#make = make
  }

  /** By the values of the labels that are not constant, in their order; an empty one is as good as none. */
  of(first = '', second = '', third = ''): Tally {
    const seconds = made(this.#series, first, newMap<Map<string, Tally>>)
    const thirds = made(seconds, second, newMap<Tally>)
    return made(thirds, third, this.#make)
  }

  json(): MetricJson {
    const { help, type, labels = [] } = this.#described
    const names = labels.filter((name) => !(name in this.#constant))
    const values = [...this.#all()].flatMap(([tally, given]) => {
      const told = names.map((name, n) => [name, given[n] ?? ''] as const).filter(([, value]) => value !== '')
      return tally.values(this.#name, { ...this.#constant, ...Object.fromEntries(told) })
    })
    return { name: this.#name, help, type, values }
  }

  *#all(): Generator<[tally: Tally, labels: string[]]> {
    for (const [first, seconds] of this.#series)
      for (const [second, thirds] of seconds) for (const [third, tally] of thirds) yield [tally, [first, second, third]]
  }
}

function newMap<V>(): Map<string, V> {
  return new Map()
}

function made<V>(known: Map<string, V>, key: string, make: () => V): V {
  const there = known.get(key)
  if (there !== undefined) return there
  const value = make()
  known.set(key, value)
  return value
}
