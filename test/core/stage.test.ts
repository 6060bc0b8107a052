import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { Stage } from '../../src/core/stage.ts'

it('works on all members in their order, when no more are to be expected', async () => {
  const worked: number[] = []
  const stage = new Stage<number>((member) => worked.push(member), setImmediate)
  for (const member of [1, 2, 3]) stage.add(member)
  await Promise.resolve()
  expect(worked).toEqual([])
  await nextTurn()
  expect(worked).toEqual([1, 2, 3])
  stage.add(4)
  await nextTurn()
  expect(worked).toEqual([1, 2, 3, 4])
})

it('may be told to work at once, and tells how many wait', async () => {
  const worked: number[] = []
  const stage = new Stage<number>((member) => worked.push(member), setImmediate)
  expect([1, 2].map((member) => stage.add(member))).toEqual([1, 2])
  stage.workOff()
  expect(worked).toEqual([1, 2])
  expect(stage.add(3)).toBe(1)
  await nextTurn()
  expect(worked).toEqual([1, 2, 3])
})

it('comes behind the batch of the stage before, in the order in which stages were needed', async () => {
  const worked: string[] = []
  const last = new Stage<number>((member) => worked.push(`last ${member}`))
  const second = new Stage<number>((member) => {
    worked.push(`second ${member}`)
    last.add(member)
  })
  const first = new Stage<number>((member) => {
    worked.push(`first ${member}`)
    second.add(member)
  }, setImmediate)
  for (const member of [1, 2]) first.add(member)
  await nextTurn()
  expect(worked).toEqual(['first 1', 'first 2', 'second 1', 'second 2', 'last 1', 'last 2'])
})

it('works at once where no batch is under way', () => {
  const worked: number[] = []
  const stage = new Stage<number>((member) => worked.push(member))
  stage.add(1)
  expect(worked).toEqual([1])
  stage.add(2)
  expect(worked).toEqual([1, 2])
})

it('takes on members while it works, as another batch', () => {
  const worked: string[] = []
  const stage = new Stage<string>((member) => {
    worked.push(member)
    if (member.length < 3) stage.add(`${member}a`)
  })
  stage.add('a')
  expect(worked).toEqual(['a', 'aa', 'aaa'])
})

it('does not let one that fails keep the others from their work, and does not hide it', async () => {
  const uncaught: unknown[] = []
  const others = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', (fault) => uncaught.push(fault))
  onTestFinished(() => {
    process.removeAllListeners('uncaughtException')
    for (const listener of others) process.on('uncaughtException', listener)
  })
  const worked: number[] = []
  const stage = new Stage<number>((member) => {
    if (member === 2) throw new Error('defect')
    next.add(member)
  }, setImmediate)
  const next = new Stage<number>((member) => worked.push(member))
  for (const member of [1, 2, 3]) stage.add(member)
  await nextTurn()
  expect(worked).toEqual([1, 3])
  expect(uncaught).toEqual([new Error('defect')])
})
