import { BlockList, isIP } from 'node:net'

/** Why an address must not be connected to; `undefined` when it may. */
export type AddressCheck = (address: string) => string | undefined

/**
 * What is no host on the public internet, by the special-purpose registries of IANA. An address that holds an IPv4 one
 * (mapped, compatible, NAT64, 6to4, Teredo) is refused whatever it holds: some gateway would unpack it.
 */
const ranges: Readonly<Record<string, readonly string[]>> = {
  unspecified: ['0.0.0.0/8', '::/128'],
  loopback: ['127.0.0.0/8', '::1/128'],
  private: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7', 'fec0::/10'],
  carrier: ['100.64.0.0/10'],
  link_local: ['169.254.0.0/16', 'fe80::/10'],
  multicast: ['224.0.0.0/4', 'ff00::/8'],
  embedded_ipv4: ['::ffff:0:0/96', '::ffff:0:0:0/96', '64:ff9b::/96', '64:ff9b:1::/48', '2001::/32', '2002::/16'],
  reserved: [
    ...['192.0.0.0/24', '192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24', '192.88.99.0/24', '192.175.48.0/24'],
    ...['198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '240.0.0.0/4'],
    ...['2001::/23', '2001:db8::/32', '2620:4f:8000::/48', '3fff::/20'],
  ],
}

/** Where clouds give credentials to whoever asks. Not all are in one of the ranges above. */
const metadataAddresses = [
  ...['169.254.169.254', '169.254.170.2', '169.254.170.23', '100.100.100.200', '168.63.129.16', '192.0.0.192'],
  ...['fd00:ec2::254', 'fd00:ec2::23', 'fd20:ce::254'],
]

const refusals = Object.entries(ranges).map(([reason, each]) => ({ reason, isIn: within(each) }))
const isMetadata = within(metadataAddresses)
/** All of IPv6 that has been given to anybody. */
const isGlobalIpv6 = within(['2000::/3'])

interface Range {
  readonly address: string
  readonly prefix: number
  readonly family: 'ipv4' | 'ipv6'
}

/** Reads an address, or a range such as `10.1.0.0/16`. */
export function parseRange(text: string): Range | undefined {
  const [, address = '', size] = /^([0-9a-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? []
  const version = isIP(address)
  if (version === 0) return undefined
  const bits = version === 4 ? 32 : 128
  const prefix = size === undefined ? bits : Number(size)
  return prefix > bits ? undefined : { address, prefix, family: version === 4 ? 'ipv4' : 'ipv6' }
}

/**
 * @param allowed addresses and ranges that may be connected to all the same; metadata services only where one is named
 * by its own address, never as part of a range
 */
export function addressCheck(allowed: readonly string[]): AddressCheck {
  const isAllowed = within(allowed)
  const isNamed = within(allowed.filter(isSingle))
  return (address) => {
    const version = isIP(address)
    // Zones are for link-local addresses only, and would hide those from the lists.
    if (version === 0 || address.includes('%')) return 'no_address'
    const family = version === 4 ? 'ipv4' : 'ipv6'
    if (isMetadata(address, family)) return isNamed(address, family) ? undefined : 'metadata'
    if (isAllowed(address, family)) return undefined
    const refusal = refusals.find(({ isIn }) => isIn(address, family))
    if (refusal) return refusal.reason
    return version === 4 || isGlobalIpv6(address, family) ? undefined : 'reserved'
  }
}

function isSingle(text: string): boolean {
  const range = parseRange(text)
  return range !== undefined && range.prefix === (range.family === 'ipv4' ? 32 : 128)
}

/** Whether an address is in one of the ranges. Those that cannot be read have been refused before. */
function within(texts: readonly string[]): (address: string, family: Range['family']) => boolean {
  // A list takes an IPv4 address for its mapped form too, so one of IPv6 ranges must not be asked about it.
  const ofIpv4 = new BlockList()
  const ofBoth = new BlockList()
  for (const { address, prefix, family } of texts.map(parseRange).filter((range) => range !== undefined)) {
    if (family === 'ipv4') ofIpv4.addSubnet(address, prefix, family)
    ofBoth.addSubnet(address, prefix, family)
  }
  return (address, family) => (family === 'ipv4' ? ofIpv4 : ofBoth).check(address, family)
}
