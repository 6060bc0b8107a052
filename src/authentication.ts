import type { JWTVerifyGetKey } from 'jose'
import type { Authenticator } from './access/authenticator.ts'
import { Jwt } from './access/jwt.ts'
import type { JwtSettings } from './access/jwt-settings.ts'
import { Keyring } from './access/keyring.ts'
import { KeysFault, KeysFile, type KeysFileLog } from './access/keys-file.ts'
import { KeyFault, readPublicKey, readSecretKey } from './access/local-key.ts'
import { RemoteKeys } from './access/remote-keys.ts'
import { derive, Tickets, ticketSecret } from './access/tickets.ts'
import { type Config, ConfigError } from './config.ts'

/** Who tells callers from strangers, as the settings have it. */
export interface Authentication {
  readonly authenticator: Authenticator
  /** Not with several processes that have no secret in common: none would know the tickets of another. */
  readonly tickets: Tickets | undefined
  /** The file of access keys. */
  readonly file?: KeysFile
}

/**
 * @returns nothing where nobody is told from anybody
 * @throws ConfigError when there is a file that cannot be used
 */
export function openAuthentication({ access, store }: Config, log: KeysFileLog): Authentication | undefined {
  if (access.mode === undefined || access.mode === 'none') return undefined
  const secret = ticketSecret(access.tickets.secret)
  const isCommon = access.tickets.secret !== undefined || store.url === undefined
  const tickets = isCommon ? new Tickets(secret) : undefined
  if (access.mode === 'jwt' && access.jwt) {
    return { authenticator: new Jwt(access.jwt, keysOf(access.jwt, log)), tickets }
  }
  // A ticket names the key that it was made with as this ring does, and other replicas have to understand that.
  const keyring = new Keyring(access.keys, derive(secret, 'keys'))
  if (access.keys_file === undefined) return { authenticator: keyring, tickets }
  try {
    return { authenticator: keyring, tickets, file: new KeysFile(keyring, access.keys, access.keys_file, log) }
  } catch (fault) {
    throw fault instanceof KeysFault ? new ConfigError([`access.keys_file: ${fault.message}`]) : fault
  }
}

function keysOf(jwt: JwtSettings, log: KeysFileLog): JWTVerifyGetKey {
  const { jwks_url, public_key_file, secret_file } = jwt
  try {
    if (public_key_file !== undefined) return readPublicKey(public_key_file, jwt)
    if (secret_file !== undefined) return readSecretKey(secret_file)
  } catch (fault) {
    throw fault instanceof KeyFault ? new ConfigError([`access.jwt: ${fault.message}`]) : fault
  }
  if (jwks_url === undefined) throw new Error('settings without a way to the keys')
  return new RemoteKeys({ url: jwks_url, log }).find
}
