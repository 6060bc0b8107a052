import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Outcome } from './orders.ts'
import { freePort, Process, pinned, processors } from './processes.ts'
import { failures, isDisturbed, linesOf, loadTable, quietest, type Sample, table, warnings } from './report.ts'
import { targets as allTargets, sourceFile, type Target } from './targets.ts'
import { tests as allTests, orderFor, type Sizes, type Test } from './tests.ts'

const help = `Usage: npm run bench -- [options]

  --reps N          repeats of everything; 3 unless given
  --quick           one short repeat
  --full            memory with 5,000 open streams instead of 1,000
  --targets A,B     of: ${allTargets.map(({ name }) => name).join(', ')}
  --tests A,B       of: ${allTests.map(({ name }) => name).join(', ')}
  --json FILE       write every outcome there
`

/** The simulator is to be through with a test's streams by then, when their client has hung up. */
const idleMs = 10_000

/** So often a test is carried out on a machine that is never quiet. */
const attempts = 3

interface Plan {
  readonly targets: readonly Target[]
  readonly tests: readonly Test[]
  readonly repeats: number
  readonly sizes: Sizes
}

async function run({ targets, tests, repeats, sizes }: Plan): Promise<Sample[]> {
  const samples: Sample[] = []
  for (let repeat = 0; repeat < repeats; repeat++) {
    // The machine's speed drifts: what comes first now comes last next time.
    const due = targets.filter(({ once }) => repeat === 0 || !once)
    for (const target of repeat % 2 === 0 ? due : due.toReversed()) {
      const suited = tests.filter((test) => target.start || !test.targetsOnly)
      const began = performance.now()
      for (const test of suited) {
        samples.push({ repeat, target: target.name, test: test.name, outcome: await measure(target, test, sizes) })
      }
      const seconds = Math.round((performance.now() - began) / 1000)
      process.stderr.write(`repeat ${repeat + 1}: ${target.name} (${seconds} s)\n`)
    }
  }
  return samples
}

/** In fresh processes for each test: what one leaves on the heap would be measured by the next. */
async function measure(target: Target, test: Test, sizes: Sizes): Promise<Outcome> {
  const started: Process[] = []
  const start = async (...args: Parameters<typeof Process.start>) => {
    const process = await Process.start(...args)
    started.push(process)
    return process
  }
  const node = process.execPath
  try {
    const [upstream, own] = [await freePort(), await freePort()]
    const simulator = await start([node, sourceFile('../src/cli.ts'), 'simulate', '--port', String(upstream)], {
      processor: processors.load,
      port: upstream,
    })
    const client = await start([node, sourceFile('client.ts')], { processor: processors.load, orders: true })
    const { command, env } = target.start?.({ own, upstream }) ?? {}
    const proxy = command && (await start(command, { processor: processors.target, env: env ?? {}, port: own }))
    const watched = { target: proxy?.tree ?? [], simulator: simulator.tree }
    const order = orderFor(test, target, proxy ? own : upstream, watched, sizes)
    const outcomes: Outcome[] = []
    do {
      const outcome = await client.carryOut(order)
      const left = await streamsLeft(upstream)
      const leak = left > 0 && { [`streams still open ${idleMs / 1000} s after the client left`]: left }
      outcomes.push({ ...outcome, failures: { ...outcome.failures, ...leak } })
    } while (outcomes.every(mustRepeat) && !test.onFreshProcess && outcomes.length < attempts)
    return outcomes.find(hasFailed) ?? quietest(outcomes)
  } finally {
    for (const process of started.reverse()) await process.stop()
  }
}

function hasFailed({ failures }: Outcome): boolean {
  return Object.keys(failures).length > 0
}

/** Failures are kept; what other programs have spoilt is measured again. */
function mustRepeat(outcome: Outcome): boolean {
  return !hasFailed(outcome) && isDisturbed(outcome)
}

/** Waits until the simulator sends nothing any more, so that one test does not run into the next. */
async function streamsLeft(port: number): Promise<number> {
  const until = performance.now() + idleMs
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/stats`)
    const { open } = (await response.json()) as { open: number }
    if (open === 0 || performance.now() > until) return open
    await delay(50)
  }
}

function chosen<T extends { readonly name: string }>(all: readonly T[], names: string | undefined): readonly T[] {
  if (names === undefined) return all
  const wanted = names.split(',').map((name) => name.trim())
  const unknown = wanted.filter((name) => !all.some((each) => each.name === name))
  if (unknown.length > 0) throw new Error(`unknown: ${unknown.join(', ')}`)
  return all.filter(({ name }) => wanted.includes(name))
}

function report(samples: readonly Sample[], { targets, tests, repeats, sizes }: Plan, json: string | undefined): void {
  const place = pinned
    ? `target alone on processor ${processors.target}, simulator and client on ${processors.load}`
    : 'nothing pinned: no taskset, or one processor; take the numbers with care'
  const machine = { node: process.version, processors: cpus().length, model: cpus()[0]?.model ?? 'unknown', pinned }
  const lines = linesOf(samples, tests, targets, sizes)
  const faults = failures(samples)
  const warned = warnings(samples)
  const paragraphs = [
    `Node ${machine.node}, ${machine.processors} × ${machine.model}; ${place}. Median (min–max) of ${repeats}.`,
    table(lines, targets),
    loadTable(samples, tests, targets),
    ...(warned.length > 0 ? [`WARNING: these samples are doubtful\n${warned.join('\n')}`] : []),
    faults.length > 0 ? `FAILED\n${faults.join('\n')}` : 'No failures.',
  ]
  process.stdout.write(`${paragraphs.join('\n\n')}\n`)
  if (json) writeFileSync(json, `${JSON.stringify({ machine, failed: faults.length > 0, lines, samples }, null, 2)}\n`)
  if (faults.length > 0) process.exitCode = 1
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean', short: 'h' },
      reps: { type: 'string' },
      quick: { type: 'boolean' },
      full: { type: 'boolean' },
      targets: { type: 'string' },
      tests: { type: 'string' },
      json: { type: 'string' },
    },
  })
  if (values.help) return void process.stdout.write(help)
  const repeats = Number(values.reps ?? (values.quick ? 1 : 3))
  if (!(Number.isInteger(repeats) && repeats > 0)) throw new Error('--reps: must be a whole number above 0')
  const plan: Plan = {
    targets: chosen(allTargets, values.targets),
    tests: chosen(allTests, values.tests),
    repeats,
    sizes: { length: values.quick ? 0.5 : 1, idleStreams: values.full ? 5_000 : 1_000 },
  }
  report(await run(plan), plan, values.json)
}

// Processes are stopped on `exit`, which a signal alone does not bring about.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
main().catch((error) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 1
})
