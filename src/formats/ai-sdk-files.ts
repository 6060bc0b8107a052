import { z } from 'zod'
import { SluiceError, sanitize } from '../core/errors.ts'

const text = z.string().min(1)

/** A file of a UI message, as `useChat` sends it. */
export const filePart = z.looseObject({
  mediaType: text,
  filename: z.string().nullish(),
  url: z.string(),
  providerReference: z.record(z.string(), z.string()).nullish(),
})

export interface Block {
  readonly type: string
  readonly [field: string]: unknown
}

interface Data {
  readonly mediaType: string
  readonly bytes: Buffer
}

/**
 * A file as Claude takes it: images, PDF and plain text.
 * @throws SluiceError `invalid_request` naming `path`
 */
export function fileBlock(part: unknown, path: string): Block {
  const { mediaType, filename, url, providerReference } = part as z.output<typeof filePart>
  const data = readDataUrl(url, path)
  const type = (mediaType.includes('/') ? mediaType : (data?.mediaType ?? mediaType)).toLowerCase()
  const kind = kindOf(type)
  if (!kind) return reject(`${path}.mediaType`, 'Claude takes images, application/pdf and text/plain')
  const title = kind === 'document' && filename ? { title: filename } : {}
  const file_id = providerReference?.['anthropic']
  if (file_id) return { type: kind, source: { type: 'file', file_id }, ...title }
  if (!data) {
    if (!/^https?:\/\//i.test(url)) reject(`${path}.url`, 'must be a data:, https: or http: URL')
    if (type === 'text/plain') reject(`${path}.url`, 'Claude fetches no plain text: send it as a data: URL')
    return { type: kind, source: { type: 'url', url }, ...title }
  }
  if (type === 'text/plain') {
    return { type: kind, source: { type: 'text', media_type: type, data: utf8(data.bytes, path) }, ...title }
  }
  // The type says `image/*` where the page did not look closer; the data itself may.
  const media_type = type.endsWith('/*') || !type.includes('/') ? data.mediaType : type
  return { type: kind, source: { type: 'base64', media_type, data: data.bytes.toString('base64') }, ...title }
}

function kindOf(mediaType: string): 'image' | 'document' | undefined {
  if (/^image(\/|$)/.test(mediaType)) return 'image'
  return mediaType === 'application/pdf' || mediaType === 'text/plain' ? 'document' : undefined
}

/** @see https://www.rfc-editor.org/rfc/rfc2397 */
function readDataUrl(url: string, path: string): Data | undefined {
  if (!/^data:/i.test(url)) return undefined
  const comma = url.indexOf(',')
  if (comma < 0) reject(`${path}.url`, 'is not a data: URL')
  const [mediaType = '', ...parameters] = url.slice('data:'.length, comma).split(';')
  const payload = url.slice(comma + 1)
  const isBase64 = parameters.some((each) => each.trim().toLowerCase() === 'base64')
  return { mediaType: mediaType || 'text/plain', bytes: isBase64 ? fromBase64(payload, path) : percent(payload, path) }
}

function fromBase64(payload: string, path: string): Buffer {
  if (/[^A-Za-z0-9+/=_-]/.test(payload) || payload === '') reject(`${path}.url`, 'holds no valid base64')
  return Buffer.from(payload, 'base64')
}

function percent(payload: string, path: string): Buffer {
  try {
    return Buffer.from(decodeURIComponent(payload))
  } catch {
    return reject(`${path}.url`, 'holds an invalid escape')
  }
}

function utf8(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return reject(`${path}.url`, 'holds no text in UTF-8')
  }
}

/** Refuses the request for what is wrong at `path`. */
export function reject(path: string, message: string): never {
  throw new SluiceError('invalid_request', { message: sanitize(`${path}: ${message}`) })
}
