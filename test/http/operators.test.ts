import type { FastifyRequest } from 'fastify'
import { describe, expect, it } from 'vitest'
import { Guesses } from '../../src/access/guesses.ts'
import type { SluiceError } from '../../src/core/errors.ts'
import { Operators } from '../../src/http/operators.ts'

const token = 'operators-token-0123456789'

/** What comes of a request with these headers from that address. */
function outcome(operators: Operators, headers: Record<string, string>, remoteAddress = '127.0.0.1'): string {
  const raw = {
    url: '/metrics',
    rawHeaders: [],
    headers: { host: 'localhost:8787', ...headers },
    socket: { remoteAddress },
  }
  try {
    operators.admit({ raw, headers: raw.headers, ip: remoteAddress } as unknown as FastifyRequest)
    return 'admitted'
  } catch (refusal) {
    return (refusal as SluiceError).code
  }
}

const operators = (secret?: string) => new Operators(secret, new Guesses(() => {}))

describe('without a token', () => {
  it.each(['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'])('lets in this machine, as %s', (address) => {
    expect(outcome(operators(), {}, address)).toBe('admitted')
  })

  it.each([
    '10.0.0.7',
    '::ffff:10.0.0.7',
    'fe80::1',
    '128.0.0.1',
    '::ffff:7f00:1',
    '1127.0.0.1',
    '',
  ])('lets nobody in from %s', (address) => {
    expect(outcome(operators(), {}, address)).toBe('route_not_found')
    // Whatever it says of itself.
    expect(outcome(operators(), { 'x-forwarded-for': '127.0.0.1' }, address)).toBe('route_not_found')
  })

  it.each([
    ['x-forwarded-for', '127.0.0.1'],
    ['x-forwarded-for', ''],
    ['x-real-ip', '127.0.0.1'],
    ['forwarded', 'for=127.0.0.1'],
    ['via', '1.1 proxy'],
    ['x-forwarded-proto', 'https'],
    ['x-forwarded-host', 'localhost'],
  ])('takes a request with %s: %s for a proxy, which speaks for others', (name, value) => {
    expect(outcome(operators(), { [name]: value })).toBe('route_not_found')
  })

  it.each(['localhost', 'LOCALHOST:1', '127.0.0.1:8787', '[::1]:8787'])('knows this machine as %s', (host) => {
    expect(outcome(operators(), { host })).toBe('admitted')
  })

  it.each(['evil.test', '127.0.0.1.evil.test', 'localhost.evil.test', '10.0.0.7', ''])('and not as %s', (host) => {
    expect(outcome(operators(), { host })).toBe('route_not_found')
  })
})

describe('with a token', () => {
  it('lets in whoever sends it, from anywhere and through any proxy', () => {
    const headers = { authorization: `Bearer ${token}`, 'x-forwarded-for': '10.0.0.7', host: 'sluice.internal' }
    expect(outcome(operators(token), headers, '10.0.0.7')).toBe('admitted')
  })

  it.each([
    ['none', {}],
    ['an empty one', { authorization: 'Bearer ' }],
    ['another one', { authorization: `Bearer ${token}x` }],
    ['its beginning', { authorization: `Bearer ${token.slice(0, -1)}` }],
    ['it as a password', { authorization: `Basic ${token}` }],
    ['it where clients put their keys', { 'x-api-key': token }],
  ])('lets nobody in with %s, from this machine neither', (_, headers) => {
    expect(outcome(operators(token), headers as Record<string, string>)).toBe('operators_only')
  })

  it('lets nobody guess on and on', () => {
    const guarded = operators(token)
    const guesses = Array.from({ length: 30 }, (_, n) => outcome(guarded, { authorization: `Bearer wrong-${n}` }))
    expect(guesses.at(0)).toBe('operators_only')
    expect(guesses.at(-1)).toBe('too_many_wrong_keys')
    expect(outcome(guarded, { authorization: `Bearer ${token}` })).toBe('admitted')
  })
})
