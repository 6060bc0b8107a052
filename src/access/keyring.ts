import { createHmac, hash, randomBytes } from 'node:crypto'
import { z } from 'zod'
import { randomText } from '../core/random.ts'

/** Who sends a request. */
export interface Caller {
  /** Whose streams are his, whichever of his keys he comes with; empty where nobody is told from anybody. */
  readonly principal: string
  /** Stands for the key that he came with; good for nothing but asking whether it is still valid. */
  readonly key: string
}

export const anybody: Caller = { principal: '', key: '' }

export const principalName = z.string().regex(/^[\x21-\x7e]{1,64}$/, 'must be 1 to 64 visible ASCII characters')

/** A sentence of its own for each fault: zod's quotes what it does not know, which may be a key in the wrong place. */
const accessKey = z.strictObject(
  {
    name: principalName,
    sha256: z
      .string('must be the SHA-256 of the key')
      .regex(/^[0-9a-f]{64}$/i, 'must be the SHA-256 of the key, 64 hexadecimal digits')
      .toLowerCase(),
  },
  'must hold name and sha256, and nothing else',
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
export class Keyring {
  readonly #secret = randomBytes(32)
  #callers = new Map<string, Caller>()
  #principals = new Set<string>()

  constructor(keys: readonly AccessKey[] = []) {
    this.replace(keys)
  }

  /** From now on these are valid and no others. */
  replace(keys: readonly AccessKey[]): void {
    const callers = keys.map(({ name, sha256 }): Caller => ({ principal: name, key: this.#blinded(sha256) }))
    this.#callers = new Map(callers.map((caller) => [caller.key, caller]))
    this.#principals = new Set(keys.map(({ name }) => name))
  }

  find(key: string): Caller | undefined {
    return this.#callers.get(this.#blinded(hashOf(key)))
  }

  /** The key that he came with is still valid. */
  accepts({ key }: Caller): boolean {
    return this.#callers.has(key)
  }

  /** Has a valid key. */
  knows(principal: string): boolean {
    return this.#principals.has(principal)
  }

  #blinded(sha256: string): string {
    return createHmac('sha256', this.#secret).update(sha256).digest('base64url')
  }
}
