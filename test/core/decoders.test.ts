import { buffer } from 'node:stream/consumers'
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { decoderOf } from '../../src/core/decoders.ts'

it.each([
  ['gzip', gzipSync],
  ['deflate', deflateSync],
  ['br', brotliCompressSync],
  ['zstd', zstdCompressSync],
])('takes back %s', async (encoding, compress) => {
  const decoder = decoderOf(encoding)
  decoder?.end(compress('A sluice'))
  expect(decoder && String(await buffer(decoder))).toBe('A sluice')
})

it.each([undefined, '', 'identity', 'compress', 'constructor'])('knows no %j', (encoding) => {
  expect(decoderOf(encoding)).toBeUndefined()
})
