import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { expect, it } from 'vitest'

it('is small, its parser included', async () => {
  const entry = join(import.meta.dirname, '../../src/client/stream.ts')
  const { outputFiles } = await build({
    ...{ entryPoints: [entry], bundle: true, minify: true, write: false },
    ...{ format: 'esm', target: 'es2024', platform: 'browser' },
  })
  expect(gzipSync(outputFiles[0]?.contents ?? '').length).toBeLessThan(6_000)
})
