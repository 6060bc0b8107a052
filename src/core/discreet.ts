import { SluiceError } from './errors.ts'

/** Fewer characters in a row may well be the same by chance. */
const quoteLength = 20
/** So much of a field is looked at: what a preset says stands first in it, clients may add megabytes. */
const mostCharacters = 1_000_000
/** What a client writes, or is told anyway, of a request that a preset has made. */
const open: ReadonlySet<string> = new Set(['messages', 'model'])
/** No sentence has it. */
const boundary = '\uffff'

/**
 * A failure without Claude's sentence about it when that quotes what is not the client's to know of the request: a
 * preset's system prompt, its tools, where its MCP servers are and what lets it in there.
 */
export function discreet(error: SluiceError, request: Readonly<Record<string, unknown>>): SluiceError {
  const sentence = oneLine(error.message)
  if (!Object.entries(request).some(([field, value]) => !open.has(field) && tells(sentence, field, value))) return error
  const { retryAfterMs, shouldRetry, upstreamRequestId, reason } = error
  return new SluiceError(error.code, { retryAfterMs, shouldRetry, upstreamRequestId, reason, cause: error.cause })
}

function tells(sentence: string, field: string, value: unknown): boolean {
  // A quote may go over blocks of the prompt; other texts have nothing to do with each other.
  const isPrompt = field === 'system'
  const texts = textsIn(value).join(isPrompt ? ' ' : boundary)
  const text = oneLine(texts.slice(0, mostCharacters))
  return quotes(sentence, text, isPrompt ? Math.min(quoteLength, text.length) : quoteLength)
}

/** Looks for the halves of quotes only, as the text may be long. */
function quotes(sentence: string, text: string, length: number): boolean {
  if (length === 0) return false
  const half = Math.ceil(length / 2)
  const halves = new Set(windowsOf(sentence, half))
  for (let at = 0; at + half <= text.length; at += half) {
    if (!halves.has(text.slice(at, at + half))) continue
    const around = text.slice(Math.max(0, at - length + half), at + length)
    if (windowsOf(around, length).some((quote) => sentence.includes(quote))) return true
  }
  return false
}

function windowsOf(text: string, length: number): string[] {
  return Array.from({ length: Math.max(0, text.length - length + 1) }, (_, at) => text.slice(at, at + length))
}

function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : []
}

/** As a sentence is that has passed `sanitize`. */
function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').trim()
}
