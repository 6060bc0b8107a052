import type { FastifyInstance, FastifyRequest } from 'fastify'
import { SluiceError } from '../core/errors.ts'

/** Claude's own schemas stay far below this; `[` repeated a million times stalls JSON.parse for 400 ms. */
const maxDepth = 64
/** A conversation of a thousand turns has some ten thousand; checking a million takes the schema two seconds. */
const maxValues = 100_000

const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const COMMA = 0x2c
const QUOTE = 0x22
const BACKSLASH = 0x5c

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Half of a surrogate pair written as an escape: valid JSON, but not a string that Claude would take. */
const surrogateEscape = /\\u[dD][89a-fA-F]/

/**
 * Takes JSON in UTF-8 and nothing else. Fastify would also take `text/plain`, which any page may post across origins
 * without asking, and would replace broken UTF-8 silently.
 */
export function acceptJsonOnly(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const bytes = body as Buffer
    const charset = /charset=["']?([\w-]+)/i.exec(request.headers['content-type'] ?? '')?.[1] ?? 'utf-8'
    const encoding = request.headers['content-encoding'] ?? 'identity'
    if (!/^utf-?8$/i.test(charset) || encoding !== 'identity') {
      return done(new SluiceError('unsupported_media_type'))
    }
    if (isTooComplex(bytes)) return done(new SluiceError('body_too_complex'))
    let text: string
    try {
      text = utf8.decode(bytes)
    } catch {
      return done(new SluiceError('invalid_json'))
    }
    parse(request, text, (error, value) => {
      // The parser's own message quotes the body.
      if (error) done(new SluiceError('invalid_json'))
      else done(null, surrogateEscape.test(text) ? wellFormed(value) : value)
    })
  })
}

/**
 * The body of a request, which is let go: a request lives as long as its response, a stream may take an hour, and there
 * are thousands of them.
 */
export function takeBody(request: FastifyRequest): unknown {
  const { body } = request
  request.body = undefined
  return body
}

/** One pass over the bytes, before the parser recurses and the schema visits every value. */
function isTooComplex(json: Uint8Array): boolean {
  let depth = 0
  let values = 0
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case QUOTE:
        at = endOfString(json, at)
        break
      case OPEN_BRACKET:
      case OPEN_BRACE:
        depth++
        break
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        depth--
        break
      case COMMA:
        values++
    }
    if (depth > maxDepth || values > maxValues) return true
  }
  return false
}

/** @param start where its opening quote is */
function endOfString(json: Uint8Array, start: number): number {
  let end = json.indexOf(QUOTE, start + 1)
  while (end > 0 && isEscaped(json, end)) end = json.indexOf(QUOTE, end + 1)
  return end < 0 ? json.length : end
}

function isEscaped(json: Uint8Array, at: number): boolean {
  let backslashes = 0
  while (json[at - 1 - backslashes] === BACKSLASH) backslashes++
  return backslashes % 2 === 1
}

function wellFormed(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed()
  if (Array.isArray(value)) return value.map(wellFormed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key.toWellFormed(), wellFormed(each)]))
}
