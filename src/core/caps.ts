import { z } from 'zod'
import type { Block } from './blocks.ts'
import { SluiceError, sanitize } from './errors.ts'
import { isObject } from './object.ts'
import { matchesModel, maxTokens, messageFields } from './request.ts'
import { blocksIn, firstForeign } from './turns.ts'

/** How much one request of a client's may ask for; what is not there is not limited. */
export interface Caps {
  /** Names, or beginnings of names before a `*`; any model when there are none. */
  readonly models: readonly string[]
  readonly max_tokens?: number | undefined
  readonly max_thinking_tokens?: number | undefined
  readonly max_messages?: number | undefined
  readonly max_images?: number | undefined
  /** Of one image, decoded. */
  readonly max_image_bytes?: number | undefined
  readonly max_tools?: number | undefined
  /** Whether tools may be offered that Anthropic runs. */
  readonly server_tools: boolean
  /** Fields of the Messages API that clients may not send. */
  readonly forbidden_fields: readonly string[]
}

const fields = Object.keys(messageFields).filter((field) => field !== 'stream')

/** A field of the Messages API that a client may be given, or not. */
export const fieldName = z
  .string()
  .refine((name) => fields.includes(name), { message: `must be one of ${fields.join(', ')}` })

const count = (least: number) => z.int().min(least).max(1_000_000).optional()

/** The settings, but for `models` and `forbidden_fields`, which are lists. */
export const capSettings = {
  max_tokens: maxTokens.min(1).optional(),
  max_thinking_tokens: maxTokens.optional(),
  max_messages: count(1),
  max_images: count(0),
  max_image_bytes: z.int().min(1).optional(),
  max_tools: count(0),
  server_tools: z.boolean().default(true),
}

/** Nothing is looked for, and nothing made, that no cap asks for. */
const none: readonly never[] = []

/** What a client has written of a request: all of it, or what its preset leaves to clients. */
type Written = Readonly<Record<string, unknown>>

/**
 * @throws SluiceError `model_not_allowed`; `not_allowed` naming the field and the setting that is against it. Nothing is
 * ever lowered in silence: the client would take an answer that was cut short for a whole one.
 */
export function checkCaps(written: Written, caps: Caps): void {
  const tools = caps.models.length > 0 || caps.max_tools !== undefined || !caps.server_tools ? toolsIn(written) : none
  if (caps.models.length > 0) {
    for (const model of modelsIn(written, tools)) checkModel(String(model), caps)
  }
  checkFields(written, '', caps)
  checkTokens(written, '', caps)
  // Each of them may set anew what the request sets.
  for (const fallback of listOf(written['fallbacks'])) {
    if (!isObject(fallback)) continue
    checkFields(fallback, 'fallbacks.', caps)
    checkTokens(fallback, 'fallbacks.', caps)
  }
  checkTurns(written, caps)
  const messages = listOf(written['messages'])
  atMost(caps, 'max_messages', 'messages', messages.length)
  atMost(caps, 'max_tools', 'tools', tools.length)
  checkServerTools(written, tools, caps)
  if (caps.max_images === undefined && caps.max_image_bytes === undefined) return
  const images = [...blocksIn(messages)].filter(({ type }) => type === 'image')
  atMost(caps, 'max_images', 'images', images.length)
  for (const { source } of images) {
    if (isObject(source)) atMost(caps, 'max_image_bytes', 'image', bytesOf(source['data']))
  }
}

/** @throws SluiceError `model_not_allowed` */
export function checkModel(model: string, caps: Pick<Caps, 'models'>): void {
  if (!isOffered(model, caps)) throw new SluiceError('model_not_allowed')
}

export function isOffered(model: string, { models }: Pick<Caps, 'models'>): boolean {
  return models.length === 0 || models.some((pattern) => matchesModel(pattern, model))
}

type Limit = 'max_tokens' | 'max_thinking_tokens' | 'max_messages' | 'max_images' | 'max_image_bytes' | 'max_tools'

function atMost(caps: Caps, cap: Limit, field: string, value: unknown): void {
  const limit = caps[cap]
  if (limit === undefined || value === undefined || value === null) return
  // What is no number might be read as one by Claude.
  if (typeof value !== 'number') refuse(field, `must be a number (access.${cap})`)
  if (value > limit) refuse(field, `${value} is more than the ${limit} that this server allows (access.${cap})`)
}

function refuse(field: string, why: string): never {
  throw new SluiceError('not_allowed', { message: sanitize(`${field}: ${why}`) })
}

const forbidden = 'this server takes it from no client (access.forbidden_fields)'

function checkFields(written: Written, prefix: string, { forbidden_fields }: Caps): void {
  const sent = forbidden_fields.find((field) => written[field] !== undefined)
  if (sent !== undefined) refuse(prefix + sent, forbidden)
}

function checkTurns(written: Written, { forbidden_fields }: Caps): void {
  if (forbidden_fields.length === 0) return
  const doors = { system: !forbidden_fields.includes('system'), tools: !forbidden_fields.includes('tools') }
  if (doors.system && doors.tools) return
  const foreign = firstForeign(listOf(written['messages']), doors)
  if (foreign !== undefined) refuse(foreign, forbidden)
}

function checkTokens({ max_tokens, thinking }: Written, prefix: string, caps: Caps): void {
  atMost(caps, 'max_tokens', `${prefix}max_tokens`, max_tokens)
  if (caps.max_thinking_tokens === undefined || !isObject(thinking)) return
  atMost(caps, 'max_thinking_tokens', `${prefix}thinking.budget_tokens`, thinking['budget_tokens'])
  if (caps.max_thinking_tokens === 0 && thinking['type'] !== 'disabled') {
    refuse(`${prefix}thinking`, 'must be disabled (access.max_thinking_tokens)')
  }
}

/** Those that Claude calls and the client runs; any other type is run by Anthropic, or may be. */
const runByClients = /^(?:custom|(?:bash|text_editor|computer|computer_toolset|browser_toolset|memory)_\d{8})$/

function checkServerTools(written: Written, tools: readonly Block[], { server_tools }: Caps): void {
  if (server_tools) return
  const found = tools.find(({ type }) => type !== undefined && type !== null && !runByClients.test(type))
  if (found) refuse('tools', `${found.type} runs at Anthropic, which this server does not allow (access.server_tools)`)
  if (listOf(written['mcp_servers']).length > 0) {
    refuse('mcp_servers', 'they are called by Anthropic, which this server does not allow (access.server_tools)')
  }
}

/** All tools that are offered to Claude: those of the field, and those that join in the middle of the conversation. */
export function toolsIn(written: Written): Block[] {
  const joining = [...blocksIn(written['messages'])].flatMap(({ type, tool, tools }) => {
    if (type === 'mcp_tool_listing') return listOf(tools)
    if (type !== 'tool_addition' || !isObject(tool)) return []
    return String(tool['type']).endsWith('_reference') ? [] : [tool['definition'] ?? tool]
  })
  return [...listOf(written['tools']), ...joining].filter(isObject) as Block[]
}

/** Every model that the request could be billed for: its own, those of its fallbacks and of tools that ask a model. */
export function modelsIn({ model, fallbacks }: Written, tools: readonly Block[]): unknown[] {
  const others = Array.isArray(fallbacks)
    ? fallbacks.map((each) => (isObject(each) ? each['model'] : each))
    : [fallbacks]
  return [model, ...others, ...tools.map((tool) => tool['model'])].filter((each) => each !== undefined && each !== null)
}

/** Of base64. What lies elsewhere has no size here, and Anthropic's own limit. */
function bytesOf(data: unknown): number {
  return typeof data === 'string' ? Math.floor((data.replace(/=+$/, '').length * 3) / 4) : 0
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : none
}
