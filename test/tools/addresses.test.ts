import { describe, expect, it } from 'vitest'
import { addressCheck, parseRange } from '../../src/tools/addresses.ts'
import { privateAddresses, privateIpv6, publicAddresses } from '../support/addresses.ts'

const check = addressCheck([])

describe('the addresses that tools may have', () => {
  it.each([...privateAddresses, ...privateIpv6])('do not include %s', (address) => {
    expect(check(address)).toBeTypeOf('string')
  })

  it.each(publicAddresses)('include %s', (address) => {
    expect(check(address)).toBeUndefined()
  })

  it.each([
    ...['', 'localhost', '127.1', '2130706433', '0x7f.0.0.1', '127.0.0.01', ' 127.0.0.1', '127.0.0.1.', '8.8.8.8 '],
    ...['fe80::1%eth0', '::1%1', '2606:4700::1%lo', '[::1]', '::ffff:8.8.8.8%1', '1.1.1.1/32', '\u0000'],
  ])('do not include %j, which is none', (text) => {
    expect(check(text)).toBe('no_address')
  })

  it('do not include a public one inside a form that some gateway unpacks', () => {
    for (const address of ['::ffff:8.8.8.8', '64:ff9b::8.8.8.8', '2002:808:808::', '::8.8.8.8']) {
      expect(check(address), address).toBeTypeOf('string')
    }
  })

  it('include those that the operator names, and no others', () => {
    const allowed = addressCheck(['10.1.0.0/16', '127.0.0.1', 'fd00:1::/32'])
    for (const address of ['10.1.2.3', '127.0.0.1', 'fd00:1::5', '::ffff:10.1.2.3']) {
      expect(allowed(address), address).toBeUndefined()
    }
    for (const address of ['10.2.0.1', '127.0.0.2', 'fd00:2::5', '::1']) {
      expect(allowed(address), address).toBeTypeOf('string')
    }
  })

  it('include metadata services only where one is named itself', () => {
    const metadata = ['169.254.169.254', '100.100.100.200', 'fd00:ec2::254', '168.63.129.16']
    for (const address of metadata) {
      expect(addressCheck(['0.0.0.0/0', '::/0'])(address), address).toBe('metadata')
      expect(addressCheck([address])(address), address).toBeUndefined()
    }
    expect(addressCheck(['169.254.0.0/16'])('169.254.1.1')).toBeUndefined()
    expect(addressCheck(['0.0.0.0/0', '::/0'])('::ffff:169.254.169.254')).toBe('metadata')
  })
})

describe('a range', () => {
  it.each(['10.0.0.0/8', '10.0.0.1', '::1', 'fd00::/8', '0.0.0.0/0', '::ffff:0:0/96'])('may be %s', (text) => {
    expect(parseRange(text)).toBeDefined()
  })

  it.each([
    '10.0.0.0/33',
    '::/129',
    '10.0.0/8',
    'localhost',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    'fe80::1%lo',
    '',
    '10.0.0.0/-1',
  ])('may not be %j', (text) => {
    expect(parseRange(text)).toBeUndefined()
  })
})
