/** IPv4 addresses that no tool may reach, of every kind there is. */
export const privateAddresses = [
  '127.0.0.1',
  '127.255.255.254',
  '0.0.0.0',
  '0.0.0.1',
  '10.0.0.1',
  '172.16.5.4',
  '172.31.255.255',
  '192.168.1.1',
  '169.254.169.254',
  '169.254.170.2',
  '100.64.0.1',
  '100.100.100.200',
  '192.0.0.192',
  '198.18.0.1',
  '203.0.113.9',
  '224.0.0.1',
  '240.0.0.1',
  '255.255.255.255',
]

export const privateIpv6 = [
  ...['::', '::1', '0:0:0:0:0:0:0:1', '::2', 'fe80::1', 'febf::1', 'fec0::1', 'fc00::1', 'fd00:ec2::254', 'fd12::34'],
  ...['ff02::1', 'ff0e::1', '100::1', '2001::1', '2001:10::1', '2001:20::1', '2001:db8::1', '2002:7f00:1::', '3fff::1'],
  ...['5f00::1', '64:ff9b::7f00:1', '64:ff9b:1::7f00:1', '::ffff:7f00:1', '::ffff:0:127.0.0.1', '::7f00:1', '4000::1'],
  ...['::FFFF:127.0.0.1', '0:0:0:0:0:ffff:7f00:0001', '64:ff9b::169.254.169.254', '2620:4f:8000::1', 'fd20:ce::254'],
]

/** Inside no range that is refused, and some right beside one. */
export const publicAddresses = [
  ...['1.1.1.1', '8.8.8.8', '11.0.0.1', '172.15.255.255', '172.32.0.1', '100.63.255.255', '100.128.0.1', '169.253.1.1'],
  ...['192.167.255.255', '198.17.255.255', '198.20.0.1', '223.255.255.255', '128.0.0.1', '9.255.255.255'],
  ...['2606:4700:4700::1111', '2a00:1450:4001:81c::200e', '2003::1', '2001:4860:4860::8888', '2620:fe::fe', '3ffe::1'],
]

const fullWidth = (text: string) => text.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)))
const circled = (text: string) =>
  text.replace(/\d/g, (digit) => (digit === '0' ? '\u24ea' : String.fromCodePoint(0x2460 + Number(digit) - 1)))
const percent = (text: string) => text.replace(/./g, (each) => `%${each.charCodeAt(0).toString(16)}`)

/** The ways to write an IPv4 address that parsers of URLs, resolvers and libraries have been seen to take. */
export function writingsOf(address: string): string[] {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
  const whole = ((a * 256 + b) * 256 + c) * 256 + d
  const hex = (part: number, width = 0) => part.toString(16).padStart(width, '0')
  const octal = (part: number) => `0${part.toString(8)}`
  const high = hex(a * 256 + b)
  const low = hex(c * 256 + d)
  const inverted = `${hex(65_535 - a * 256 - b)}:${hex(65_535 - c * 256 - d)}`
  return [
    address,
    `${address}.`,
    String(whole),
    `0x${hex(whole)}`,
    `0X${hex(whole, 8).toUpperCase()}`,
    octal(whole),
    [a, b, c, d].map(octal).join('.'),
    [a, b, c, d].map((part) => `0x${hex(part)}`).join('.'),
    `${a}.0x${hex(b)}.${octal(c)}.${d}`,
    `${a}.${b}.${c * 256 + d}`,
    `${a}.${(b * 256 + c) * 256 + d}`,
    [a, b, c, d].map((part) => `000${part.toString(8)}`).join('.'),
    fullWidth(address),
    circled(address),
    percent(address),
    address.replaceAll('.', '\u3002'),
    `user:password@${address}`,
    `example.com@${address}`,
    `[::ffff:${address}]`,
    `[::ffff:${high}:${low}]`,
    `[0:0:0:0:0:ffff:${address}]`,
    `[::${high}:${low}]`,
    `[::ffff:0:${high}:${low}]`,
    `[64:ff9b::${address}]`,
    `[64:ff9b:1::${high}:${low}]`,
    `[2002:${high}:${low}::]`,
    `[2001:0:4136:e378:8000:63bf:${inverted}]`,
  ]
}
