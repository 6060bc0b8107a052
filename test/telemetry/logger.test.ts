import { afterEach, describe, expect, it, vi } from 'vitest'
import { createLogger } from '../../src/telemetry/logger.ts'
import { startChild } from '../support/children.ts'

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

describe('processes that share a pipe', () => {
  const source = import.meta.resolve('../../src/telemetry/logger.ts')
  const output = import.meta.resolve('../../src/telemetry/output.ts')
  /** Lines of 0.1 to 3 KB, most of it in characters of three bytes; all at once, and the reader comes late. */
  const write = `
    import { createLogger } from '${source}'
    import { Output } from '${output}'
    const { prepare, writer, lines } = process.env
    if (prepare) process.stdout
    const logger = createLogger('info', new Output(true)).child({ writer })
    for (let n = 0; n < lines; n++) logger.info({ n, text: '€'.repeat((n * 37) % 1_000) }, 'x')`

  it.each([
    ['waits', { lines: '1200' }],
    // Node makes a pipe so when it makes a stream of it, for all who share it.
    ['does not wait', { lines: '300', prepare: 'yes' }],
  ])('write whole lines, each in its order, and lose none, to one that %s when it is full', async (_, env) => {
    const heard: string[] = []
    const node = '"$0" --input-type=module -e "$1"'
    const child = await startChild(
      'sh',
      ['-c', `{ writer=a ${node} & writer=b ${node} & wait; } | { sleep 0.3; cat; }`, process.execPath, write],
      {
        env: { ...process.env, ...env },
        onLine: (line) => void heard.push(line),
      },
    )
    expect(await child.exited).toBe(0)
    const count = Number(env.lines)
    await vi.waitFor(() => expect(heard.length).toBeGreaterThanOrEqual(2 * count))
    const lines: { writer: string; n: number }[] = heard.map((line) => JSON.parse(line))
    const all = Array.from({ length: count }, (_, n) => n)
    for (const writer of ['a', 'b'])
      expect(lines.filter((line) => line.writer === writer).map(({ n }) => n)).toEqual(all)
  })
})
