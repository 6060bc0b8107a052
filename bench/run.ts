import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import type { Section } from './plan.ts'
import { pinned } from './processes.ts'
import { faultsOf, inserted, markdownOf, plans, type Results, svgOf } from './report.ts'
import { carryOut } from './session.ts'
import type { Sample } from './stats.ts'

const help = `Usage: npm run bench -- [options]

  --full            all there is to measure (npm run bench:full), instead of what fits into two minutes
  --sections A,B    of: ${namesOf(plans.full)}; without --full: ${namesOf(plans.quick)}
  --targets A,B     only these of each section
  --tests A,B       only these of each section
  --reps N          repeats of each section
  --json FILE       write every outcome there
  --markdown FILE   write the tables there, between the marks of a document that has them
  --svg FILE        draw the ratios to the byte pipe
  --from FILE       measure nothing: what --json wrote
`

const options = {
  help: { type: 'boolean', short: 'h' },
  full: { type: 'boolean' },
  sections: { type: 'string' },
  targets: { type: 'string' },
  tests: { type: 'string' },
  reps: { type: 'string' },
  json: { type: 'string' },
  markdown: { type: 'string' },
  svg: { type: 'string' },
  from: { type: 'string' },
} as const

type Options = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

interface Named {
  readonly name: string
}

function namesOf(all: readonly Named[]): string {
  return all.map(({ name }) => name).join(', ')
}

/** Those of a list of names that are wanted; a name that nobody has is a typing error. */
function wanted(option: string, names: string | undefined, all: readonly Named[]): (each: Named) => boolean {
  if (names === undefined) return () => true
  const list = names.split(',').map((name) => name.trim())
  const unknown = list.filter((name) => !all.some((each) => each.name === name))
  if (unknown.length > 0) throw new Error(`--${option}: unknown: ${unknown.join(', ')}`)
  return ({ name }) => list.includes(name)
}

function chosen({ full, sections, targets, tests, reps }: Options): Section[] {
  const repeats = reps === undefined ? undefined : Number(reps)
  if (repeats !== undefined && !(Number.isInteger(repeats) && repeats > 0)) {
    throw new Error('--reps: must be a whole number above 0')
  }
  const all = plans[full ? 'full' : 'quick']
  const isTarget = wanted(
    'targets',
    targets,
    all.flatMap((section) => section.targets),
  )
  const isTest = wanted(
    'tests',
    tests,
    all.flatMap((section) => section.tests),
  )
  const narrowed = all.filter(wanted('sections', sections, all)).map((section) => ({
    ...section,
    targets: section.targets.filter(isTarget),
    tests: section.tests.filter(isTest),
    repeats: repeats ?? section.repeats,
  }))
  return narrowed.filter((section) => section.targets.length > 0 && section.tests.length > 0)
}

function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined
}

async function measured(values: Options): Promise<Results> {
  const sections = chosen(values)
  const programs = new Set(sections.flatMap(({ targets }) => targets.flatMap(({ program }) => program ?? [])))
  const missing = [...programs].filter((program) => !isInstalled(program))
  const samples: Sample[] = []
  const errors: string[] = []
  const tell = (text: string) => void process.stderr.write(`${text}\n`)
  for (const section of sections) {
    const targets = section.targets.filter(({ program }) => !missing.includes(program ?? ''))
    // What was measured in half an hour is not to be lost because one process has not started.
    await carryOut({ ...section, targets }, samples, tell).catch((error) => {
      errors.push(`${section.name}: ${error instanceof Error ? error.message : error}`)
      tell(errors.at(-1) as string)
    })
  }
  return {
    date: new Date().toISOString().slice(0, 10),
    plan: values.full ? 'full' : 'quick',
    machine: { node: process.version, processors: cpus().length, model: cpus()[0]?.model ?? 'unknown', pinned },
    missing,
    errors,
    samples,
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options })
  if (values.help) return void process.stdout.write(help)
  const { from, json, markdown, svg } = values
  const results = from === undefined ? await measured(values) : (JSON.parse(readFileSync(from, 'utf8')) as Results)
  const text = markdownOf(results)
  process.stdout.write(`${text}\n`)
  if (json) writeFileSync(json, `${JSON.stringify(results, null, 2)}\n`)
  if (markdown)
    writeFileSync(markdown, inserted(text, existsSync(markdown) ? readFileSync(markdown, 'utf8') : undefined))
  if (svg) writeFileSync(svg, svgOf(results))
  if (faultsOf(results).length > 0) process.exitCode = 1
}

// Processes are stopped on `exit`, which a signal alone does not bring about.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
main().catch((error) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 1
})
