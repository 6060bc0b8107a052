import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { z } from 'zod'
import { type Caller, limitsSchema } from '../core/caller.ts'
import { SluiceError } from '../core/errors.ts'
import type { Authenticator } from './authenticator.ts'
import { algorithmsOf, audienceOf, type JwtSettings } from './jwt-settings.ts'
import { principalName } from './keyring.ts'

const presetNames = z.array(z.string().min(1).max(64)).max(1_000)
const presetsClaim = z.union([z.string().transform((name) => [name]), z.array(z.string())]).pipe(presetNames)

/**
 * Takes the tokens of one issuer. A token is good until it expires, and cannot be taken back before; what was begun with
 * it goes on, as answers are short and `timeouts.total_ms` ends them all.
 */
export class Jwt implements Authenticator {
  readonly refusal = 'token_invalid'
  readonly #settings: JwtSettings
  readonly #keyFor: JWTVerifyGetKey
  readonly #now: () => number

  /** @param now in milliseconds since 1970 */
  constructor(settings: JwtSettings, keyFor: JWTVerifyGetKey, now = Date.now) {
    this.#settings = settings
    this.#keyFor = keyFor
    this.#now = now
  }

  async find(token: string): Promise<Caller | undefined> {
    const claims = await this.#verify(token)
    return claims && this.#callerOf(claims)
  }

  accepts(): boolean {
    return true
  }

  knows(): boolean {
    return true
  }

  /** @returns nothing for any token that is not one of ours: which check failed is nobody's business */
  async #verify(token: string): Promise<JWTPayload | undefined> {
    const { issuer, clock_skew_ms } = this.#settings
    const audience = audienceOf(this.#settings)
    try {
      const { payload } = await jwtVerify(token, this.#keyFor, {
        algorithms: [...algorithmsOf(this.#settings)],
        issuer,
        ...(audience && { audience }),
        clockTolerance: clock_skew_ms / 1_000,
        currentDate: new Date(this.#now()),
        requiredClaims: ['exp'],
      })
      return payload
    } catch (fault) {
      // Told last of all, and so only of a token that was good.
      if (fault instanceof errors.JWTExpired) throw new SluiceError('token_expired')
      if (fault instanceof errors.JOSEError) return undefined
      throw fault
    }
  }

  /** A claim that is not what it should be gives less or more than somebody meant: such a token gives nothing. */
  #callerOf(claims: JWTPayload): Caller | undefined {
    const { principal_claim, presets_claim, limits_claim, clock_skew_ms } = this.#settings
    const principal = principalName.safeParse(claimOf(claims, principal_claim))
    const presets = presetsClaim.optional().safeParse(claimOf(claims, presets_claim))
    const limits = limitsSchema.optional().safeParse(claimOf(claims, limits_claim))
    if (!principal.success || !presets.success || !limits.success) return undefined
    return {
      principal: principal.data,
      key: '',
      until: Number(claims.exp) * 1_000 + clock_skew_ms,
      ...(presets.data && { presets: presets.data }),
      ...(limits.data && { limits: limits.data }),
    }
  }
}

function claimOf(claims: JWTPayload, name: string | undefined): unknown {
  return name !== undefined && Object.hasOwn(claims, name) ? claims[name] : undefined
}
