import { add, clean, isClean, type Verdict } from '../support/transcript.ts'

export type Mode = 'memory' | 'redis'

export interface TrialOptions {
  /** How many; what is counted is the trial's own affair. */
  readonly count: number
  readonly seed: string
  /** The number of the first one, to have a single failure again. */
  readonly from: number
  readonly modes: readonly Mode[]
  readonly concurrency: number
}

/** A kind of trial, as `run.ts` knows it. */
export interface Trial {
  readonly name: string
  readonly about: string
  /** How many unless told otherwise. */
  readonly count: number
  run(options: TrialOptions): Promise<Tally>
}

/** What came of all trials of one kind. */
export interface Tally extends Verdict {
  trials: number
  /** Streams for which Claude was asked any other number of times than once. */
  upstream_calls_wrong: number
  /** What a kind counts and measures beyond that. */
  readonly more: Record<string, unknown>
  /** Sentences about what went wrong, the first few. */
  readonly problems: string[]
}

const keptProblems = 20

export const newTally = (): Tally => ({ ...clean(), trials: 0, upstream_calls_wrong: 0, more: {}, problems: [] })

export const isGood = (tally: Tally): boolean => isClean(verdictOf(tally)) && tally.problems.length === 0

export const verdictOf = (tally: Tally): Verdict => {
  const { lost, duplicated, out_of_order, gaps, terminals_wrong } = tally
  return { lost, duplicated, out_of_order, gaps, terminals_wrong }
}

export function complain(tally: Tally, problem: string): void {
  if (tally.problems.length < keptProblems) tally.problems.push(problem)
}

/** Adds a verdict, and a sentence about it if it is not clean. */
export function note(tally: Tally, verdict: Partial<Verdict>, where: string): void {
  const whole = { ...clean(), ...verdict }
  add(tally, whole)
  if (isClean(whole)) return
  const faults = Object.entries(whole).filter(([, count]) => count > 0)
  complain(tally, `${where}: ${faults.map(([name, count]) => `${name} ${count}`).join(', ')}`)
}

/** Notes how often Claude was asked for one stream. */
export function noteCalls(tally: Tally, calls: number, where: string): void {
  if (calls === 1) return
  tally.upstream_calls_wrong++
  complain(tally, `${where}: Claude was asked ${calls} times`)
}

/** Runs `work` for the numbers `from` to `from + count - 1`, so many at once; what it throws is a problem. */
export async function many(
  tally: Tally,
  { count, from, concurrency }: Pick<TrialOptions, 'count' | 'from' | 'concurrency'>,
  work: (n: number) => Promise<void>,
): Promise<void> {
  let next = from
  const worker = async () => {
    while (next < from + count) {
      const n = next++
      await work(n).catch((error: unknown) => complain(tally, `trial ${n}: ${sentenceOf(error)}`))
      tally.trials++
      if (tally.trials % 1_000 === 0) process.stderr.write(`${tally.trials} trials\n`)
    }
  }
  await Promise.all(Array.from({ length: Math.min(count, concurrency) }, worker))
}

export const sentenceOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Milliseconds, rounded. */
export function percentiles(values: readonly number[]): Record<'p50' | 'p99' | 'max', number> | null {
  if (values.length === 0) return null
  const sorted = Float64Array.from(values).sort()
  const at = (share: number) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

/** How often each value occurs. */
export function histogram(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1
  return counts
}
