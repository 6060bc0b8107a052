import type { Outcome } from './orders.ts'
import type { Sample } from './stats.ts'
import { direct } from './targets.ts'

/** Where the load side is this busy, it may be what was measured. */
const busy = 0.9
/** Where other programs take this much, they have been measured too. */
const tolerated = 0.2

/** Who may be busy. */
export const parts = ['target', 'store', 'upstream', 'client', 'others'] as const

/** Shares of a processor. `others` are programs that have nothing to do with the benchmark, and the kernel itself. */
export function busyness({ cpu, seconds }: Outcome): Record<(typeof parts)[number], number> {
  const { target, store, upstream, client, machine } = cpu
  const others = Math.max(0, machine - target - store - upstream - client)
  return {
    target: target / seconds,
    store: store / seconds,
    upstream: upstream / seconds,
    client: client / seconds,
    others: others / seconds,
  }
}

/** Other programs took so much of the machine that they have been measured too. */
export function isDisturbed(outcome: Outcome): boolean {
  return busyness(outcome).others > tolerated
}

/** The one of several outcomes during which other programs did least. */
export function quietest(outcomes: readonly Outcome[]): Outcome {
  return outcomes.reduce((best, each) => (busyness(each).others < busyness(best).others ? each : best))
}

const percent = (share: number) => `${Math.round(share * 100)} %`

const where = ({ section, test, target, repeat }: Sample) => `${section}, ${test}, ${target}, repeat ${repeat + 1}`

/** What makes a sample doubtful. */
export function warnings(samples: readonly Sample[], pinned: boolean): string[] {
  return samples.flatMap((sample) => {
    const { store, upstream, client, others } = busyness(sample.outcome)
    const load = pinned ? store + upstream + client : Math.max(store, upstream, client)
    return [
      ...(sample.target !== direct.name && load > busy ? [`${where(sample)}: the load took ${percent(load)}`] : []),
      ...(others > tolerated ? [`${where(sample)}: other programs took ${percent(others)}`] : []),
    ]
  })
}

export function failures(samples: readonly Sample[]): string[] {
  return samples.flatMap((sample) => {
    const all = Object.entries(sample.outcome.failures).map(([reason, count]) => `${count} × ${reason}`)
    return all.length > 0 ? [`${where(sample)}: ${all.join(', ')}`] : []
  })
}
