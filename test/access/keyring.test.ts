import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { accessKeys, hashOf, Keyring, newKey } from '../../src/access/keyring.ts'
import { anybody } from '../../src/core/caller.ts'

const entry = (name: string, key: string) => ({ name, sha256: hashOf(key) })

describe('a new key', () => {
  it('is 256 random bits that say what they are', () => {
    const keys = Array.from({ length: 1_000 }, newKey)
    expect(new Set(keys).size).toBe(1_000)
    for (const key of keys) expect(key).toMatch(/^slk_[\w-]{43}$/)
  })

  it('is stored as its SHA-256', () => {
    expect(hashOf('abc')).toBe(createHash('sha256').update('abc').digest('hex'))
  })
})

describe('a keyring', () => {
  it('knows its keys, and no part or neighbour of one', () => {
    const [key, other] = [newKey(), newKey()]
    const ring = new Keyring([entry('alice', key), entry('bob', other)])
    expect(ring.find(key)?.principal).toBe('alice')
    expect(ring.find(other)?.principal).toBe('bob')
    const { sha256 } = entry('alice', key)
    for (const wrong of ['', newKey(), key.slice(0, -1), `${key} `, `${key}x`, key.toUpperCase(), sha256, 'alice'])
      expect(ring.find(wrong)).toBeUndefined()
    expect(new Keyring().find('')).toBeUndefined()
  })

  it('holds neither the key nor its hash in what it says of a caller', () => {
    const key = newKey()
    const caller = JSON.stringify(new Keyring([entry('alice', key)]).find(key))
    expect(caller).not.toContain(key)
    expect(caller).not.toContain(hashOf(key))
    expect(caller).not.toContain(Buffer.from(hashOf(key), 'hex').toString('base64url'))
  })

  it('lets several keys be one principal, and goes on accepting those that are left', () => {
    const [old, young] = [newKey(), newKey()]
    const ring = new Keyring([entry('alice', old), entry('alice', young)])
    const [before, after] = [ring.find(old), ring.find(young)].map((caller) => caller ?? expect.unreachable())
    expect(before?.principal).toBe(after?.principal)
    ring.replace([entry('alice', young)])
    expect(ring.find(old)).toBeUndefined()
    expect([before, after].map((caller) => ring.accepts(caller ?? anybody))).toEqual([false, true])
    expect(ring.knows('alice')).toBe(true)
    ring.replace([])
    expect(ring.accepts(after ?? anybody)).toBe(false)
    expect(ring.knows('alice')).toBe(false)
  })

  it('lets a key that may speak for anybody, but for whoever has lost his own, until it does so again', () => {
    const [key, alices] = [newKey(), newKey()]
    const backend = { ...entry('backend', key), tickets_for_others: true }
    const ring = new Keyring([backend, entry('alice', alices)])
    const caller = ring.find(key) ?? expect.unreachable()
    expect([caller.speaksForOthers, ring.find(alices)?.speaksForOthers]).toEqual([true, undefined])
    expect([ring.accepts({ ...caller, principal: 'user' }), ring.knows('user'), ring.knows('alice')]).toEqual([
      true,
      true,
      true,
    ])
    ring.replace([backend])
    expect([ring.knows('user'), ring.knows('alice')]).toEqual([true, false])
    expect([ring.accepts({ ...caller, principal: 'alice' }), ring.knows('alice')]).toEqual([true, true])
    ring.replace([entry('backend', key)])
    expect([ring.accepts(caller), ring.accepts({ ...caller, principal: 'user' }), ring.knows('user')]).toEqual([
      true,
      false,
      false,
    ])
  })

  it('names its keys as any other does that has the same secret', () => {
    const key = newKey()
    const keys = [entry('alice', key)]
    const [one, two] = ['x', 'x'].map((secret) => new Keyring(keys, Buffer.from(secret)).find(key)?.key)
    expect(one).toBe(two)
    expect(new Keyring(keys).find(key)?.key).not.toBe(one)
  })

  it('does not take anybody for somebody', () => {
    const ring = new Keyring([entry('alice', newKey())])
    expect(ring.accepts(anybody)).toBe(false)
    expect(ring.knows(anybody.principal)).toBe(false)
  })
})

describe('a list of keys', () => {
  const sha256 = hashOf('x')

  it('takes hashes in any case', () => {
    expect(accessKeys.parse([{ name: 'alice', sha256: sha256.toUpperCase() }])).toEqual([{ name: 'alice', sha256 }])
  })

  it.each([
    ['no name', { sha256 }],
    ['an empty name', { name: '', sha256 }],
    ['a name with a blank', { name: 'a b', sha256 }],
    ['a name that is too long', { name: 'a'.repeat(65), sha256 }],
    ['a name that is not ASCII', { name: 'é', sha256 }],
    ['a key in place of its hash', { name: 'alice', sha256: 'slk_canary' }],
    ['a short hash', { name: 'alice', sha256: sha256.slice(1) }],
    ['a field that it does not know', { name: 'alice', sha256, slk_canary: 1 }],
    ['no fields', 'slk_canary'],
  ])('is refused with %s, and not quoted', (_, key) => {
    const { error } = accessKeys.safeParse([key])
    const messages = error?.issues.map(({ message }) => message) ?? []
    expect(messages.length).toBeGreaterThan(0)
    expect(messages.join()).not.toContain('slk_canary')
  })

  it('is refused when one key is two principals', () => {
    const keys = [
      { name: 'alice', sha256 },
      { name: 'bob', sha256: sha256.toUpperCase() },
    ]
    expect(accessKeys.safeParse(keys).success).toBe(false)
  })
})
