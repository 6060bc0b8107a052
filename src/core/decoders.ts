import type { Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'

const decoders = new Map<string, () => Transform>([
  ['gzip', createGunzip],
  ['deflate', createInflate],
  ['br', createBrotliDecompress],
  ['zstd', createZstdDecompress],
])

/** Takes back a `Content-Encoding`; `undefined` for one that is not known, `identity` among them. */
export function decoderOf(encoding: string | undefined): Transform | undefined {
  return encoding === undefined ? undefined : decoders.get(encoding)?.()
}
