#!/usr/bin/env node
import { noWords, print } from './commands/command.ts'
import { fail } from './commands/failure.ts'
import { commandNamed, helpOf, helpOfAll, readArguments } from './commands/help.ts'
import { commands } from './commands/registry.ts'
import { ConfigError } from './config.ts'
import { tuneEngine } from './engine.ts'
import { faultOfNode, readVersion } from './version.ts'

async function main(args: string[]): Promise<void> {
  // Options may stand before the command, as in `sluice --help keys`.
  const at = args.findIndex((arg) => !arg.startsWith('-'))
  const [standard] = commands
  const name = args[at] ?? standard.name
  if (name === 'help') return help(args.toSpliced(at, 1))
  const command = commandNamed(commands, name)
  const given = readArguments(
    command,
    args.filter((_, index) => index !== at),
  )
  if (given.values['version']) return print(`${readVersion()}\n`)
  if (given.values['help']) return print(at < 0 ? helpOfAll(commands) : helpOf(command))
  const fault = faultOfNode(process.versions.node)
  if (fault) throw new ConfigError([fault])
  await command.run(given)
}

/** `sluice help keys` is `sluice keys --help`. */
function help([name, ...words]: string[]): void {
  noWords({ values: {}, words })
  print(name === undefined || name.startsWith('-') ? helpOfAll(commands) : helpOf(commandNamed(commands, name)))
}

tuneEngine()
main(process.argv.slice(2)).catch(fail)
