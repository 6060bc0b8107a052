import { expect, it } from 'vitest'
import { Directory } from '../../src/core/directory.ts'

it('is a map by name', () => {
  const directory = new Directory<number>()
  directory.set('one', 1)
  directory.set('two', 2)
  directory.set('one', 3)
  expect([directory.get('one'), directory.get('two'), directory.get('three')]).toEqual([3, 2, undefined])
  expect([directory.size, directory.has('one'), directory.has('three')]).toEqual([2, true, false])
  directory.delete('one')
  directory.delete('one')
  expect([...directory.values()]).toEqual([2])
  directory.clear()
  expect([directory.size, directory.has('two')]).toEqual([0, false])
})

it('leaves out who goes while it is gone through', () => {
  const directory = new Directory<string>()
  for (const name of ['a', 'b', 'c']) directory.set(name, name)
  const seen: string[] = []
  for (const name of directory.values()) {
    seen.push(name)
    directory.delete('b')
  }
  expect(seen).toEqual(['a', 'c'])
})
