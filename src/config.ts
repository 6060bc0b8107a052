import { readFileSync } from 'node:fs'
import { parse as parseYaml } from 'yaml'
import { contradictions, type Settings, settingsSchema } from './settings.ts'

export interface Config extends Settings {
  /** From the environment only; never printed. Without any, nothing can be served. */
  readonly apiKeys: readonly string[]
}

/** The configuration cannot work; `faults` says why, one sentence each. */
export class ConfigError extends Error {
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(`configuration: ${faults.join('; ')}`)
    this.faults = faults
  }
}

type Env = Readonly<Record<string, string | undefined>>
type Tree = Record<string, unknown>

/** The usual short names and what they set. They win over the file and over `SLUICE_…`. */
const shortNames: Record<string, readonly [section: string, key: string]> = {
  ANTHROPIC_BASE_URL: ['upstream', 'base_url'],
  PORT: ['server', 'port'],
  HOST: ['server', 'host'],
  WORKERS: ['server', 'workers'],
  LOG_LEVEL: ['telemetry', 'log_level'],
  CORS_ORIGINS: ['server', 'cors_origins'],
}

/**
 * Reads the file that `SLUICE_CONFIG` names, then `SLUICE_<SECTION>__<KEY>`, then the short names.
 * @throws ConfigError with every fault at once
 */
export function loadConfig(env: Env = process.env): Config {
  const faults: string[] = []
  const tree = readTree(env, faults)
  overlayEnv(tree, env, faults)
  const apiKeys = splitKeys(readSecret(env, 'ANTHROPIC_API_KEY', faults))
  const redisUrl = readSecret(env, 'REDIS_URL', faults)
  if (redisUrl) set(tree, 'store', 'url', redisUrl)
  if (!apiKeys.every((key) => /^[\x21-\x7e]+$/.test(key))) {
    faults.push('ANTHROPIC_API_KEY: holds a character that no key has (a blank, or an ellipsis of an example)')
  }
  const parsed = settingsSchema.safeParse(tree)
  for (const issue of parsed.error?.issues ?? []) faults.push(`${issue.path.join('.') || 'file'}: ${issue.message}`)
  if (!parsed.success || faults.length > 0) throw new ConfigError(faults)
  const impossible = contradictions(parsed.data)
  if (impossible.length > 0) throw new ConfigError(impossible)
  return { ...parsed.data, apiKeys }
}

/** The same for what runs in one process, however many are configured. */
export function loadSingleConfig(): Config {
  return loadConfig({ ...process.env, WORKERS: '1' })
}

function readTree(env: Env, faults: string[]): Tree {
  const path = env['SLUICE_CONFIG']
  if (!path) return {}
  try {
    return (parseYaml(readFileSync(path, 'utf8')) as Tree | null) ?? {}
  } catch (error) {
    faults.push(`SLUICE_CONFIG: cannot read ${path}: ${error instanceof Error ? error.message.split('\n')[0] : error}`)
    return {}
  }
}

/** What Kubernetes sets in every pod beside a Service named sluice. */
const fromKubernetes = /^SLUICE_(SERVICE_(HOST|PORT)|PORT(_|$))/

function overlayEnv(tree: Tree, env: Env, faults: string[]): void {
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith('SLUICE_') || name === 'SLUICE_CONFIG' || fromKubernetes.test(name))
      continue
    const [, section, key] = /^SLUICE_([A-Z]+)__([A-Z0-9_]+)$/.exec(name) ?? []
    if (section && key) set(tree, section.toLowerCase(), key.toLowerCase(), value)
    else faults.push(`${name}: not a setting; the form is SLUICE_<SECTION>__<KEY>`)
  }
  for (const [name, [section, key]] of Object.entries(shortNames)) {
    const value = env[name]
    if (value) set(tree, section, key, value)
  }
}

/** Numbers, booleans, lists and maps are read as JSON; anything else is text. */
function set(tree: Tree, section: string, key: string, value: string): void {
  tree[section] = { ...(tree[section] as Tree | undefined), [key]: parseValue(value) }
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** Several stand between commas or on lines of their own. */
function splitKeys(text = ''): string[] {
  const keys = text.split(/[,\r\n]/).map((key) => key.trim())
  return [...new Set(keys.filter((key) => key !== ''))]
}

function readSecret(env: Env, name: string, faults: string[]): string | undefined {
  const path = env[`${name}_FILE`]
  const value = env[name]?.trim()
  if (value || !path) return value || undefined
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch {
    faults.push(`${name}_FILE: cannot read ${path}`)
    return undefined
  }
}
