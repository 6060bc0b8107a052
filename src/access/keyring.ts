import { createHmac, hash, randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { Caller } from '../core/caller.ts'
import { randomText } from '../core/random.ts'
import type { Authenticator } from './authenticator.ts'

export const principalName = z.string().regex(/^[\x21-\x7e]{1,64}$/, 'must be 1 to 64 visible ASCII characters')

/** A sentence of its own for each fault: zod's quotes what it does not know, which may be a key in the wrong place. */
const accessKey = z.strictObject(
  {
    name: principalName,
    sha256: z
      .string('must be the SHA-256 of the key')
      .regex(/^[0-9a-f]{64}$/i, 'must be the SHA-256 of the key, 64 hexadecimal digits')
      .toLowerCase(),
    tickets_for_others: z.boolean('must be true or false').optional(),
  },
  'must hold name and sha256, at most tickets_for_others besides, and nothing else',
)

export const accessKeys = z.array(accessKey, 'must be a list of keys').refine(
  (keys) => new Set(keys.map(({ sha256 }) => sha256)).size === keys.length,
  // Else it would be chance whose streams its holder sees.
  'the same key stands there twice',
)

/** A key as it is stored: whoever reads it cannot use it. */
export type AccessKey = z.output<typeof accessKey>

/** A new key, to be shown once: 256 random bits, which nobody can guess, so that a fast hash of it may be stored. */
export function newKey(): string {
  return `slk_${randomText(32)}`
}

export function hashOf(key: string): string {
  return hash('sha256', key, 'hex')
}

/**
 * The keys that are valid now. A key is looked up by its whole hash, blinded with a secret of this process: how long a
 * lookup takes depends on nothing that a client could choose or compute, so it tells nothing, and it takes the same with
 * ten keys or ten thousand. `timingSafeEqual` over all of them would be as safe, and cost every request all keys.
 */
export class Keyring implements Authenticator {
  readonly refusal = 'unauthorized'
  readonly #secret: Buffer
  #callers = new Map<string, Caller>()
  #principals = new Set<string>()
  /** Had a key here, and have none now. */
  readonly #former = new Set<string>()
  #speaksForOthers = false

  /** @param secret the same on all processes that are to know one another's tickets */
  constructor(keys: readonly AccessKey[] = [], secret: Buffer = randomBytes(32)) {
    this.#secret = secret
    this.replace(keys)
  }

  /** From now on these are valid and no others. */
  replace(keys: readonly AccessKey[]): void {
    const callers = keys.map(
      ({ name, sha256, tickets_for_others }): Caller => ({
        principal: name,
        key: this.#blinded(sha256),
        ...(tickets_for_others && { speaksForOthers: true }),
      }),
    )
    for (const principal of this.#principals) this.#former.add(principal)
    this.#callers = new Map(callers.map((caller) => [caller.key, caller]))
    this.#principals = new Set(keys.map(({ name }) => name))
    for (const principal of this.#principals) this.#former.delete(principal)
    this.#speaksForOthers = callers.some(({ speaksForOthers }) => speaksForOthers)
  }

  find(key: string): Caller | undefined {
    return this.#callers.get(this.#blinded(hashOf(key)))
  }

  /** The key that he came with, or that a ticket was made for him with, is still valid. */
  accepts({ principal, key }: Pick<Caller, 'principal' | 'key'>): boolean {
    const holder = this.#callers.get(key)
    const isValid = holder !== undefined && (holder.principal === principal || holder.speaksForOthers === true)
    // Whoever is spoken for is somebody again.
    if (isValid) this.#former.delete(principal)
    return isValid
  }

  /** Has a valid key, or may be somebody that the holder of one speaks for. */
  knows(principal: string): boolean {
    return this.#principals.has(principal) || (this.#speaksForOthers && !this.#former.has(principal))
  }

  #blinded(sha256: string): string {
    return createHmac('sha256', this.#secret).update(sha256).digest('base64url')
  }
}
