import { BlockList, isIP } from 'node:net'

/** Names that stand for ranges. */
const named: Readonly<Record<string, readonly string[]>> = {
  loopback: ['127.0.0.0/8', '::1'],
  linklocal: ['169.254.0.0/16', 'fe80::/10'],
  uniquelocal: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
}

const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4')

/** Whether a text names addresses, and not all there are: then anybody could say who he is. */
export function isAddressRange(text: string): boolean {
  if (Object.hasOwn(named, text)) return true
  const [, address = '', prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const most = { 0: 0, 4: 32, 6: 128 }[isIP(address)] ?? 0
  if (most === 0 || address.includes('%')) return false
  return prefix === undefined || (Number(prefix) > 0 && Number(prefix) <= most)
}

/** @param ranges addresses, CIDR ranges and names, as `isAddressRange` takes them */
export function addressMatcher(ranges: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList()
  for (const range of ranges.flatMap((each) => named[each] ?? [each])) {
    const [address = '', prefix] = range.split('/')
    if (prefix === undefined) list.addAddress(address, familyOf(address))
    else list.addSubnet(address, Number(prefix), familyOf(address))
  }
  // An IPv4 address may come in IPv6's dress (::ffff:…), which the list knows.
  return (address) => address !== undefined && isIP(address) !== 0 && list.check(address, familyOf(address))
}
