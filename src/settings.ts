import { isIP } from 'node:net'
import { z } from 'zod'
import { accessKeys } from './access/keyring.ts'
import { disconnectPolicies, maxTokens, modelName } from './core/request.ts'
import { logLevels } from './telemetry/logger.ts'

/**
 * Every setting, its default and its limits. A commented copy of the defaults is `config/sluice.yaml`; the reference in
 * `docs/configuration.md` is generated from that file.
 */
const milliseconds = (standard: number, least = 1) =>
  z
    .int()
    .min(least)
    .max(2 ** 31 - 1)
    .default(standard)
const bytes = (standard: number) =>
  z
    .int()
    .min(1024)
    .max(2 ** 40)
    .default(standard)
const list = <T extends z.ZodType>(item: T) =>
  z.preprocess((value) => (typeof value === 'string' ? splitList(value) : value), z.array(item)).default([])

const origin = z.string().refine((value) => URL.canParse(value) && new URL(value).origin === value, {
  message: 'must be an exact origin such as https://app.example.com, without path or trailing slash',
})

const modelPattern = modelName.regex(/^[^*]*\*?$/, 'may hold one *, at its end')

const price = z.strictObject({
  input: z.number().min(0),
  output: z.number().min(0),
  cache_read: z.number().min(0),
  cache_write_5m: z.number().min(0),
  cache_write_1h: z.number().min(0),
})

export const settingsSchema = z.strictObject({
  server: section({
    host: z.string().min(1).default('127.0.0.1'),
    port: z.int().min(0).max(65535).default(8787),
    cors_origins: list(origin),
    allowed_hosts: list(z.string().min(1)),
    trusted_proxies: list(z.string().min(1)),
    max_body_bytes: bytes(10 * 1024 * 1024),
    headers_timeout_ms: milliseconds(10_000, 100),
    request_timeout_ms: milliseconds(30_000, 100),
    drain_ms: milliseconds(30_000, 0),
    workers: z.int().min(1).max(256).default(1),
  }),
  upstream: section({
    base_url: z.url({ protocol: /^https?$/ }).default('https://api.anthropic.com'),
    default_model: modelName.default('claude-opus-5-5'),
    default_max_tokens: maxTokens.min(1).default(8192),
    connect_timeout_ms: milliseconds(5_000, 10),
    max_event_bytes: bytes(2 * 1024 * 1024),
    fallback_models: list(modelName),
    prices: z.record(modelName, price).default({}),
  }),
  timeouts: section({
    headers_ms: milliseconds(30_000, 10),
    first_event_ms: milliseconds(120_000, 10),
    silence_ms: milliseconds(45_000, 10),
    stall_ms: milliseconds(300_000, 10),
    total_ms: milliseconds(900_000, 10),
  }),
  retry: section({
    max_attempts: z.int().min(0).max(10).default(2),
    budget_ms: milliseconds(10_000, 0),
    max_retry_after_ms: milliseconds(5_000, 0),
    after_timeout: z.boolean().default(false),
    budget_ratio: z.number().min(0).max(10).default(0.2),
    budget_floor: z.int().min(0).max(1_000_000).default(10),
  }),
  recovery: section({
    max_attempts: z.int().min(0).max(10).default(1),
    prefill_models: list(modelPattern),
  }),
  streams: section({
    on_disconnect: z.enum(disconnectPolicies).default('grace'),
    grace_ms: milliseconds(15_000, 0),
    retention_ms: milliseconds(300_000, 0),
    key_ttl_ms: milliseconds(86_400_000, 1_000),
    max_bytes: bytes(16 * 1024 * 1024),
    max_total_bytes: bytes(512 * 1024 * 1024),
    max_streams: z.int().min(1).max(1_000_000).default(5_000),
    max_lag_ms: milliseconds(25),
    commit_after_ms: milliseconds(1_000, 0),
    heartbeat_ms: milliseconds(15_000, 10),
    client_stall_ms: milliseconds(30_000, 10),
  }),
  store: section({
    url: z
      .url({ protocol: /^rediss?$/, hostname: /./, error: 'must be a redis:// or rediss:// URL with a host' })
      .refine(isRedisUrl, 'has a path that is no database number, or a % that is none of an encoded character')
      .optional(),
    durability: z.enum(['durable', 'fast']).default('durable'),
    prefix: z
      .string()
      .regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, dashes and underscores')
      .default('sluice'),
  }),
  access: section({
    mode: z.enum(['none', 'keys']).optional(),
    keys: accessKeys.default([]),
    keys_file: z.string().min(1).optional(),
  }),
  telemetry: section({
    log_level: z.enum(logLevels).default('info'),
  }),
})

export type Settings = z.output<typeof settingsSchema>

/** A section may be left out whole, as may any key of it. */
function section<T extends z.ZodRawShape>(shape: T) {
  return z.strictObject(shape).prefault({} as never)
}

/** What the client would only find out when it connects. */
function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { pathname, username, password } = new URL(text)
  const encoded = [username, password].every((part) => !/%(?![0-9a-f]{2})/i.test(part))
  return encoded && /^\/?\d*$/.test(pathname)
}

function splitList(text: string): string[] {
  return text
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '')
}

/** Settings that are valid each and cannot work together. */
export function contradictions({ server, access, store }: Settings): string[] {
  const faults: string[] = []
  if (!isLoopback(server.host) && access.mode === undefined) {
    faults.push(
      `server.host: ${server.host} can be reached from other machines, and anybody there could spend your tokens; ` +
        'write access.mode: keys and give keys to those who may, ' +
        'or access.mode: none (SLUICE_ACCESS__MODE=none) if something in front of Sluice keeps them out',
    )
  }
  const hasKeys = access.keys.length > 0 || access.keys_file !== undefined
  // Somebody believes that these keys are asked for.
  if (hasKeys && access.mode !== 'keys')
    faults.push('access.mode: must be keys where there are any, or nobody needs one')
  if (!hasKeys && access.mode === 'keys') {
    faults.push('access.mode: keys without any lets nobody in; make one with `sluice keys new`')
  }
  if (server.headers_timeout_ms > server.request_timeout_ms) {
    faults.push('server.headers_timeout_ms: must not be longer than server.request_timeout_ms, which includes it')
  }
  if (server.workers > 1 && store.url === undefined) {
    faults.push(
      `server.workers: ${server.workers} workers share their streams and keys through Redis; ` +
        'set REDIS_URL, or run one worker',
    )
  }
  return faults
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
