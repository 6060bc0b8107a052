import { describe, expect, it } from 'vitest'
import { type Command, UsageError } from '../../src/commands/command.ts'
import { commandNamed, helpOf, helpOfAll, readArguments } from '../../src/commands/help.ts'
import { commands } from '../../src/commands/registry.ts'

const named = (name: string) => commandNamed(commands, name)

describe.each(commands.map((command) => [command.name, command] as const))('help of %s', (name, command) => {
  const help = helpOf(command)

  it('names every option with what it means, in columns', () => {
    const meanings = Object.entries(command.options ?? {}).map(([option, { value, says }]) => {
      const line = help.split('\n').find((each) => each.startsWith(`  --${option}${value ? ` ${value}` : ''}  `))
      expect(line, option).toContain(says)
      return line?.indexOf(says)
    })
    expect(new Set(meanings).size).toBeLessThanOrEqual(1)
  })

  it('fits a terminal of 120 columns, and has an example that can be typed', () => {
    for (const line of help.split('\n')) expect(line.length, line).toBeLessThanOrEqual(122)
    expect(command.examples?.length).toBeGreaterThan(0)
    for (const [line] of command.examples ?? []) {
      const words = line.replace(/^(?:[A-Z_]+=\S+ )*sluice ?/, '').split(' ')
      const [first = '', ...rest] = words
      expect(first === '' ? 'serve' : first).toBe(name)
      const options = rest.filter((word) => word.startsWith('--')).map((word) => word.slice(2))
      for (const option of options) expect(Object.keys(command.options ?? {})).toContain(option)
    }
  })

  it('is one of the list', () => {
    expect(helpOfAll(commands)).toMatch(new RegExp(`^  ${name}\\b.*  ${command.summary.slice(0, 10)}`, 'm'))
  })
})

describe('what is not known', () => {
  const sentenceOf = (act: () => unknown): string => {
    try {
      act()
    } catch (error) {
      expect(error).toBeInstanceOf(UsageError)
      return (error as Error).message
    }
    throw new Error('it was taken')
  }

  it.each([
    ['simulat', 'simulate'],
    ['chekc', 'check'],
    ['hlep', 'help'],
    ['sevre', 'serve'],
  ])('as %s is told with what comes nearest', (written, nearest) => {
    expect(sentenceOf(() => named(written))).toBe(`there is no command '${written}'; did you mean '${nearest}'?`)
  })

  it('and is near to nothing is told alone', () => {
    expect(sentenceOf(() => named('dance'))).toBe("there is no command 'dance'")
    expect(sentenceOf(() => readArguments(named('record'), ['--nonsense']))).toBe("record has no option '--nonsense'")
  })

  it('as an option, too', () => {
    const sentence = sentenceOf(() => readArguments(named('record'), ['--dri', 'x']))
    expect(sentence).toBe("record has no option '--dri'; did you mean '--dir'?")
    expect(sentenceOf(() => readArguments(named('doctor'), ['--ulr=x']))).toContain("'--url'")
  })
})

it('is read as it was declared', () => {
  const command: Command = {
    name: 'x',
    summary: 'x',
    options: { port: { type: 'string', value: 'N', says: 'x' }, json: { type: 'boolean', says: 'x' } },
    run() {},
  }
  expect(readArguments(command, ['a', '--port', '1', '--json', 'b', '-h'])).toEqual({
    values: { port: '1', json: true, help: true },
    words: ['a', 'b'],
  })
})
