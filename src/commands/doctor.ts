import { styleText } from 'node:util'
import type { Finding } from '../doctor/findings.ts'
import {
  type Command,
  complain,
  httpUrl,
  noWords,
  print,
  standardUrl,
  textOf,
  UsageError,
  wholeNumber,
} from './command.ts'

export const doctor: Command = {
  name: 'doctor',
  summary: 'whether streams get through all that lies between here and a Sluice',
  options: {
    url: {
      type: 'string',
      value: 'URL',
      says: `of Sluice as clients reach it, with its path if it has one (${standardUrl})`,
    },
    key: {
      type: 'string',
      value: 'KEY',
      says: 'of a client, where Sluice asks for one; or SLUICE_KEY in the environment',
    },
    origin: { type: 'string', value: 'ORIGIN', says: 'of a page, to see whether it may read streams' },
    silence: {
      type: 'string',
      value: 'S',
      says: 'seconds a stream is silent to find idle limits (40; 0 leaves it out)',
    },
    insecure: { type: 'boolean', says: 'believe any certificate' },
    json: { type: 'boolean', says: 'findings as JSON' },
  },
  details: 'Nothing is asked of Claude. Exit code 0 when nothing is at fault, 1 otherwise.',
  examples: [
    ['sluice doctor --url https://chat.example.com/sluice', 'through everything that lies before it'],
    ['sluice doctor --origin https://app.example.com --json', 'may a page of that origin read streams?'],
  ],
  async run(args) {
    noWords(args)
    const { values } = args
    const url = httpUrl('url', textOf(values['url']) ?? standardUrl)
    const silence = wholeNumber('silence', values['silence'], 40)
    if (silence > 180) throw new UsageError('--silence takes at most 180 seconds')
    const { clientKey } = await import('../config.ts')
    const key = textOf(values['key']) ?? clientKey()
    const target = {
      base: new URL(url),
      headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }) },
      insecure: values['insecure'] === true,
    }
    const [{ examine }, { findingsOf, productOf }] = await Promise.all([
      import('../doctor/examine.ts'),
      import('../doctor/findings.ts'),
    ])
    const asJson = values['json'] === true
    const stopCounting = !asJson && process.stderr.isTTY && silence > 0 ? countDown(silence) : undefined
    const wishes = { silenceMs: silence * 1_000, origin: textOf(values['origin']) }
    const observation = await examine(target, wishes).finally(stopCounting)
    const findings = findingsOf(observation)
    const product = productOf(observation.paced?.headers ?? {})
    if (asJson) print(`${JSON.stringify({ url, product: product ?? null, findings }, null, 2)}\n`)
    else print(findings.map((finding) => told(finding, product)).join(''))
    if (observation.paced?.status === 401) complain('Give a key with --key or SLUICE_KEY.\n')
    if (findings.some(({ level }) => level === 'fault')) process.exitCode = 1
  },
}

/** A line that says how long it takes, for somebody who looks; gone when what it returns is called. */
function countDown(seconds: number): () => void {
  const began = performance.now()
  const show = () => {
    const left = Math.max(0, Math.round(seconds - (performance.now() - began) / 1_000))
    complain(`\r\x1b[K  Listening whether silence is cut off: ${left} s left`)
  }
  show()
  const timer = setInterval(show, 1_000)
  return () => {
    clearInterval(timer)
    complain('\r\x1b[K')
  }
}

const marks = { good: ['green', '✓'], warning: ['yellow', '!'], fault: ['red', '✗'] } as const

/** A line, and below it what to change: only for the product that was recognised, where one was. */
function told({ level, says, advice }: Finding, product: string | undefined): string {
  const [colour, sign] = marks[level]
  const all = Object.entries(advice)
  const own = all.filter(([name]) => name === product || name === 'Sluice')
  const shown = own.some(([name]) => name === product) ? own : all
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  const lines = shown.map(([name, what]) => `      ${styleText('dim', name.padEnd(width))}  ${what}\n`)
  return `  ${styleText(colour, sign)} ${says}\n${lines.join('')}`
}
