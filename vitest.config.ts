import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Those have configurations of their own: `npm run test:system`, and `npm run test:proxies`, which needs more programs.
    exclude: ['test/system/**', 'test/deployment/**'],
    testTimeout: 20_000,
    // On two cores: real servers and sockets wait half of the time.
    maxWorkers: 3,
    passWithNoTests: false,
    // Leak checks need the garbage collector's word, not its mood.
    execArgv: ['--expose-gc'],
  },
})
