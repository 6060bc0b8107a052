import { isIP } from 'node:net'
import { z } from 'zod'
import { jwtSettings } from './access/jwt-settings.ts'
import { accessKeys } from './access/keyring.ts'
import { ticketSettings } from './access/tickets.ts'
import { limitsSchema } from './core/caller.ts'
import { capSettings, fieldName } from './core/caps.ts'
import { list as listOf } from './core/list.ts'
import { milliseconds } from './core/milliseconds.ts'
import type { Policy } from './core/policy.ts'
import { presetFrom, presetName, presetSchema } from './core/preset.ts'
import { disconnectPolicies, maxTokens, modelName, modelPattern } from './core/request.ts'
import { formats } from './formats/registry.ts'
import { plainHost } from './http/origin.ts'
import { isAddressRange } from './http/proxies.ts'
import { telemetrySettings } from './telemetry/settings.ts'
import { toolSettings } from './tools/settings.ts'

/**
 * Every setting, its default and its limits. A commented copy of the defaults is `config/sluice.yaml`; the reference in
 * `docs/configuration.md` is generated from that file.
 */
const bytes = (standard: number) =>
  z
    .int()
    .min(1024)
    .max(2 ** 40)
    .default(standard)
const list = <T extends z.ZodType>(item: T) => listOf(item).default([])

const origin = z.string().refine((value) => URL.canParse(value) && new URL(value).origin === value, {
  message: 'must be an exact origin such as https://app.example.com, without path or trailing slash',
})

const hostName = z
  .string()
  .refine((value) => isIP(value) === 6 || /^(?:\[[0-9a-f:.]+\]|[^\s/:@[\]]+)$/i.test(value), {
    message: 'must be a name or address as the Host header has it, such as sluice.example.com, without scheme or port',
  })
  .transform(plainHost)

const addressRange = z.string().refine(isAddressRange, {
  message:
    'must be an address, a CIDR range such as 10.0.0.0/8, or loopback, linklocal or uniquelocal; a range of all ' +
    'addresses would let any client choose its own',
})

const tls = z.strictObject({
  cert_file: z.string().min(1),
  key_file: z.string().min(1),
  min_version: z.enum(['TLSv1.2', 'TLSv1.3']).default('TLSv1.2'),
  http2: z.boolean().default(true),
  hsts: z.boolean().default(true),
})

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
    allowed_hosts: list(hostName),
    trusted_proxies: list(addressRange),
    max_body_bytes: bytes(10 * 1024 * 1024),
    headers_timeout_ms: milliseconds(10_000, 100),
    request_timeout_ms: milliseconds(30_000, 100),
    max_connections_per_address: z.int().min(0).max(1_000_000).default(0),
    drain_ms: milliseconds(30_000, 0),
    workers: z.int().min(1).max(256).default(1),
    tls: tls.optional(),
    playground: z.boolean().optional(),
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
  tool_limits: section({
    max_steps: z.int().min(1).max(1_000).default(16),
    total_ms: milliseconds(300_000),
    max_result_bytes: bytes(256 * 1024),
    max_total_result_bytes: bytes(2 * 1024 * 1024),
    max_tokens: z.int().min(1).max(100_000_000).default(128_000),
    max_parallel: z.int().min(1).max(1_000).default(8),
    approval_ms: milliseconds(300_000),
  }),
  streams: section({
    on_disconnect: z.enum(disconnectPolicies).default('grace'),
    grace_ms: milliseconds(15_000, 0),
    retention_ms: milliseconds(300_000, 0),
    key_ttl_ms: milliseconds(86_400_000, 1_000),
    max_bytes: bytes(16 * 1024 * 1024),
    max_total_bytes: bytes(512 * 1024 * 1024),
    max_streams: z.int().min(1).max(1_000_000).default(5_000),
    max_lag_ms: milliseconds(60),
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
    mode: z.enum(['none', 'keys', 'jwt']).optional(),
    keys: accessKeys.default([]),
    keys_file: z.string().min(1).optional(),
    limits: limitsSchema.prefault({}),
    total_limits: limitsSchema.prefault({}),
    fallback_share: z.number().positive().max(1).optional(),
    ops_token: z
      .string()
      .regex(/^[\x21-\x7e]{16,256}$/, 'must be 16 to 256 visible ASCII characters')
      .optional(),
    presets_only: z.boolean().default(false),
    default_preset: presetName.optional(),
    models: list(modelPattern),
    ...capSettings,
    forbidden_fields: list(fieldName),
    jwt: jwtSettings.optional(),
    tickets: ticketSettings.prefault({}),
  }),
  presets: z.record(presetName, presetSchema(Object.keys(formats))).default({}),
  tools: toolSettings.default({}),
  telemetry: section(telemetrySettings),
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

/** What clients may ask for, under these settings. */
export function policyOf({ access, presets, upstream }: Settings): Policy {
  return {
    defaults: upstream,
    presets: new Map(Object.entries(presets).map(([name, preset]) => [name, presetFrom(preset)])),
    presetsOnly: access.presets_only,
    defaultPreset: access.default_preset,
    caps: access,
  }
}
