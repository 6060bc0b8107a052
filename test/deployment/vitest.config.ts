import { defineConfig } from 'vitest/config'

/**
 * Tests that run programs of the system, which `npm test` must not ask for: `npm run test:proxies`.
 */
// biome-ignore lint/style/noDefaultExport: vitest takes no other
export default defineConfig({
  test: {
    include: ['test/deployment/**/*.test.ts'],
    testTimeout: 20_000,
    maxWorkers: 2,
    passWithNoTests: false,
  },
})
