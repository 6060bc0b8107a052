import { type Random, seeded } from '../support/random.ts'
import type { Replica } from '../support/replica.ts'
import type { Rig } from './rig.ts'
import { histogram, type Tally, type TrialOptions } from './trial.ts'

/** Some of the replicas die in it, at the same moment. */
export interface Round {
  readonly random: Random
  readonly round: number
  readonly deaths: number
}

/**
 * Plays rounds until as many replicas have died as the trial asks for.
 * @param play gives what became of the streams of those that died
 */
export async function killInRounds<Ended extends { readonly outcome: string }>(
  name: string,
  { seed, from, count }: TrialOptions,
  killsAtOnce: number,
  tally: Tally,
  play: (round: Round) => Promise<readonly Ended[]>,
): Promise<readonly Ended[]> {
  const all: Ended[] = []
  for (let round = from; tally.trials < count; round++) {
    const deaths = Math.min(killsAtOnce, count - tally.trials)
    all.push(...(await play({ random: seeded(`${seed}/${name}/${round}`), round, deaths })))
    tally.trials += deaths
    process.stderr.write(`${tally.trials} kills\n`)
  }
  tally.more['streams_of_the_killed'] = histogram(all.map(({ outcome }) => outcome))
  return all
}

/** Kills `deaths` of these replicas; `replaced` resolves when others have been started instead. */
export async function killSome(rig: Rig, owners: readonly Replica[], { random, deaths }: Round) {
  const victims = new Set<Replica>()
  while (victims.size < deaths) victims.add(random.pick(owners))
  const killedAt = performance.now()
  for (const victim of victims) rig.removeReplica(victim)
  await Promise.all([...victims].map((victim) => victim.kill()))
  const replaced = Promise.all([...victims].map(() => rig.addReplica()))
  return { victims, killedAt, replaced }
}
