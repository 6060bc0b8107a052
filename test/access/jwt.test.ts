import { createSecretKey } from 'node:crypto'
import { createLocalJWKSet, type JWTPayload, UnsecuredJWT } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import { Jwt } from '../../src/access/jwt.ts'
import { jwtSettings } from '../../src/access/jwt-settings.ts'
import { audience, type Issuer, issuerSettings, issuerUrl, sign, startIssuer } from '../support/issuer.ts'

let issuer: Issuer
let other: Issuer
beforeAll(async () => {
  issuer = await startIssuer()
  other = await startIssuer()
})

const second = Math.floor(Date.now() / 1_000)

function readerWith(more: object = {}, now = () => second * 1_000): Jwt {
  const settings = jwtSettings.parse({ jwks_url: 'https://issuer.example.com/jwks', ...issuerSettings, ...more })
  return new Jwt(settings, createLocalJWKSet(issuer.jwks), now)
}

const flip = (text: string, at: number) => text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1)
const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
/** An unpadded body under a head of anybody's choice, with whatever signature. */
const forged = (head: unknown, body: unknown, signature = 'AAAA') => `${part(head)}.${part(body)}.${signature}`
const good: JWTPayload = { sub: 'alice', iss: issuerUrl, aud: audience, exp: second + 60 }

const badTokens: [what: string, make: () => string | Promise<string>][] = [
  ['nothing', () => ''],
  ['garbage', () => 'garbage'],
  ['three parts of garbage', () => 'a.b.c'],
  ['three empty parts', () => '..'],
  ['JSON that is no object', () => forged(1, [])],
  ['a huge one', () => `${'a'.repeat(1_000_000)}.${'b'.repeat(1_000_000)}.c`],
  ['alg none', () => new UnsecuredJWT(good).encode()],
  ['alg none with a signature', () => forged({ alg: 'none' }, good)],
  ['no alg', () => forged({ kid: 'one' }, good)],
  [
    'an alg of another kind',
    () => issuer.token().then((token) => token.replace(/^[^.]*/, part({ alg: 'RS256', kid: 'one' }))),
  ],
  ['an alg that is not pinned', async () => (await startIssuer('ES384')).token()],
  [
    'HS256 with the public key',
    () => sign(createSecretKey(issuer.publicPem, 'utf8'), {}, { alg: 'HS256', kid: 'one' }),
  ],
  [
    'HS256 with the JWK',
    () => sign(createSecretKey(JSON.stringify(issuer.jwks.keys[0]), 'utf8'), {}, { alg: 'HS256', kid: 'one' }),
  ],
  ['another signer', () => other.token()],
  ['an unknown kid', () => issuer.token({}, { kid: 'two' })],
  [
    'a key of its own in the head',
    async () => {
      const [, body] = (await other.token()).split('.')
      return `${part({ alg: 'ES256', kid: 'one', jwk: other.jwks.keys[0] })}.${body}.AAAA`
    },
  ],
  ['an extension that has to be understood', () => forged({ alg: 'ES256', kid: 'one', crit: ['x'], x: 1 }, good)],
  [
    'a changed signature',
    async () => {
      const token = await issuer.token()
      return flip(token, token.length - 10)
    },
  ],
  [
    'a changed body',
    async () => {
      const [head, , signature] = (await issuer.token()).split('.')
      return `${head}.${part({ ...good, sub: 'bob' })}.${signature}`
    },
  ],
  ['no signature', async () => (await issuer.token()).replace(/[^.]*$/, '')],
  ['five parts', async () => `${await issuer.token()}.a.b`],
  ['no exp', () => issuer.token({ exp: undefined })],
  ['an exp that is a text', () => issuer.token({ exp: '9999999999' })],
  ['an exp that is null', () => issuer.token({ exp: null })],
  ['an nbf to come', () => issuer.token({ nbf: second + 61 })],
  ['another iss', () => issuer.token({ iss: 'https://issuer.example.com' })],
  ['no iss', () => issuer.token({ iss: undefined })],
  ['another aud', () => issuer.token({ aud: 'other' })],
  ['a list without it', () => issuer.token({ aud: ['other', 'sluic'] })],
  ['no aud', () => issuer.token({ aud: undefined })],
  ['no sub', () => issuer.token({ sub: undefined })],
  ['an empty sub', () => issuer.token({ sub: '' })],
  ['a sub with a blank', () => issuer.token({ sub: 'alice bob' })],
  ['a sub that is too long', () => issuer.token({ sub: 'a'.repeat(65) })],
  ['a sub that is a number', () => issuer.token({ sub: 1 })],
]

describe('a token', () => {
  it('is taken when all is right, whatever else it says', async () => {
    const caller = await readerWith().find(await issuer.token({ scope: 'x', aud: ['other', audience] }))
    expect(caller).toEqual({ principal: 'alice', key: '', until: expect.any(Number) })
  })

  it.each(badTokens)('is not taken: %s', async (_, make) => {
    expect(await readerWith().find(await make())).toBeUndefined()
  })

  it.each(['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'])('may be signed with %s where that is pinned', async (alg) => {
    const signer = await startIssuer(alg)
    const settings = jwtSettings.parse({ jwks_url: 'https://x', ...issuerSettings, algorithms: alg })
    const reader = new Jwt(settings, createLocalJWKSet(signer.jwks))
    expect(await reader.find(await signer.token())).toMatchObject({ principal: 'alice' })
    expect(await reader.find(await issuer.token({}, { alg: 'ES256' }))).toBeUndefined()
  })

  it('may be for anybody where the settings say so', async () => {
    const reader = readerWith({ audience: '*' })
    expect(await reader.find(await issuer.token({ aud: undefined }))).toBeDefined()
    expect(await reader.find(await issuer.token({ aud: 'other' }))).toBeDefined()
  })

  it.each([
    0, 1_000, 60_000,
  ])('is good until its exp and %d ms of skew, and from as long before its nbf', async (skew) => {
    let now = 0
    const reader = readerWith({ clock_skew_ms: skew }, () => now)
    const token = await issuer.token({ nbf: second + 100, exp: second + 200 })
    const at = (seconds: number) => {
      now = (second + seconds) * 1_000
      return reader.find(token).then(
        (caller) => caller?.principal,
        ({ code }) => code,
      )
    }
    const skewSeconds = skew / 1_000
    expect(await at(100 - skewSeconds - 0.001)).toBeUndefined()
    expect(await at(100 - skewSeconds)).toBe('alice')
    expect(await at(200 + skewSeconds - 0.001)).toBe('alice')
    expect(await at(200 + skewSeconds)).toBe('token_expired')
  })

  it('that is over and bad besides is as bad as any: only its bearer hears that it is over', async () => {
    const over = { exp: second - 100 }
    await expect(readerWith().find(await issuer.token(over))).rejects.toMatchObject({ code: 'token_expired' })
    for (const token of [
      other.token(over),
      issuer.token({ ...over, aud: 'other' }),
      issuer.token({ ...over, iss: 'x' }),
    ])
      expect(await readerWith().find(await token)).toBeUndefined()
  })
})

describe('claims', () => {
  it('may be others than the usual', async () => {
    const reader = readerWith({ principal_claim: 'https://app/user', presets_claim: 'presets', limits_claim: 'limits' })
    const limits = { requests_per_minute: 5, usd_per_day: 0.5 }
    const token = await issuer.token({ 'https://app/user': 'bob', presets: ['a', 'b'], limits })
    expect(await reader.find(token)).toMatchObject({ principal: 'bob', key: '', presets: ['a', 'b'], limits })
    const plain = await issuer.token({ 'https://app/user': 'bob', presets: 'a' })
    expect(await reader.find(plain)).toMatchObject({ principal: 'bob', key: '', presets: ['a'] })
    expect(await reader.find(await issuer.token({ 'https://app/user': 'bob', presets: [] }))).toMatchObject({
      presets: [],
    })
    expect(await reader.find(await issuer.token())).toBeUndefined()
  })

  it.each<[string, unknown]>([
    ['presets', 1],
    ['presets', {}],
    ['presets', ['a', 1]],
    ['presets', ['']],
    ['presets', null],
    ['limits', 'none'],
    ['limits', []],
    ['limits', null],
    ['limits', { requests_per_minute: '5' }],
    ['limits', { requests_per_minute: 0 }],
    ['limits', { tokens_per_day: 0.5 }],
    ['limits', { requests: 5 }],
    ['limits', { usd_per_day: null }],
  ])('that are not what they should be take the token with them: %s %j', async (name, value) => {
    const reader = readerWith({ presets_claim: 'presets', limits_claim: 'limits' })
    expect(await reader.find(await issuer.token({ [name]: value }))).toBeUndefined()
  })

  it('are not found in what every object has', async () => {
    for (const name of ['constructor', '__proto__', 'toString'])
      expect(await readerWith({ principal_claim: name }).find(await issuer.token())).toBeUndefined()
  })
})

describe('settings', () => {
  const base = { ...issuerSettings, jwks_url: 'https://issuer.example.com/jwks' }
  it.each<[string, object]>([
    ['no way to the keys', { jwks_url: undefined }],
    ['two ways', { secret_file: '/x' }],
    ['keys over http', { jwks_url: 'http://issuer.example.com/jwks' }],
    ['keys from a name that only looks local', { jwks_url: 'http://127.0.0.1.example.com/jwks' }],
    ['keys from a file URL', { jwks_url: 'file:///etc/keys' }],
    ['no issuer', { issuer: undefined }],
    ['no audience', { audience: undefined }],
    ['an empty list', { audience: '' }],
    ['no algorithm', { algorithms: [] }],
    ['none', { algorithms: 'none' }],
    ['a secret where keys are public', { algorithms: 'RS256,HS256' }],
    ['public keys where there is a secret', { jwks_url: undefined, secret_file: '/x', algorithms: ['HS256', 'ES256'] }],
    ['a skew of an hour', { clock_skew_ms: 3_600_000 }],
    ['what is not known', { jwks: 'https://x' }],
  ])('are refused with %s', (_, more) => {
    expect(jwtSettings.safeParse({ ...base, ...more }).success).toBe(false)
  })

  it.each([
    {},
    { jwks_url: 'http://127.0.0.1:1/x' },
    { jwks_url: 'http://[::1]/x' },
    { jwks_url: 'http://localhost/x' },
  ])('are taken with %j', (more) => {
    expect(jwtSettings.safeParse({ ...base, ...more }).success).toBe(true)
  })
})
