import { createPublicKey, createSecretKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { errors, type JWTVerifyGetKey } from 'jose'
import { type Algorithm, algorithmsOf, type JwtSettings } from './jwt-settings.ts'

/** Why a file holds no key to check tokens with; quotes nothing of it. */
export class KeyFault extends Error {}

/** As many as the hash has, and nobody can guess them. */
const leastSecretBytes = 32
const leastRsaBits = 2_048

/** @throws KeyFault */
export function readSecretKey(path: string): JWTVerifyGetKey {
  const secret = readText(path).trim()
  if (Buffer.byteLength(secret) < leastSecretBytes) {
    throw new KeyFault(`${path}: a secret of fewer than ${leastSecretBytes} bytes can be guessed`)
  }
  const key = createSecretKey(secret, 'utf8')
  return () => key
}

/** @throws KeyFault, also when the key is for none of the algorithms */
export function readPublicKey(path: string, settings: JwtSettings): JWTVerifyGetKey {
  const text = readText(path)
  // Whoever reads a private key where a public one would do can sign as well.
  if (/PRIVATE KEY/.test(text)) throw new KeyFault(`${path}: holds a private key; the public one is enough`)
  let key: KeyObject
  try {
    key = createPublicKey(text)
  } catch {
    throw new KeyFault(`${path}: holds no public key in PEM`)
  }
  const { modulusLength } = key.asymmetricKeyDetails ?? {}
  if (modulusLength !== undefined && modulusLength < leastRsaBits) {
    throw new KeyFault(`${path}: an RSA key of fewer than ${leastRsaBits} bits can be broken`)
  }
  const algorithms = algorithmsOf(settings)
  const fit = algorithms.filter((each) => isFor(key, each))
  if (fit.length === 0) throw new KeyFault(`${path}: the key is for none of ${algorithms.join(', ')}`)
  return ({ alg }) => {
    if (!fit.some((each) => each === alg)) throw new errors.JOSEAlgNotAllowed()
    return key
  }
}

const curves: Partial<Record<Algorithm, string>> = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' }

function isFor({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject, algorithm: Algorithm): boolean {
  if (asymmetricKeyType === 'rsa') return /^[RP]S/.test(algorithm)
  if (asymmetricKeyType === 'ec') return asymmetricKeyDetails?.namedCurve === curves[algorithm]
  return asymmetricKeyType === 'ed25519' && algorithm === 'EdDSA'
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new KeyFault(`${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}
