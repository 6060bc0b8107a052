import { expect, it, vi } from 'vitest'
import { Colleagues, GatheringPoint, type GatherMessage, type Peer } from '../src/gathering.ts'

/** A primary and so many workers, who talk by JSON as processes do. */
function newOffice(workers: number) {
  const point = new GatheringPoint()
  const copy = (message: GatherMessage) => JSON.parse(JSON.stringify(message)) as GatherMessage
  const all = Array.from({ length: workers }, () => {
    const peer: Peer = { send: (message) => queueMicrotask(() => colleagues.hear(copy(message))) }
    const colleagues = new Colleagues({ send: (message) => queueMicrotask(() => point.hear(peer, copy(message))) })
    point.peers.add(peer)
    return { peer, colleagues }
  })
  return { point, all }
}

it('asks all workers, the asking one included, each time anew', async () => {
  const { all } = newOffice(3)
  for (const [n, { colleagues }] of all.entries()) colleagues.answer('number', async () => n)
  const [first, second] = all
  const answers = await Promise.all([first?.colleagues.ask('number'), second?.colleagues.ask('number')])
  expect(answers.map((values) => values?.toSorted())).toEqual([
    [0, 1, 2],
    [0, 1, 2],
  ])
})

it('leaves out who has nothing to say, fails at it, or has gone', async () => {
  const { point, all } = newOffice(4)
  const [first, failing, , gone] = all
  first?.colleagues.answer('number', async () => 1)
  failing?.colleagues.answer('number', () => Promise.reject(new Error('no')))
  gone?.colleagues.answer('number', () => new Promise(() => {}))
  const answer = first?.colleagues.ask('number')
  await Promise.resolve()
  point.leave(gone?.peer as Peer)
  expect(await answer).toEqual([1])
})

it('does not wait for one that hangs, nor for a primary that is dead', async () => {
  vi.useFakeTimers()
  try {
    const { point, all } = newOffice(2)
    const [first, hanging] = all
    first?.colleagues.answer('number', async () => 1)
    hanging?.colleagues.answer('number', () => new Promise(() => {}))
    const answer = first?.colleagues.ask('number')
    await vi.advanceTimersByTimeAsync(1_000)
    expect(await answer).toEqual([1])
    first?.colleagues.answer('number', () => new Promise((tell) => setTimeout(tell, 1_500, 2)))
    const late = first?.colleagues.ask('number')
    await vi.advanceTimersByTimeAsync(2_500)
    expect(await late).toEqual([2])
    first?.colleagues.answer('number', async () => 1)
    vi.spyOn(point, 'hear').mockImplementation(() => {})
    const alone = first?.colleagues.ask('number')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await alone).toEqual([1])
  } finally {
    vi.useRealTimers()
  }
})
