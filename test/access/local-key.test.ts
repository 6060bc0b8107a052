import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Jwt } from '../../src/access/jwt.ts'
import { jwtSettings } from '../../src/access/jwt-settings.ts'
import { KeyFault, readPublicKey, readSecretKey } from '../../src/access/local-key.ts'
import { issuerSettings, sign } from '../support/issuer.ts'

function fileWith(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-key-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'key')
  writeFileSync(path, text)
  return path
}

const inPem = ({ publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject }) => ({
  publicKey: publicKey.export({ type: 'spki', format: 'pem' }) as string,
  privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
})
const ec = (namedCurve: string) => inPem(generateKeyPairSync('ec', { namedCurve }))
const rsa = (modulusLength: number) => inPem(generateKeyPairSync('rsa', { modulusLength }))
const withPublic = (path: string, algorithms?: string) =>
  jwtSettings.parse({ ...issuerSettings, public_key_file: path, ...(algorithms && { algorithms }) })

describe('a public key in a file', () => {
  it('checks the tokens of its one algorithm, whatever else is pinned', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
    const settings = withPublic(fileWith(publicKey.export({ type: 'spki', format: 'pem' }) as string))
    const reader = new Jwt(settings, readPublicKey(settings.public_key_file as string, settings))
    expect(await reader.find(await sign(privateKey, {}, { alg: 'ES256' }))).toMatchObject({ principal: 'alice' })
    const foreign = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    expect(await reader.find(await sign(foreign, {}, { alg: 'RS256' }))).toBeUndefined()
  })

  it.each<[string, () => string, string?]>([
    ['nothing', () => ''],
    ['no key', () => 'canary'],
    ['a broken key', () => ec('prime256v1').publicKey.replace('MF', 'canary')],
    ['a private key', () => ec('prime256v1').privateKey],
    ['an RSA key that is too short', () => rsa(1_024).publicKey],
    ['a key of another curve', () => ec('secp384r1').publicKey],
    ['a key for what is not pinned', () => ec('prime256v1').publicKey, 'RS256'],
  ])('is refused at the start, without a word of it, when it is %s', (_, text, algorithms) => {
    const path = fileWith(text())
    expect(() => readPublicKey(path, withPublic(path, algorithms))).toThrow(KeyFault)
    expect(() => readPublicKey(path, withPublic(path, algorithms))).not.toThrow('canary')
  })
})

describe('a secret in a file', () => {
  it('checks tokens, without the line break at its end', async () => {
    const secret = 'a secret that is thirty-two bytes'
    const settings = jwtSettings.parse({ ...issuerSettings, secret_file: fileWith(`${secret}\n`) })
    const reader = new Jwt(settings, readSecretKey(settings.secret_file as string))
    const key = new TextEncoder().encode(secret)
    expect(await reader.find(await sign(key, {}, { alg: 'HS256' }))).toMatchObject({ principal: 'alice' })
    expect(await reader.find(await sign(key, {}, { alg: 'HS512' }))).toBeUndefined()
    expect(await reader.find(await sign(key.slice(1), {}, { alg: 'HS256' }))).toBeUndefined()
  })

  it('is refused when it can be guessed, or is not there', () => {
    expect(() => readSecretKey(fileWith('x'.repeat(31)))).toThrow('32')
    expect(() => readSecretKey('/nonexistent/secret')).toThrow('ENOENT')
  })
})
