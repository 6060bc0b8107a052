import { readFileSync } from 'node:fs'
import { parse as parseYaml } from 'yaml'
import { contradictions } from './contradictions.ts'
import { type Settings, settingsSchema } from './settings.ts'

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
  OTEL_EXPORTER_OTLP_ENDPOINT: ['telemetry', 'otlp_endpoint'],
  OTEL_SERVICE_NAME: ['telemetry', 'service_name'],
}

/** The same for what should not stand in the open: each may also come from a file, named by its name and `_FILE`. */
const secrets: Record<string, readonly string[]> = {
  REDIS_URL: ['store', 'url'],
  TICKETS_SECRET: ['access', 'tickets', 'secret'],
  OPS_TOKEN: ['access', 'ops_token'],
  OTEL_EXPORTER_OTLP_HEADERS: ['telemetry', 'otlp_headers'],
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
  for (const [name, path] of Object.entries(secrets)) {
    const value = readSecret(env, name, faults)
    if (value) set(tree, path, value)
  }
  if (!apiKeys.every((key) => /^[\x21-\x7e]+$/.test(key))) {
    faults.push('ANTHROPIC_API_KEY: holds a character that no key has (a blank, or an ellipsis of an example)')
  }
  const parsed = settingsSchema.safeParse(tree)
  for (const issue of parsed.error?.issues ?? []) {
    // Where the name could be a secret in the wrong place, the schema has a sentence of its own, without it.
    const unknown = issue.code === 'unrecognized_keys' && issue.message.startsWith('Unrecognized')
    const fault = unknown ? `has no setting ${issue.keys.join(', ')}` : issue.message
    faults.push(`${issue.path.join('.') || 'file'}: ${fault}`)
  }
  if (!parsed.success || faults.length > 0) throw new ConfigError(faults)
  const impossible = contradictions(parsed.data)
  if (impossible.length > 0) throw new ConfigError(impossible)
  return { ...parsed.data, apiKeys }
}

/** The same for what runs in one process, however many are configured. */
export function loadSingleConfig(): Config {
  return loadConfig({ ...process.env, WORKERS: '1' })
}

/** For commands that are clients themselves. */
export function clientKey(env: Env = process.env): string | undefined {
  return env['SLUICE_KEY'] || undefined
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

/** Not settings of the server. */
const ofThisProgram = new Set(['SLUICE_CONFIG', 'SLUICE_KEY'])
/** What Kubernetes sets in every pod beside a Service named sluice. */
const fromKubernetes = /^SLUICE_(SERVICE_(HOST|PORT)|PORT(_|$))/

function overlayEnv(tree: Tree, env: Env, faults: string[]): void {
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith('SLUICE_') || ofThisProgram.has(name) || fromKubernetes.test(name))
      continue
    const [, path] = /^SLUICE_([A-Z]+(?:_[A-Z]+)*(?:__[A-Z0-9]+(?:_[A-Z0-9]+)*){1,2})$/.exec(name) ?? []
    if (path) set(tree, path.toLowerCase().split('__'), parseValue(value))
    else faults.push(`${name}: not a setting; the form is SLUICE_<SECTION>__<KEY>`)
  }
  for (const [name, [section, key]] of Object.entries(shortNames)) {
    const value = env[name]
    if (value) set(tree, [section, key], parseValue(value))
  }
}

/** A map that stands on the way is kept; anything else gives way. */
function set(tree: Tree, [key = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    tree[key] = value
    return
  }
  const branch = { ...(tree[key] as Tree | undefined) }
  set(branch, rest, value)
  tree[key] = branch
}

/** Numbers, booleans, lists and maps are read as JSON; anything else is text. */
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
