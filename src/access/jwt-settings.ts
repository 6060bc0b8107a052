import { z } from 'zod'
import { isLoopbackAddress } from '../core/address.ts'
import { list } from '../core/list.ts'

const asymmetric = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const
const symmetric = ['HS256', 'HS384', 'HS512'] as const

export type Algorithm = (typeof asymmetric)[number] | (typeof symmetric)[number]

/** In place of an audience: tokens for any service of the issuer. */
const anyAudience = '*'

/** Settings of `access.jwt`. */
export const jwtSettings = z
  .strictObject({
    jwks_url: z
      .url({ protocol: /^https?$/, error: 'must be an https URL' })
      .refine(isPrivateWay, 'must be an https URL: whoever can change keys on their way lets in whom he likes')
      .optional(),
    public_key_file: z.string().min(1).optional(),
    secret_file: z.string().min(1).optional(),
    issuer: z.string().min(1),
    audience: list(z.string().min(1)).refine(
      (all) => all.length > 0,
      `name one; ${anyAudience} takes tokens for others`,
    ),
    algorithms: list(z.enum([...asymmetric, ...symmetric]))
      .refine((all) => all.length > 0, 'name one')
      .optional(),
    clock_skew_ms: z.int().min(0).max(600_000).default(60_000),
    principal_claim: z.string().min(1).default('sub'),
    presets_claim: z.string().min(1).optional(),
    limits_claim: z.string().min(1).optional(),
  })
  .superRefine(({ jwks_url, public_key_file, secret_file, algorithms = [] }, { addIssue }) => {
    const sources = [jwks_url, public_key_file, secret_file].filter((each) => each !== undefined)
    if (sources.length !== 1) addIssue('must have one of jwks_url, public_key_file and secret_file')
    const unfit: readonly string[] = secret_file === undefined ? symmetric : asymmetric
    // What is public would be the secret, and anybody could sign.
    const wrong = algorithms.filter((each) => unfit.includes(each))
    const fit = secret_file === undefined ? 'public keys' : 'a secret'
    if (wrong.length > 0) addIssue({ code: 'custom', path: ['algorithms'], message: `not with ${fit}: ${wrong}` })
  })

export type JwtSettings = z.output<typeof jwtSettings>

/** The audiences whose tokens are taken; `undefined` for any. */
export function audienceOf({ audience }: JwtSettings): string[] | undefined {
  return audience.includes(anyAudience) ? undefined : audience
}

/** Pinned whatever a token says of itself. */
export function algorithmsOf({ algorithms, secret_file }: JwtSettings): readonly Algorithm[] {
  return algorithms ?? (secret_file === undefined ? ['RS256', 'ES256', 'EdDSA'] : ['HS256'])
}

function isPrivateWay(text: string): boolean {
  if (!URL.canParse(text)) return true
  const { protocol, hostname } = new URL(text)
  const isLocal = hostname === 'localhost' || hostname === '[::1]' || isLoopbackAddress(hostname)
  return protocol === 'https:' || isLocal
}
