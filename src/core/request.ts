import { z } from 'zod'
import { SluiceError, sanitize } from './errors.ts'
import { type SmoothUnit, smoothUnits } from './format.ts'

/**
 * A Messages API request on its way to Claude. Sluice validates shape and limits and sends on what the client wrote,
 * untouched: field order inside tools and content decides whether Claude's prompt cache hits.
 * @see https://platform.claude.com/docs/en/api/messages
 */
export interface MessageRequest {
  readonly model: string
  readonly max_tokens: number
  readonly messages: readonly unknown[]
  /** Sent as the `anthropic-beta` header. */
  readonly betas?: readonly string[] | undefined
  /** Sent as the `anthropic-version` header, instead of the SDK's own. */
  readonly version?: string | undefined
  readonly [field: string]: unknown
}

/** What a client wrote of one: what it leaves out is for `permitted` to fill in. */
export interface AskedRequest {
  readonly model?: string | undefined
  readonly max_tokens?: number | undefined
  readonly messages: readonly unknown[]
  readonly betas?: readonly string[] | undefined
  readonly version?: string | undefined
  readonly [field: string]: unknown
}

/** What happens to the upstream stream when no reader is left. */
export const disconnectPolicies = ['cancel', 'grace', 'finish'] as const
export type DisconnectPolicy = (typeof disconnectPolicies)[number]

const text = z.string().min(1)
const source = z.looseObject({ type: text })

/** What Claude requires of the blocks that clients send; any other type of block passes through unexamined. */
const blockShapes: Record<string, z.ZodType> = {
  text: z.looseObject({ text: z.string() }),
  image: z.looseObject({ source }),
  document: z.looseObject({ source }),
  thinking: z.looseObject({ thinking: z.string(), signature: z.string() }),
  redacted_thinking: z.looseObject({ data: z.string() }),
  tool_use: z.looseObject({ id: text, name: text, input: z.looseObject({}) }),
  server_tool_use: z.looseObject({ id: text, name: text, input: z.looseObject({}) }),
  tool_result: z.looseObject({
    tool_use_id: text,
    content: z.union([z.string(), z.array(source)]).optional(),
    is_error: z.boolean().optional(),
  }),
}

const block = z.looseObject({ type: text }).superRefine((value, context) => {
  const checked = Object.hasOwn(blockShapes, value.type) ? blockShapes[value.type]?.safeParse(value) : undefined
  for (const issue of checked?.error?.issues ?? []) {
    context.addIssue({ code: 'custom', path: issue.path, message: issue.message })
  }
})
const content = z.union([z.string(), z.array(block).max(100_000)])

/** What a `tool_result` block may hold. */
export const toolResultContent = z.union([z.string(), z.array(block).max(1_000)])

const message = z.strictObject({ role: z.enum(['user', 'assistant', 'system']), content })
const object = z.looseObject({})
const tool = z.looseObject({ name: text.optional(), type: text.optional() })

/** Model names of every host of Claude, with their `:`, `/` and `@`; no blanks, nothing invisible. */
export const modelName = z.string().regex(/^[\x21-\x7e]{1,256}$/, 'must be 1 to 256 visible ASCII characters')
/** A name, or a `*` at its end for any ending. */
export const modelPattern = modelName.regex(/^[^*]*\*?$/, 'may hold one *, at its end')

/** Letter by letter: a name that looks alike is another name. */
export function matchesModel(pattern: string, model: string): boolean {
  return pattern.endsWith('*') ? model.startsWith(pattern.slice(0, -1)) : model === pattern
}

export const maxTokens = z.int().min(0).max(1_000_000)

/** Every field of the Messages API but `messages`, current, beta and retired: what a client sends goes through. */
export const messageFields = {
  model: modelName.optional(),
  max_tokens: maxTokens.optional(),
  system: z.union([z.string(), z.array(block)]).optional(),
  stream: z.literal(true, 'streams only: leave it out or send true').optional(),
  temperature: z.number().min(0).max(1).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(0).optional(),
  stop_sequences: z.array(text).max(8191).optional(),
  tools: z.array(tool).max(10_000).optional(),
  tool_choice: z.looseObject({ type: text }).optional(),
  thinking: z.looseObject({ type: text }).optional(),
  output_config: object.optional(),
  output_format: object.nullable().optional(),
  metadata: object.optional(),
  cache_control: object.nullable().optional(),
  container: z.union([z.string(), object]).nullable().optional(),
  context_management: object.nullable().optional(),
  compaction: object.nullable().optional(),
  diagnostics: object.nullable().optional(),
  inference_geo: z.string().nullable().optional(),
  service_tier: text.optional(),
  speed: z.string().nullable().optional(),
  mcp_servers: z.array(object).max(100).optional(),
  fallbacks: z.array(z.unknown()).max(100).nullable().optional(),
  fallback_credit_token: z.string().nullable().optional(),
  billing_policy: z.unknown().optional(),
  thread: object.nullable().optional(),
  betas: z
    .array(z.string().regex(/^[\x21-\x2b\x2d-\x7e]{1,128}$/))
    .max(100)
    .optional(),
  user_profile_id: headerValue().optional(),
  workspace_id: headerValue().optional(),
}

function headerValue() {
  return z.string().regex(/^[\x21-\x7e]{1,256}$/, 'must be visible ASCII')
}

/** What a client asks of Sluice beyond the Messages API. */
export interface StreamOptions {
  /** Of the operator's list; names are compared, not checked. */
  readonly preset?: string | undefined
  readonly format?: string | undefined
  readonly smooth?: SmoothUnit | undefined
  readonly progress?: boolean | undefined
  readonly on_disconnect?: DisconnectPolicy | undefined
}

/** An idempotency key: the same one always gives the same stream. Chosen by clients, such as a UUID. */
export const idempotencyKey = z.string().regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 visible ASCII characters')

export interface ParsedRequest {
  readonly message: AskedRequest
  readonly options: StreamOptions
}

/** The readers of stream requests, for the formats that are registered. */
export function requestReader(formats: readonly string[]) {
  const format = z.enum(formats)
  const smooth = z.enum(smoothUnits).optional()
  const preset = z.string().optional()
  const options = {
    preset,
    format: format.optional(),
    smooth,
    progress: z.boolean().optional(),
    on_disconnect: z.enum(disconnectPolicies).optional(),
  }
  const body = z
    .strictObject({
      prompt: text.optional(),
      messages: z.array(message).min(1).max(100_000).optional(),
      ...messageFields,
      ...options,
      key: z.undefined('goes into the Idempotency-Key header, or into the query').optional(),
    })
    .refine((value) => (value.prompt === undefined) !== (value.messages === undefined), {
      message: 'send either prompt or messages',
    })
  const query = z.strictObject({
    prompt: text,
    model: modelName.optional(),
    system: text.optional(),
    max_tokens: z.string().regex(/^\d+$/, 'must be a whole number').transform(Number).pipe(maxTokens).optional(),
    preset,
    format: format.optional(),
    smooth,
    progress: z
      .enum(['true', 'false', '1', '0'])
      .transform((value) => value === 'true' || value === '1')
      .optional(),
    key: idempotencyKey.optional(),
  })

  const attachment = z.strictObject({ format: format.optional(), smooth, after: z.string().optional() })

  function toMessage(fields: Record<string, unknown>): AskedRequest {
    const { prompt, stream: _, ...rest } = fields
    const messages = prompt === undefined ? fields['messages'] : [{ role: 'user', content: prompt }]
    return { ...rest, messages: messages as unknown[] }
  }

  return {
    schemas: { body, query, attachment },
    /** @throws SluiceError `invalid_request` naming every field that is wrong */
    fromBody(input: unknown): ParsedRequest {
      const checked = check(body, input)
      const fields = { ...(input as Record<string, unknown>) }
      for (const option of Object.keys(options)) delete fields[option]
      const { preset, format, smooth, progress, on_disconnect } = checked
      return { message: toMessage(fields), options: { preset, format, smooth, progress, on_disconnect } }
    },
    /** @throws SluiceError `invalid_request` naming every parameter that is wrong */
    fromQuery(input: unknown): ParsedRequest {
      const { preset, format, smooth, progress, key: _, ...fields } = check(query, input)
      return { message: toMessage(fields), options: { preset, format, smooth, progress } }
    },
    /** Parameters of a request for a stream that exists. */
    attachment(input: unknown): Pick<StreamOptions, 'format' | 'smooth'> & { after?: string | undefined } {
      return check(attachment, input)
    },
  }
}

/** @throws SluiceError `invalid_request` whose sentence gives path and fault of up to five issues */
export function check<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input)
  if (result.success) return result.data
  const faults = result.error.issues.flatMap(describeIssue)
  const more = faults.length > 5 ? ` (and ${faults.length - 5} more)` : ''
  throw new SluiceError('invalid_request', { message: sanitize(faults.slice(0, 5).join('; ') + more) })
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${path === '' ? key : `${path}.${key}`}: is not known here`)
  }
  // A union says only that nothing fitted; the branch that came furthest says what is wrong.
  const deeper =
    issue.code === 'invalid_union' ? issue.errors.toSorted((a, b) => depthOf(b) - depthOf(a))[0] : undefined
  if (deeper && depthOf(deeper) > 0) {
    return deeper.flatMap((each) => describeIssue({ ...each, path: [...issue.path, ...each.path] }))
  }
  const types = deeper && issue.code === 'invalid_union' ? issue.errors.flat().map(typeOf) : []
  if (types.length > 0 && types.every((type) => type !== undefined))
    return [`${path || 'body'}: must be ${[...new Set(types)].join(' or ')}`]
  return [`${path || 'body'}: ${faultOf(issue)}`]
}

function faultOf(issue: z.core.$ZodIssue): string {
  if (issue.message.endsWith('received undefined')) return 'is missing'
  return issue.code === 'too_small' && issue.minimum === 1 && issue.origin !== 'number' ? 'is empty' : issue.message
}

function typeOf(issue: z.core.$ZodIssue): string | undefined {
  return issue.code === 'invalid_type' ? issue.expected : undefined
}

function depthOf(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(...issues.map((issue) => issue.path.length))
}
