import { expect, it } from 'vitest'
import { OwnerSeat } from '../../../src/log/redis/seat.ts'
import { owner } from '../stores.ts'

it('a run that comes late hears how many read, and each change from then on', () => {
  const seat = new OwnerSeat()
  const run = owner()
  for (const count of [1, 3, 2]) seat.onReaders(count)
  seat.take(run)
  expect(run.counts).toEqual([2])
  for (const count of [2, 2, 0, 1]) seat.onReaders(count)
  expect(run.counts).toEqual([2, 0, 1])
})

it('a run that nobody waits for hears nothing at first', () => {
  const seat = new OwnerSeat()
  const run = owner()
  seat.take(run)
  expect(run.counts).toEqual([])
  expect(run.onStop).not.toHaveBeenCalled()
  expect(run.onFenced).not.toHaveBeenCalled()
})

it('a stop waits for the run that is to come, and for its end', async () => {
  const seat = new OwnerSeat()
  const end = Promise.withResolvers<void>()
  const run = owner(() => end.promise)
  const stops: number[] = []
  const stopping = [1, 2].map((n) => seat.onStop().then(() => stops.push(n)))
  await Promise.resolve()
  seat.take(run)
  await new Promise(setImmediate)
  expect(run.onStop).toHaveBeenCalledTimes(2)
  expect(stops).toEqual([])
  end.resolve()
  await Promise.all(stopping)
  expect(stops).toEqual([1, 2])
})

it('a stop waits no longer when the log is sealed, or another replica has it', async () => {
  const [sealed, fenced] = [new OwnerSeat(), new OwnerSeat()]
  const stops = [sealed, fenced].map((seat) => seat.onStop())
  sealed.leave()
  fenced.onFenced()
  await Promise.all(stops)
})

it('a run that comes too late is told so', () => {
  const seat = new OwnerSeat()
  const run = owner()
  seat.onFenced()
  seat.take(run)
  expect(run.onFenced).toHaveBeenCalledTimes(1)
})

it('a run that is over hears nothing', async () => {
  const seat = new OwnerSeat()
  const run = owner()
  seat.take(run)
  seat.leave()
  seat.onReaders(1)
  await seat.onStop()
  expect(run.counts).toEqual([])
  expect(run.onStop).not.toHaveBeenCalled()
})

it('takes a decision once, however often the same question comes, and not before the run has come', async () => {
  const seat = new OwnerSeat()
  const early = seat.onDecision('toolu_1', { decision: 'approve' }, 'question-1')
  const run = owner()
  seat.take(run)
  expect(await early).toBe(true)
  expect(await seat.onDecision('toolu_1', { decision: 'approve' }, 'question-1')).toBe(true)
  expect(run.onDecision).toHaveBeenCalledTimes(1)
  run.onDecision.mockResolvedValue(false)
  expect(await seat.onDecision('toolu_1', { decision: 'deny' }, 'question-2')).toBe(false)
  seat.leave()
  expect(await seat.onDecision('toolu_1', { decision: 'deny' }, 'question-3')).toBe(false)
})

it('a decision that was taken is not asked for again, and one that was not is not remembered', async () => {
  const seat = new OwnerSeat()
  const asked: string[] = []
  seat.take(
    Object.assign(owner(), {
      onDecision: async (call: string) => {
        asked.push(call)
        return call === 'waits'
      },
    }),
  )
  const decide = (call: string) => seat.onDecision(call, { decision: 'approve' }, `question about ${call}`)
  expect([await decide('waits'), await decide('waits')]).toEqual([true, true])
  expect([await decide('unknown'), await decide('unknown')]).toEqual([false, false])
  expect(asked).toEqual(['waits', 'unknown', 'unknown'])
})
