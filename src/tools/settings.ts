import { z } from 'zod'
import { milliseconds } from '../core/milliseconds.ts'
import { addressCheck, parseRange } from './addresses.ts'

/** What Claude takes as a name of a tool. */
const offeredPattern = /^[a-zA-Z0-9_-]{1,128}$/

const approval = z.enum(['none', 'required'])

const range = z
  .string()
  .refine((text) => parseRange(text) !== undefined, 'must be an address, or a range such as 10.1.0.0/16')

const url = z.url({ protocol: /^https?$/, error: 'must be an https:// URL' })

/** Set by Sluice itself, or of one connection only. */
const reservedHeaders =
  /^(host|connection|content-(type|length|encoding)|transfer-encoding|accept(-encoding)?|te|upgrade|trailer|expect|keep-alive|idempotency-key|sluice-.*|mcp-.*)$/i

/** The sentences quote nothing: what stands in the wrong place may be a secret. */
const headers = z
  .record(z.string(), z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'must hold no line breaks'))
  .default({})
  .refine(
    (all) => Object.keys(all).every((name) => /^[!#$%&'*+.^_`|~\w-]+$/.test(name)),
    'has a name that no header has',
  )
  .refine(
    (all) => !Object.keys(all).some((name) => reservedHeaders.test(name)),
    'must not hold headers that Sluice sets itself',
  )

const jsonSchema = z.looseObject({ type: z.literal('object') })

/** How every kind is limited. */
const limits = {
  timeout_ms: milliseconds(10_000, 10),
  max_bytes: z
    .int()
    .min(1024)
    .max(16 * 1024 * 1024)
    .default(262_144),
  max_concurrent: z.int().min(1).max(10_000).default(16),
  approval: approval.default('none'),
}

const remote = {
  headers,
  allow_private: z
    .union([z.literal(false), z.array(range)], 'must be false or a list of addresses and ranges')
    .default(false),
}

/** Characters; with fewer, calls could be signed by guessing. */
export const leastSecret = 16

const webhook = z.strictObject({
  kind: z.literal('webhook'),
  url,
  description: z.string().min(1).max(16_384).optional(),
  input_schema: jsonSchema,
  output_schema: z.record(z.string(), z.unknown()).optional(),
  secret: z.string().min(leastSecret).optional(),
  secret_file: z.string().min(1).optional(),
  ...limits,
  ...remote,
})

const pin = z.string().regex(/^[0-9a-f]{64}$/, 'must be a pin: 64 hexadecimal digits')

const mcp = z.strictObject({
  kind: z.literal('mcp'),
  url: url.optional(),
  command: z.string().min(1).optional(),
  args: z.array(z.string()).default([]),
  env: z.record(z.string(), z.string()).default({}),
  token: z
    .string()
    .regex(/^[\x21-\x7e]+$/, 'must be visible ASCII characters')
    .optional(),
  token_file: z.string().min(1).optional(),
  allow: z.array(z.string().min(1).max(128)).min(1),
  approvals: z.record(z.string(), approval).default({}),
  pins: z.record(z.string(), pin).default({}),
  pin: z.boolean().default(false),
  ...limits,
  ...remote,
})

/** The tools that Sluice runs itself, by name; of an MCP server the name begins those of its tools. */
export const toolSettings = z.record(
  z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, 'a name must be 1 to 64 letters, digits, dashes and underscores'),
  z.discriminatedUnion('kind', [webhook, mcp], 'kind must be one of: webhook, mcp'),
)

export type WebhookSettings = z.output<typeof webhook>
export type McpSettings = z.output<typeof mcp>
export type ToolSettings = z.output<typeof toolSettings>

/** The name that Claude knows the tool of a server by. MCP allows characters that Claude's names do not have. */
export function offeredName(server: string, tool: string): string {
  return `${server}_${tool.replace(/[^a-zA-Z0-9_-]/g, '_')}`
}

/** What is valid and cannot work, one sentence each. */
export function toolFaults(tools: ToolSettings): string[] {
  const faults: string[] = []
  const owners = new Map<string, string>()
  for (const [name, settings] of Object.entries(tools)) {
    const at = `tools.${name}`
    for (const offered of offeredNames(name, settings)) {
      const other = owners.get(offered)
      if (other !== undefined) faults.push(`${at}: offers ${offered}, as ${other} does`)
      if (!offeredPattern.test(offered)) faults.push(`${at}: ${offered} is longer than a tool's name can be, 128`)
      owners.set(offered, at)
    }
    faults.push(...(settings.kind === 'mcp' ? mcpFaults(settings) : webhookFaults(settings)).map((fault) => at + fault))
  }
  return faults
}

/** The names that a declaration can come to: those that presets and Claude call its tools by. */
export function offeredNames(name: string, settings: ToolSettings[string]): string[] {
  return settings.kind === 'webhook' ? [name] : settings.allow.map((tool) => offeredName(name, tool))
}

function webhookFaults({ url, secret, secret_file, allow_private }: WebhookSettings): string[] {
  const both = secret !== undefined && secret_file !== undefined
  return [...urlFaults(url, allow_private), ...(both ? ['.secret: must not be given beside secret_file'] : [])]
}

function mcpFaults(settings: McpSettings): string[] {
  const { url, command, args, env, token, token_file, headers, allow, approvals, pins, allow_private } = settings
  const faults = url === undefined ? [] : urlFaults(url, allow_private)
  if ((url === undefined) === (command === undefined)) faults.push(': must have either url or command')
  const hasProcess = args.length > 0 || Object.keys(env).length > 0
  if (command === undefined && hasProcess) faults.push(': args and env are for a command')
  const hasTokens = token !== undefined || token_file !== undefined
  const isRemote = hasTokens || Object.keys(headers).length > 0 || allow_private !== false
  if (url === undefined && isRemote) faults.push(': token, headers and allow_private are for a url')
  if (token !== undefined && token_file !== undefined) faults.push('.token: must not be given beside token_file')
  if (hasTokens && Object.keys(headers).some((name) => name.toLowerCase() === 'authorization')) {
    faults.push('.headers: must not hold Authorization beside a token')
  }
  for (const [key, map] of Object.entries({ approvals, pins })) {
    const strange = Object.keys(map).filter((tool) => !allow.includes(tool))
    if (strange.length > 0) faults.push(`.${key}: ${strange.join(', ')} is not in allow`)
  }
  return faults
}

/** The URL's own faults; what its name resolves to is looked at when it is connected to. */
function urlFaults(text: string, allowPrivate: false | readonly string[]): string[] {
  const { protocol, hostname, username, password, hash } = new URL(text)
  const faults: string[] = []
  if (username !== '' || password !== '') faults.push('.url: must not hold a user or password; use headers')
  if (hash !== '') faults.push('.url: must have no part behind #')
  const name = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  const isLocal = name === 'localhost' || name.endsWith('.localhost')
  const address = isLocal ? '127.0.0.1' : name
  const reason = addressCheck(allowPrivate || [])(address)
  if (reason !== undefined && reason !== 'no_address') {
    faults.push(`.url: ${address} is no public address (${reason}); if it is meant, name it in allow_private`)
  } else if (protocol === 'http:' && !isLoopbackAddress(address)) {
    faults.push('.url: must be https://, as http:// is for loopback addresses only')
  }
  return faults
}

function isLoopbackAddress(address: string): boolean {
  return addressCheck([])(address) === 'loopback'
}
