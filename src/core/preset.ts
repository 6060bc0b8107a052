import { z } from 'zod'
import { fieldName } from './caps.ts'
import { SluiceError, sanitize } from './errors.ts'
import { type SmoothUnit, smoothUnits } from './format.ts'
import {
  type AskedRequest,
  type DisconnectPolicy,
  disconnectPolicies,
  messageFields,
  type StreamOptions,
} from './request.ts'
import { firstForeign } from './turns.ts'

/** What the operator has settled of a request, under a name that clients give. */
export interface Preset {
  /** For people, in the list of models. */
  readonly description?: string | undefined
  /** Fields of the Messages API, as they go to Claude. */
  readonly fields: Readonly<Record<string, unknown>>
  /** Names of the server's own tools that are offered beside those of `fields`. */
  readonly tools: readonly string[] | undefined
  /** How its answers come unless the client says otherwise. */
  readonly delivery: Delivery
  /** Fields that clients may set all the same. */
  readonly allow: readonly string[]
}

export interface Delivery {
  readonly format?: StreamOptions['format']
  readonly smooth?: SmoothUnit | undefined
  readonly on_disconnect?: DisconnectPolicy | undefined
}

export const presetName = z.string().regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, dashes and underscores')

const { stream: _, max_tokens, tools, ...fields } = messageFields

/** A tool as the Messages API has it, or one of the server's by its name. */
const toolName = z.string().regex(/^[\w-]{1,128}$/, 'must be the name of a tool: letters, digits, dashes, underscores')
const presetTool = z.union([toolName, tools.unwrap().element])

/** One preset as it stands in the settings. */
export function presetSchema(formats: readonly string[]) {
  return z.strictObject({
    description: z.string().min(1).max(500).optional(),
    ...fields,
    tools: z.array(presetTool).max(10_000).optional(),
    max_tokens: max_tokens.refine((value) => value !== 0, 'must be at least 1'),
    format: z.enum(formats).optional(),
    smooth: z.enum(smoothUnits).optional(),
    on_disconnect: z.enum(disconnectPolicies).optional(),
    allow: z.array(fieldName).default([]),
  })
}

export type PresetSettings = z.output<ReturnType<typeof presetSchema>>

export function presetFrom(settings: PresetSettings): Preset {
  const { description, format, smooth, on_disconnect, allow, tools: all = [], ...rest } = settings
  const [names, own] = [all.filter((each) => typeof each === 'string'), all.filter((each) => typeof each !== 'string')]
  return {
    description,
    fields: { ...rest, ...(own.length > 0 && { tools: own }) },
    tools: names.length > 0 ? names : undefined,
    delivery: { format, smooth, on_disconnect },
    allow,
  }
}

/** What a preset and a client make together. */
export interface Joined {
  readonly fields: Readonly<Record<string, unknown>>
  /** The part that the client has written. */
  readonly written: Readonly<Record<string, unknown>>
}

/** Where a preset does not set it, and how much may be asked for at most then. */
interface Ceiling {
  readonly max_tokens: number
  /** A larger one is taken for the ceiling, as the clients of this API send one always. */
  readonly lowers: boolean
}

/**
 * The request of a client who names a preset. Nothing that he sends is dropped: he would rely on it.
 * @throws SluiceError `preset_conflict` naming the first field that is not his to set
 */
export function withPreset(preset: Preset, asked: AskedRequest, ceiling: Ceiling): Joined {
  const { messages, max_tokens, version, ...others } = asked
  const { allow } = preset
  const foreign = firstForeign(messages, { system: allow.includes('system'), tools: allow.includes('tools') })
  if (foreign !== undefined) conflict(foreign)
  const own: Record<string, unknown> = {}
  for (const [field, value] of Object.entries(others)) {
    if (value === undefined) continue
    if (allow.includes(field)) own[field] = value
    else if (!isSaid(preset, field, value)) conflict(field)
  }
  const tokens = tokensOf(preset, max_tokens, ceiling)
  const joined = Object.fromEntries(Object.entries(own).map(([field, value]) => [field, join(preset, field, value)]))
  return {
    fields: { ...preset.fields, ...joined, max_tokens: tokens, ...(version !== undefined && { version }), messages },
    written: { ...own, ...(allow.includes('max_tokens') && { max_tokens }), messages },
  }
}

/** Some clients send what they need not; but no text may be found out by guessing at it. */
function isSaid({ fields }: Preset, field: string, value: unknown): boolean {
  return field !== 'system' && typeof value !== 'object' && fields[field] === value
}

function tokensOf({ fields, allow }: Preset, asked: number | undefined, ceiling: Ceiling): number {
  const settled = (fields['max_tokens'] as number | undefined) ?? ceiling.max_tokens
  if (asked === undefined) return settled
  if (asked <= settled || allow.includes('max_tokens')) return asked
  return ceiling.lowers ? settled : conflict('max_tokens', `must be ${settled} or less with this preset`)
}

/** What the preset says comes first and as it is, so that Claude's prompt cache knows it, whoever adds to it. */
function join({ fields }: Preset, field: string, value: unknown): unknown {
  const settled = fields[field]
  if (settled === undefined) return value
  if (field === 'system') return [...blocksOf(settled), ...blocksOf(value)]
  if (field === 'betas') return [...new Set([...(settled as string[]), ...(value as string[])])]
  return field === 'tools' && Array.isArray(value) ? [...(settled as object[]), ...value] : value
}

function blocksOf(system: unknown): unknown[] {
  return Array.isArray(system) ? system : [{ type: 'text', text: system }]
}

function conflict(field: string, why = 'is for the preset to say: leave it out'): never {
  throw new SluiceError('preset_conflict', { message: `${sanitize(field).slice(0, 64)}: ${why}` })
}
