import type { FastifyInstance } from 'fastify'
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
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
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

/** One pass over the bytes, before the parser recurses and the schema visits every value. */
export function isTooComplex(json: Uint8Array): boolean {
  let depth = 0
  let values = 0
  let inString = false
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]
    if (byte === QUOTE) inString = !inString
    else if (inString) {
      if (byte === BACKSLASH) at++
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      if (++depth > maxDepth) return true
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--
    else if (byte === COMMA && ++values > maxValues) return true
  }
  return false
}

function wellFormed(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed()
  if (Array.isArray(value)) return value.map(wellFormed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key.toWellFormed(), wellFormed(each)]))
}
