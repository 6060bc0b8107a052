import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { SluiceError } from '../core/errors.ts'

/** So old, keys are fetched again: one that its issuer has withdrawn is good for no longer. */
const maxAgeMs = 600_000
/** No sooner than that after the last fetch is another made for a key that is not known: any stranger can name one. */
const cooldownMs = 10_000
/** And so long after one that failed, while there is no key at all. */
const retryMs = 1_000
/** A set of keys has some kilobytes. */
const maxBytes = 512 * 1024

export interface RemoteKeysOptions {
  readonly url: string
  readonly log: { error(fields: object, message: string): void }
  /** For the whole answer, in milliseconds. */
  readonly timeoutMs?: number
  /** In milliseconds. */
  readonly now?: () => number
}

/**
 * The public keys that an issuer has under a URL. They are fetched when they are first needed, when they are old and,
 * now and then, when a token names one that is not among them. While they cannot be fetched, those that are there stay.
 */
export class RemoteKeys {
  readonly #options: Required<RemoteKeysOptions>
  #find: ReturnType<typeof createLocalJWKSet> | undefined
  #fetchedAt = Number.NEGATIVE_INFINITY
  #triedAt = Number.NEGATIVE_INFINITY
  #failed = false
  /** One fetch for all who wait for it; tells whether it went well. */
  #fetching: Promise<boolean> | undefined

  constructor(options: RemoteKeysOptions) {
    this.#options = { timeoutMs: 5_000, now: () => performance.now(), ...options }
  }

  /** @throws SluiceError `access_unavailable`, what jose has for a key that is not there */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (!this.#find) {
      if (!(await this.#fetchAfter(this.#failed ? retryMs : 0))) throw unavailable()
    } else if (this.#options.now() - this.#fetchedAt >= maxAgeMs) {
      // Nobody has to wait for it.
      void this.#fetchAfter(cooldownMs)
    }
    try {
      return await this.#among(header, token)
    } catch (miss) {
      if (!(miss instanceof errors.JWKSNoMatchingKey)) throw miss
      if (await this.#fetchAfter(cooldownMs)) return this.#among(header, token)
      // It may be new: then its bearer is not to blame.
      if (this.#failed) throw unavailable()
      throw miss
    }
  }

  #among(...asked: Parameters<JWTVerifyGetKey>) {
    if (!this.#find) throw unavailable()
    return this.#find(...asked)
  }

  /** Fetches them unless that was tried within `pauseMs`. */
  #fetchAfter(pauseMs: number): Promise<boolean> | boolean {
    if (this.#fetching) return this.#fetching
    if (this.#options.now() - this.#triedAt < pauseMs) return false
    this.#fetching = this.#fetch().finally(() => {
      this.#triedAt = this.#options.now()
      this.#fetching = undefined
    })
    return this.#fetching
  }

  async #fetch(): Promise<boolean> {
    const { url, timeoutMs, log, now } = this.#options
    try {
      const signal = AbortSignal.timeout(timeoutMs)
      // Wherever a redirect led, nobody has named it.
      const response = await fetch(url, { redirect: 'manual', headers: { accept: 'application/json' }, signal })
      this.#find = createLocalJWKSet(await readKeys(response))
      this.#fetchedAt = now()
      this.#failed = false
    } catch (failure) {
      log.error({ reason: reasonOf(failure) }, 'the keys of access.jwt.jwks_url cannot be fetched')
      this.#failed = true
    }
    return !this.#failed
  }
}

class UnfitKeys extends Error {}

/** @throws UnfitKeys, and whatever reading throws */
async function readKeys(response: Response): Promise<JSONWebKeySet> {
  const { status, body } = response
  if (status !== 200 || !body) {
    await body?.cancel()
    throw new UnfitKeys(`status ${status}`)
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  // Leaving the loop lets go of the connection.
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new UnfitKeys(`more than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as JSONWebKeySet
  } catch {
    throw new UnfitKeys('no JSON')
  }
}

/** For the operator; of the answer it holds nothing. */
function reasonOf(failure: unknown): string {
  if (failure instanceof UnfitKeys) return failure.message
  if (failure instanceof errors.JOSEError) return failure.code
  const { name, cause } = failure as Error
  return (cause as NodeJS.ErrnoException | undefined)?.code ?? name
}

function unavailable(): SluiceError {
  return new SluiceError('access_unavailable', { retryAfterMs: retryMs })
}
