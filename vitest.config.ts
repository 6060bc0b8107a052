import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Those run programs of the system, and have a configuration of their own: `npm run test:proxies`.
    exclude: ['test/deployment/**'],
    testTimeout: 20_000,
    // Real servers and sockets on two cores: more files at once would only wait for each other.
    maxWorkers: 2,
    passWithNoTests: false,
    // Leak checks need the garbage collector's word, not its mood.
    execArgv: ['--expose-gc'],
  },
})
