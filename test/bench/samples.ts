import type { Outcome } from '../../bench/orders.ts'
import type { Section } from '../../bench/plan.ts'
import type { Sample } from '../../bench/stats.ts'
import type { Target } from '../../bench/targets.ts'
import type { Figure, Test } from '../../bench/tests.ts'

/** One second, in which nothing happened unless said. */
export function outcome(fields: Partial<Outcome> = {}): Outcome {
  return {
    seconds: 1,
    deltas: 0,
    ended: 0,
    begun: 0,
    refused: 0,
    mute: 0,
    cpu: { target: 0, store: 0, upstream: 0, client: 0, machine: 0 },
    bytes: { before: 0, start: 0, end: 0 },
    failures: {},
    ...fields,
  }
}

export function cpu(fields: Partial<Outcome['cpu']>): Outcome['cpu'] {
  return { ...outcome().cpu, ...fields }
}

/** A target that is started, which `direct` is not. */
export function target(name: string): Target {
  const start = () => ({ command: ['true'] as [string], env: {} })
  return { name, path: '/', headers: {}, body: {}, terminator: '', ...(name !== 'direct' && { start }) }
}

export function test(name: string, figures: readonly Figure[] = []): Test {
  const load = { kind: 'sequence', warmUp: 0, requests: 1 } as const
  return { name, upstream: 'simulator', scenario: '', deltas: 1, load: () => load, figures }
}

export function section(fields: Partial<Section>): Section {
  return { name: 'section', title: 'Title', targets: [], tests: [], repeats: 1, ...fields }
}

export function sample(fields: Partial<Sample>): Sample {
  return { section: 'section', repeat: 0, target: 'pipe', test: 'load', outcome: outcome(), ...fields }
}
