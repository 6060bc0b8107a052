import type { Amount } from '../core/limits.ts'
import type { MessageRequest } from '../core/request.ts'
import type { Price } from '../core/usage.ts'

/** Of the JSON that Claude reads: English and code have more bytes a token, other scripts about as many. */
const bytesPerToken = 3
/** Claude sees an image by its area, which its bytes only hint at, and makes larger ones smaller. */
const imageBytesPerToken = 100
const mostPerImage = 5_000
/** A page has some 3,000 tokens with its picture. */
const documentBytesPerToken = 25
/** What a source elsewhere holds nobody here can tell. */
const elsewhere = new Map([
  ['image', 1_600],
  ['document', 20_000],
])

/**
 * Tokens of input that a request comes to, by a rough rule that costs no call: it has to be good for a reservation, and
 * what is charged is what Claude counts.
 */
export function estimateInput({ messages, system, tools, ...rest }: MessageRequest): number {
  const { mcp_servers, output_format, output_config } = rest
  return Math.ceil(
    tokensIn([messages, system], true) + tokensIn([tools, mcp_servers, output_format, output_config], false),
  )
}

/** @param isContent what looks like a picture is one; in what tools are given it is text like the rest */
function tokensIn(value: unknown, isContent: boolean): number {
  if (typeof value === 'string') return Buffer.byteLength(value) / bytesPerToken
  if (typeof value !== 'object' || value === null) return 1
  let tokens = 0
  if (Array.isArray(value)) {
    for (const each of value) tokens += tokensIn(each, isContent)
    return tokens
  }
  const media = isContent ? mediaTokens(value as Media) : undefined
  for (const [name, each] of Object.entries(value)) {
    tokens += name.length / bytesPerToken
    tokens += media !== undefined && name === 'source' ? media : tokensIn(each, isContent && name !== 'input')
  }
  return tokens
}

interface Media {
  readonly type?: unknown
  readonly source?: { readonly type?: unknown; readonly data?: unknown } | null
}

/** Of the source of a block whose content is no text, or none that is here. */
function mediaTokens({ type, source }: Media): number | undefined {
  const known = typeof type === 'string' ? elsewhere.get(type) : undefined
  if (known === undefined || typeof source !== 'object' || source === null) return undefined
  if (source.type === 'url' || source.type === 'file') return known
  if (source.type !== 'base64' || typeof source.data !== 'string') return undefined
  const bytes = (source.data.length * 3) / 4
  return type === 'image' ? Math.min(mostPerImage, bytes / imageBytesPerToken) : bytes / documentBytesPerToken
}

/** What so many tokens cost at most, without cache; nothing without a price. */
export function amountOf(input: number, output: number, price: Price | undefined): Amount {
  // A dollar for a million tokens is a millionth of a dollar for each.
  const microdollars = price ? Math.ceil(input * price.input + output * price.output) : 0
  return { tokens: input + output, microdollars }
}
