import { afterEach, expect, it, vi } from 'vitest'
import { createLogger } from '../../src/telemetry/logger.ts'

afterEach(() => void vi.useRealTimers())

it('tells the time as a date does, to the millisecond', () => {
  vi.useFakeTimers()
  const lines: { time: string }[] = []
  const logger = createLogger('info', { write: (line) => void lines.push(JSON.parse(line)) })
  const start = Date.UTC(2026, 11, 31, 23, 59, 59, 0)
  const times = [0, 1, 9, 10, 99, 999, 1_000, 1_001, 500, -1, 86_400_000].map((ms) => start + ms)
  for (const time of times) {
    vi.setSystemTime(time)
    logger.info('x')
  }
  expect(lines.map(({ time }) => time)).toEqual(times.map((time) => new Date(time).toISOString()))
})
