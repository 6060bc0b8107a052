import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { fuzz } from './fuzz.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '100000' },
    seed: { type: 'string', default: randomBytes(4).toString('hex') },
    from: { type: 'string', default: '0' },
    concurrency: { type: 'string', default: '64' },
  },
})

const started = performance.now()
const result = await fuzz({
  seed: values.seed,
  count: Number(values.count),
  from: Number(values.from),
  concurrency: Number(values.concurrency),
  onProgress: (done) => done % 10_000 === 0 && process.stderr.write(`${done}\n`),
})
const seconds = Math.round((performance.now() - started) / 1_000)
process.stdout.write(`${JSON.stringify({ seed: values.seed, seconds, ...result }, null, 2)}\n`)
process.exitCode = result.wrong > 0 ? 1 : 0
