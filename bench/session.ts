import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDisturbed, quietest } from './busyness.ts'
import type { Outcome } from './orders.ts'
import type { Section } from './plan.ts'
import { Stage } from './stage.ts'
import { type Sample, spreadOf } from './stats.ts'
import type { Target } from './targets.ts'
import type { Test } from './tests.ts'

/** So often a test is carried out where other programs disturb it. */
const attempts = 2

/** The test that tells what a target can carry. */
const capacityTest = 'capacity'

/** Carries out a section and adds its samples to those that are there already. */
export async function carryOut(section: Section, samples: Sample[], said: (progress: string) => void): Promise<void> {
  const { name, targets, tests, repeats } = section
  for (let repeat = 0; repeat < repeats; repeat++) {
    // The machine's speed drifts: what comes first now comes last next time.
    const due = targets.filter(({ once }) => repeat === 0 || !once)
    for (const target of repeat % 2 === 0 ? due : due.toReversed()) {
      const began = performance.now()
      for (const test of tests.filter(({ targetsOnly }) => target.start || !targetsOnly)) {
        const outcome = await measure(target, test, section, capacityOf(target, samples))
        samples.push({ section: name, repeat, target: target.name, test: test.name, outcome })
      }
      const seconds = Math.round((performance.now() - began) / 1000)
      said(`${name}, repeat ${repeat + 1} of ${repeats}: ${target.name} (${seconds} s)`)
    }
  }
}

function capacityOf({ name }: Target, samples: readonly Sample[]): number | undefined {
  const own = samples.filter(({ target, test }) => target === name && test === capacityTest)
  return spreadOf(own.map(({ outcome }) => outcome.deltas / outcome.seconds))?.median
}

/** In fresh processes for each test: what one leaves on the heap would be measured by the next. */
async function measure(target: Target, test: Test, section: Section, capacity?: number): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'))
  const stage = new Stage(target, folder)
  try {
    for (const name of target.after ?? []) {
      const before = section.tests.find((each) => each.name === name)
      if (before && before !== test) await stage.play(before)
    }
    const outcomes: Outcome[] = []
    do outcomes.push(await stage.play(test, capacity))
    while (outcomes.every(mustRepeat) && !test.single && outcomes.length < attempts)
    return outcomes.find(hasFailed) ?? quietest(outcomes)
  } finally {
    await stage.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

function hasFailed({ failures }: Outcome): boolean {
  return Object.keys(failures).length > 0
}

/** Failures are kept; what other programs have spoilt is measured again. */
function mustRepeat(outcome: Outcome): boolean {
  return !hasFailed(outcome) && isDisturbed(outcome)
}
