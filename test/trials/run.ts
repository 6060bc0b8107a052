import { parseArgs } from 'node:util'
import { client } from './client.ts'
import { cuts } from './cuts.ts'
import { heals } from './heals.ts'
import { kills } from './kills.ts'
import { redis } from './redis.ts'
import { replies } from './replies.ts'
import { tabs } from './tabs.ts'
import { isGood, type Mode, sentenceOf, type Tally, type Trial, verdictOf } from './trial.ts'

const trials: readonly Trial[] = [client, cuts, heals, kills, redis, replies, tabs]

const help = `Usage: node test/trials/run.ts [name…] [options]

${trials.map(({ name, about, count }) => `  ${name.padEnd(8)} ${about} (${count})\n`).join('')}
  --count N          how many, instead of the numbers above
  --seed S           another seed gives other trials, the same seed the same ones; a new one unless given
  --from N           number of the first one: with --count 1 to have a single failure again
  --mode M           memory or redis, where a trial knows both; both unless given
  --concurrency N    streams at once, where a trial does not say itself; 50 unless given

They need redis-server on the PATH. Each prints a line of JSON and a line for people; the exit code is 1 if anything
went wrong.
`

function numberOf(text: string, option: string, least: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least) throw new Error(`${option}: must be a whole number from ${least} on`)
  return value
}

function chosen(names: readonly string[]): readonly Trial[] {
  const unknown = names.filter((name) => !trials.some((trial) => trial.name === name))
  if (unknown.length > 0) throw new Error(`there is no trial ${unknown.join(', ')}`)
  return names.length === 0 ? trials : trials.filter(({ name }) => names.includes(name))
}

function modesOf(mode: string | undefined): readonly Mode[] {
  if (mode === undefined) return ['memory', 'redis']
  if (mode !== 'memory' && mode !== 'redis') throw new Error('--mode: must be memory or redis')
  return [mode]
}

function report(name: string, tally: Tally, seconds: number, seed: string): void {
  const { trials, upstream_calls_wrong, more, problems } = tally
  const result = { name, trials, ...verdictOf(tally), upstream_calls_wrong, seconds, ...more, seed, problems }
  const outcome = isGood(tally) ? 'nothing wrong' : `WRONG\n  ${problems.join('\n  ')}`
  process.stdout.write(`${JSON.stringify(result)}\n${name}: ${trials} trials in ${seconds} s, ${outcome}\n`)
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      count: { type: 'string' },
      seed: { type: 'string' },
      from: { type: 'string' },
      mode: { type: 'string' },
      concurrency: { type: 'string' },
    },
  })
  if (values.help) return void process.stdout.write(help)
  const seed = values.seed ?? String(Date.now())
  const modes = modesOf(values.mode)
  for (const trial of chosen(positionals)) {
    const options = {
      ...{ seed, modes },
      count: values.count === undefined ? trial.count : numberOf(values.count, '--count', 1),
      from: numberOf(values.from ?? '0', '--from', 0),
      concurrency: numberOf(values.concurrency ?? '50', '--concurrency', 1),
    }
    const began = performance.now()
    const tally = await trial.run(options)
    report(trial.name, tally, Math.round((performance.now() - began) / 100) / 10, seed)
    if (!isGood(tally)) process.exitCode = 1
  }
}

// Processes are stopped on `exit`, which a signal alone does not bring about.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))
main().catch((error: unknown) => {
  process.stderr.write(`trials: ${sentenceOf(error)}\n`)
  process.exit(1)
})
