import { hashOf, newKey } from '../../src/access/keyring.ts'

/** A client with a key, as the server knows it and as it comes. */
export interface Holder {
  readonly name: string
  readonly key: string
  /** As the configuration has it. */
  readonly entry: { readonly name: string; readonly sha256: string }
  /** As a line of a file of keys has it. */
  readonly line: string
  /** Request headers. */
  readonly bearer: { readonly authorization: string }
}

export function holder(name: string): Holder {
  const key = newKey()
  const sha256 = hashOf(key)
  const bearer = { authorization: `Bearer ${key}` }
  return { name, key, entry: { name, sha256 }, line: `${name} ${sha256}\n`, bearer }
}

/** Settings under which these, and nobody else, are let in. */
export function lettingIn(...holders: readonly Holder[]): Record<string, string> {
  return { SLUICE_ACCESS__MODE: 'keys', SLUICE_ACCESS__KEYS: JSON.stringify(holders.map(({ entry }) => entry)) }
}
