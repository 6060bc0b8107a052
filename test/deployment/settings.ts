import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Config, loadConfig } from '../../src/config.ts'

export const root = join(import.meta.dirname, '../..')
export const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** What the image sets, from the Dockerfile. */
export function imageEnv(): Record<string, string> {
  const [, line = ''] = /^ENV (.+)$/m.exec(read('Dockerfile')) ?? []
  return Object.fromEntries(line.split(' ').map((pair) => pair.split('=') as [string, string]))
}

/** The command of the image's health check. */
export function imageHealthcheck(): string[] {
  const [, command = ''] = /^HEALTHCHECK [^[]*CMD (\[.+\])$/m.exec(read('Dockerfile')) ?? []
  return JSON.parse(command)
}

/** Variables that are no `SLUICE_…`, which `loadConfig` checks itself: short names of settings, the key, and Node's. */
const otherNames = new Set([
  ...[...read('config/sluice.yaml').matchAll(/Also ([A-Z_]+)\./g)].map(([, name]) => name),
  ...['ANTHROPIC_API_KEY', 'ANTHROPIC_API_KEY_FILE', 'REDIS_URL', 'NODE_OPTIONS', 'NODE_ENV'],
])

/**
 * The configuration that a container of the image gets from these variables.
 * @throws when one is no setting, or they cannot work
 */
export function configOf(env: Readonly<Record<string, string>>): Config {
  const unknown = Object.keys(env).filter((name) => !name.startsWith('SLUICE_') && !otherNames.has(name))
  if (unknown.length > 0) throw new Error(`no settings: ${unknown}`)
  const key = join(mkdtempSync(join(tmpdir(), 'sluice-key-')), 'key')
  writeFileSync(key, 'test-key\n')
  return loadConfig({ ...imageEnv(), ...env, ...(env['ANTHROPIC_API_KEY_FILE'] && { ANTHROPIC_API_KEY_FILE: key }) })
}

/** `40s` or `1m` in milliseconds. */
export function durationMs(text: string): number {
  const [, n, unit] = /^(\d+)(s|m)$/.exec(text) ?? []
  if (!unit) throw new Error(`no duration: ${text}`)
  return Number(n) * (unit === 's' ? 1_000 : 60_000)
}
