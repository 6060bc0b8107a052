import { isObject } from './object.ts'

/**
 * Token counts as Claude reports them, cumulative over one message. Fields Claude adds later pass through.
 * @see https://platform.claude.com/docs/en/api/messages-streaming (message_start, message_delta)
 */
export interface Usage {
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cache_creation_input_tokens?: number | null
  readonly cache_read_input_tokens?: number | null
  /** `false` when `output_tokens` is an estimate, because the stream ended before Claude reported it. */
  readonly measured?: false
  readonly [field: string]: unknown
}

export const noUsage: Usage = { input_tokens: 0, output_tokens: 0 }

/** `message_delta.usage` is cumulative and may omit fields: what it has overwrites, what it lacks stays. */
export function mergeUsage(seen: Usage, update: object | null | undefined): Usage {
  const known = Object.entries(update ?? {}).filter(([, value]) => value !== null && value !== undefined)
  return { ...seen, ...Object.fromEntries(known) }
}

/** The usage of two requests together. What is no number is told as the later one has it. */
export function addUsage(earlier: Usage, later: Usage): Usage {
  const estimated = earlier.measured === false || later.measured === false
  return { ...(addCounts(earlier, later) as Usage), ...(estimated && { measured: false as const }) }
}

function addCounts(earlier: object, later: object): object {
  const sum: Record<string, unknown> = { ...earlier }
  for (const [field, value] of Object.entries(later)) {
    const before = sum[field]
    if (typeof value === 'number' && typeof before === 'number') sum[field] = before + value
    else if (isObject(value) && isObject(before)) sum[field] = addCounts(before, value)
    else sum[field] = value ?? before
  }
  return sum
}

/**
 * Four characters a token is Anthropic's own rule of thumb for English text; it errs low for code and other scripts,
 * and is only used where a stream ends before Claude said how much it wrote.
 */
const charactersPerToken = 4

/** Usage of a message that ended early: what Claude reported, but at least what its streamed characters must have cost. */
export function estimateUsage(seen: Usage, streamedCharacters: number): Usage {
  const estimate = Math.ceil(streamedCharacters / charactersPerToken)
  return { ...seen, output_tokens: Math.max(seen.output_tokens, estimate), measured: false }
}

/** Prices of one model in US dollars per million tokens. */
export interface Price {
  readonly input: number
  readonly output: number
  readonly cache_read: number
  readonly cache_write_5m: number
  readonly cache_write_1h: number
}

/** Cost in US dollars; `null` for a model without a price: an unknown cost must never read as free. */
export function costOf(usage: Usage, price: Price | undefined): number | null {
  if (!price) return null
  const written = usage.cache_creation_input_tokens ?? 0
  const writes = usage['cache_creation'] as { ephemeral_1h_input_tokens?: number | null } | null | undefined
  const writtenFor1h = Math.min(written, writes?.ephemeral_1h_input_tokens ?? 0)
  const microdollars =
    usage.input_tokens * price.input +
    usage.output_tokens * price.output +
    (usage.cache_read_input_tokens ?? 0) * price.cache_read +
    (written - writtenFor1h) * price.cache_write_5m +
    writtenFor1h * price.cache_write_1h
  return microdollars / 1e6
}
