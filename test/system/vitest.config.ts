import { defineConfig } from 'vitest/config'

/**
 * Tests that need a whole machine for themselves, one after the other: browsers, processes that are killed, load, counted costs. They have a
 * command of their own, `npm run test:system`.
 */
// biome-ignore lint/style/noDefaultExport: vitest takes no other
export default defineConfig({
  test: {
    include: ['test/system/**/*.test.ts'],
    testTimeout: 60_000,
    maxWorkers: 1,
    passWithNoTests: false,
    // Leak checks need the garbage collector's word, not its mood.
    execArgv: ['--expose-gc'],
  },
})
