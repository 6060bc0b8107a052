import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Outcome, Reading } from './read-with-client.ts'

const run = promisify(execFile)
const modules = join(import.meta.dirname, '../../node_modules')

export type Runtime = 'node' | 'deno' | 'bun'

/** Less than the 45 seconds of silence that a client puts up with: with that timer left behind no program would end in time. */
const timeout = 40_000

/** As their users start them, but without a word to the world outside or a file in the project. */
const starts = {
  node: () => [process.execPath],
  deno: () => [installed('deno', 'deno'), 'run', '--no-lock', '--cached-only', '--allow-net=127.0.0.1'],
  bun: () => [installed('bun', 'bin/bun'), '--no-install', '--no-env-file'],
} satisfies Record<Runtime, () => string[]>

/** Runs a script to its end. @throws when it fails, or does not end by itself */
export async function runIn(runtime: Runtime, script: string, ...args: string[]): Promise<string> {
  const [program, ...flags] = starts[runtime]() as [string, ...string[]]
  const env = { ...process.env, DENO_NO_UPDATE_CHECK: '1', DENO_DIR: join(tmpdir(), 'sluice-deno'), DO_NOT_TRACK: '1' }
  const { stdout, stderr } = await run(program, [...flags, script, ...args], { env, timeout })
  if (stderr !== '') throw new Error(`${runtime} says: ${stderr}`)
  return stdout
}

/** Reads one stream with the client, in a process of its own. */
export async function readIn(runtime: Runtime, reading: Reading): Promise<Outcome> {
  const script = join(import.meta.dirname, 'read-alone.ts')
  return JSON.parse(await runIn(runtime, script, JSON.stringify(reading))) as Outcome
}

/**
 * What npm has chosen for this machine among the packages of a runtime, one for each kind of machine. The commands of their
 * main packages need install scripts, or rewrite themselves.
 */
function installed(name: string, file: string): string {
  const { optionalDependencies } = JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8')) as {
    optionalDependencies: Record<string, string>
  }
  const program = Object.keys(optionalDependencies)
    .map((each) => join(modules, each, file))
    .find(existsSync)
  if (program === undefined) throw new Error(`npm has installed no ${name} for this machine`)
  return program
}
