import { parseArgs } from 'node:util'
import { type Arguments, type Command, type Option, UsageError } from './command.ts'

/** What every command takes. */
export const everywhere = {
  help: { type: 'boolean', short: 'h', says: 'this' },
  version: { type: 'boolean', short: 'v', says: 'the version' },
} as const

/** What the process ends with, for whatever has started it. */
export const exits = [
  [0, 'Done, or stopped by a signal after its streams had ended.'],
  [1, 'It went wrong; a sentence on stderr says why. Of doctor, check --connect and tools: they found a fault.'],
  [64, 'There is no such command or option, or it takes something else.'],
  [78, 'The configuration cannot work, or Node is too old: starting again is of no use before that is changed.'],
  [130, 'Stopped by Ctrl-C in the middle of an answer (`sluice chat` in a pipe).'],
] as const

export function helpOfAll(commands: readonly Command[]): string {
  const list = commands.map(({ name, form, summary }) => [form ? `${name} ${form}` : name, summary] as const)
  return `Usage: sluice [command] [options]

${columns(list)}
sluice COMMAND --help, or sluice help COMMAND, tells more of one. Settings come from the file that SLUICE_CONFIG names and
from the environment; see config/sluice.yaml.

Exit codes:
${columns(exits.map(([code, meaning]) => [String(code), meaning.replaceAll('`', '')]))}`
}

export function helpOf({ name, form, summary, options, details, examples }: Command): string {
  const usage = ['sluice', name, form, options && '[options]'].filter((part) => part).join(' ')
  const listed = Object.entries(options ?? {}).map((entry) => [optionForm(...entry), entry[1].says] as const)
  const tried = (examples ?? []).map(([line, says]) => `  ${line}\n      ${says}\n`)
  const parts = [
    `Usage: ${usage}\n\n${summary}\n`,
    listed.length > 0 && columns(listed),
    details && `${details}\n`,
    tried.length > 0 && `Examples:\n${tried.join('')}`,
  ]
  return parts.filter((part) => part).join('\n')
}

export const optionForm = (name: string, { value }: Option) => `--${name}${value ? ` ${value}` : ''}`

function columns(rows: readonly (readonly [left: string, right: string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2
  return rows.map(([left, right]) => `  ${left.padEnd(width)}${right}\n`).join('')
}

/** @throws UsageError which names what comes nearest to a name that is not known */
export function commandNamed(commands: readonly Command[], name: string): Command {
  const command = commands.find((each) => each.name === name)
  if (command) return command
  const names = [...commands.map((each) => each.name), 'help']
  throw new UsageError(`there is no command '${name}'${suggestion(name, names)}`)
}

/** @throws UsageError */
export function readArguments({ name, options = {} }: Command, args: readonly string[]): Arguments {
  const all = { ...options, ...everywhere }
  try {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options: all })
    return { values, words: positionals }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const written = code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? /'(--?[^']+)'/.exec(message)?.[1] : undefined
    if (written === undefined) throw error
    const known = Object.keys(all).map((each) => `--${each}`)
    throw new UsageError(`${name} has no option '${written}'${suggestion(written, known)}`)
  }
}

function suggestion(written: string, known: readonly string[]): string {
  const [nearest] = known
    .map((name) => ({ name, far: distance(written, name) }))
    .filter(({ name, far }) => far <= Math.min(2, name.replace(/^--/, '').length - 1))
    .sort((a, b) => a.far - b.far)
  return nearest ? `; did you mean '${nearest.name}'?` : ''
}

/** Letters to be added, dropped or changed to make one out of the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const changed = (row[j] ?? 0) + (letter === b[j] ? 0 : 1)
      next.push(Math.min(changed, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
