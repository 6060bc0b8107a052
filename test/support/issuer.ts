import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'

/** Makes tokens, as an identity provider does. */
export interface Issuer {
  /** What it has under its URL, or would have. */
  readonly jwks: { keys: JWK[] }
  /** In PEM. */
  readonly publicPem: string
  /** A token for `alice` that is good for a minute, unless it says something else; `undefined` leaves a claim out. */
  token(claims?: Record<string, unknown>, header?: { alg?: string; kid?: string | undefined }): Promise<string>
}

export const issuerUrl = 'https://issuer.example.com/'
export const audience = 'sluice'

/** Settings of `access.jwt` that take its tokens, from wherever its keys are. */
export const issuerSettings = { issuer: issuerUrl, audience }

export async function startIssuer(alg = 'ES256', kid = 'one'): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' }
  return {
    jwks: { keys: [jwk] },
    publicPem: createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' }).export({
      type: 'spki',
      format: 'pem',
    }) as string,
    token: (claims = {}, header = {}) => sign(privateKey, claims, { alg, kid, ...header }),
  }
}

export function sign(
  key: Parameters<SignJWT['sign']>[0] | KeyObject,
  claims: Record<string, unknown>,
  header: { alg: string; kid?: string | undefined },
): Promise<string> {
  const now = Math.floor(Date.now() / 1_000)
  const standard = { sub: 'alice', iss: issuerUrl, aud: audience, iat: now, exp: now + 60 }
  const all = Object.entries({ ...standard, ...claims }).filter(([, value]) => value !== undefined)
  const { alg, kid } = header
  return new SignJWT(Object.fromEntries(all)).setProtectedHeader({ alg, ...(kid !== undefined && { kid }) }).sign(key)
}
