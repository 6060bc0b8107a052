import { z } from 'zod'
import { ConfigError } from '../config.ts'
import { configurationExit } from '../supervisor.ts'
import { complain, UsageError } from './command.ts'

export const usageExit = 64

/** Says in a sentence why a command cannot go on, and ends the process with the code that stands for that. */
export function fail(thrown: unknown): never {
  if (thrown instanceof ConfigError) {
    complain(thrown.faults.map((fault) => `sluice: ${fault}\n`).join(''))
    process.exit(configurationExit)
  }
  const { code = '', message }: NodeJS.ErrnoException = thrown instanceof Error ? thrown : new Error(String(thrown))
  if (thrown instanceof UsageError || code.startsWith('ERR_PARSE_ARGS')) {
    complain(`sluice: ${message}\nTry: sluice --help\n`)
    process.exit(usageExit)
  }
  if (thrown instanceof z.ZodError) complain(`sluice: ${z.prettifyError(thrown)}\n`)
  else if (code === 'EADDRINUSE')
    complain(`sluice: the port is taken; set PORT to another one, or to 0 for any free one (${message})\n`)
  else complain(`sluice: ${message}\n`)
  process.exit(1)
}
