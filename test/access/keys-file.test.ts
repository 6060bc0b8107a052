import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { hashOf, Keyring, newKey } from '../../src/access/keyring.ts'
import { KeysFault, KeysFile, parseKeys } from '../../src/access/keys-file.ts'

const [a, b] = [newKey(), newKey()]
const [hashA, hashB] = [hashOf(a), hashOf(b)]
const both = [
  { name: 'alice', sha256: hashA },
  { name: 'bob', sha256: hashB },
]

describe('a file of keys', () => {
  it.each([
    ['lines', `alice ${hashA}\nbob ${hashB}\n`],
    ['lines with comments', `# who\n\n  alice \t ${hashA.toUpperCase()}\r\nbob ${hashB}`],
    ['a list in YAML', `# who\n- name: alice\n  sha256: ${hashA}\n- { name: bob, sha256: ${hashB} }\n`],
    ['a list under keys', `keys:\n  - { name: alice, sha256: ${hashA} }\n  - { name: bob, sha256: "${hashB}" }\n`],
    ['JSON', JSON.stringify({ keys: both })],
  ])('may be %s', (_, text) => {
    expect(parseKeys(text, 'file')).toEqual(both)
  })

  it('may say of a key that it has tickets made for others', () => {
    const backend = { name: 'alice', sha256: hashA, tickets_for_others: true }
    const text = [`alice ${hashA} tickets_for_others\nbob ${hashB}`, JSON.stringify([backend, both[1]])]
    for (const each of text) expect(parseKeys(each, 'file')).toEqual([backend, both[1]])
    expect(() => parseKeys(`alice ${hashA} admin`, 'file')).toThrow(KeysFault)
    expect(() => parseKeys(JSON.stringify([{ ...backend, tickets_for_others: 1 }]), 'file')).toThrow('true or false')
  })

  it('may say that nobody has a key', () => {
    expect(parseKeys('[]', 'file')).toEqual([])
    expect(parseKeys('keys: []', 'file')).toEqual([])
  })

  it.each([
    ['nothing', ''],
    ['nothing but comments', '# alice\n\n'],
    ['half a line', `alice ${hashA}\nbob ${hashB.slice(0, 20)}`],
    ['a name without a hash', `alice ${hashA}\nbob`],
    ['a key in place of its hash', `alice ${a}`],
    ['a key in YAML', `- { name: alice, sha256: ${a} }`],
    ['a key as a name of YAML', `${a}: alice`],
    ['broken YAML', `- name: "${a}\n  sha256: [`],
    ['a name that is too long', `${'n'.repeat(65)} ${hashA}`],
    ['the same key twice', `alice ${hashA}\nbob ${hashA}`],
    ['a number', '42'],
    ['null', 'null'],
  ])('is refused with %s, and not quoted', (_, text) => {
    const parsed = () => parseKeys(text, 'the-file')
    expect(parsed).toThrow(KeysFault)
    expect(parsed).toThrow(/^the-file: /)
    expect(parsed).not.toThrow(a)
  })
})

/** A file that can be written and looked at, and what was said of it. */
function startFile(text: string, settled: typeof both = []) {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-access-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'keys')
  let writes = 0
  const write = (next: string) => {
    writeFileSync(path, next)
    // Two writes can fall into one tick of the file system's clock.
    utimesSync(path, 1_000, 1_000 + ++writes)
  }
  write(text)
  const ring = new Keyring()
  const said: string[] = []
  const log = {
    info: (_: object, message: string) => void said.push(message),
    error: (fields: object, message: string) => void said.push(`${message} ${JSON.stringify(fields)}`),
  }
  const file = new KeysFile(ring, settled, path, log)
  const who = () => [a, b].map((key) => ring.find(key)?.principal)
  return { file, path, write, said, who, remove: () => rmSync(path) }
}

const looks = (file: KeysFile, count: number) => {
  for (let n = 0; n < count; n++) file.look()
}

describe('a file of keys that is followed', () => {
  it('adds to what the settings say, and takes nothing of it away', () => {
    const { file, write, who } = startFile(`alice ${hashA}`, [{ name: 'bob', sha256: hashB }])
    expect(who()).toEqual(['alice', 'bob'])
    write('[]')
    file.reload()
    expect(who()).toEqual([undefined, 'bob'])
  })

  it('is read again when it has changed and settled, once', () => {
    const { file, write, who, said } = startFile(`alice ${hashA}`)
    looks(file, 5)
    expect(said).toEqual([])
    write(`bob ${hashB}`)
    file.look()
    expect(who()).toEqual(['alice', undefined])
    file.look()
    expect(who()).toEqual([undefined, 'bob'])
    looks(file, 5)
    expect(said).toHaveLength(1)
  })

  it('is not read while it is being written', () => {
    const { file, write, who } = startFile(`alice ${hashA}\nbob ${hashB}`)
    write(`bob ${hashB}`)
    file.look()
    write(`bob ${hashB}\nalice ${hashA}`)
    file.look()
    expect(who()).toEqual(['alice', 'bob'])
    file.look()
    expect(who()).toEqual(['alice', 'bob'])
  })

  it.each([
    ['broken', `alice ${a}`],
    ['empty', ''],
    ['gone', undefined],
  ])('keeps the former keys when it is %s, says so once, and goes on when it is whole', (_, text) => {
    const { file, write, remove, who, said, path } = startFile(`alice ${hashA}`)
    if (text === undefined) remove()
    else write(text)
    looks(file, 5)
    expect(who()).toEqual(['alice', undefined])
    expect(said).toHaveLength(1)
    expect(said[0]).toContain(path)
    expect(said[0]).not.toContain(a)
    write(`alice ${hashA}\nbob ${hashB}`)
    looks(file, 2)
    expect(who()).toEqual(['alice', 'bob'])
  })

  it('keeps the former keys when it repeats one of the settings under another name', () => {
    const { file, write, who, said } = startFile('[]', [{ name: 'alice', sha256: hashA }])
    write(`bob ${hashA}`)
    file.reload()
    expect(who()).toEqual(['alice', undefined])
    expect(said).toHaveLength(1)
  })

  it('must be whole at the start', () => {
    expect(() => startFile('alice')).toThrow(KeysFault)
    expect(() => new KeysFile(new Keyring(), [], '/nonexistent/keys', { info() {}, error() {} })).toThrow('ENOENT')
  })
})
