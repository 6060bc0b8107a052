import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { Agent, buildConnector } from 'undici'
import type { AddressCheck } from './addresses.ts'

/** All addresses of a host, as text. */
export type Resolve = (host: string) => Promise<readonly string[]>

export async function systemResolve(host: string): Promise<readonly string[]> {
  return (await systemLookup(host, { all: true })).map(({ address }) => address)
}

/** The host has no address that may be connected to. */
export class RefusedAddress extends Error {
  /** As `AddressCheck` has it. */
  readonly reason: string

  constructor(reason: string) {
    super(`an address that tools must not have: ${reason}`)
    this.name = 'RefusedAddress'
    this.reason = reason
  }
}

/** Where in what was thrown, or its causes, an address was refused. */
export function refusalIn(thrown: unknown): RefusedAddress | undefined {
  for (let each = thrown; each instanceof Error; each = each.cause) if (each instanceof RefusedAddress) return each
  return undefined
}

const connectMs = 5_000

/**
 * A pool that connects to checked addresses only. A name is resolved once for each connection, and the socket gets the
 * very addresses that were checked: no second answer of DNS can change them. It follows no redirects, and takes no proxy
 * from the environment. Deadlines are its users'.
 */
export function guardedAgent(check: AddressCheck, resolve: Resolve): Agent {
  const lookup: LookupFunction = (host, options, callback) => {
    resolve(host).then(
      (answers) => {
        const good = answers.filter((each) => check(each) === undefined)
        const found = good.map((address) => ({ address, family: isIP(address) }))
        const [first] = found
        if (!first) callback(refusalOf(answers), '')
        else if (options.all) callback(null, found)
        else callback(null, first.address, first.family)
      },
      (fault: Error) => callback(fault, ''),
    )
  }
  const refusalOf = ([first]: readonly string[]) => new RefusedAddress(first ? (check(first) ?? '') : 'no_address')
  const connect = buildConnector({ allowH2: false, timeout: connectMs, lookup } as buildConnector.BuildOptions)
  return new Agent({
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: (options, callback) => {
      // Nothing looks an address up that stands in the URL itself.
      const host = options.hostname.replace(/^\[(.*)\]$/, '$1')
      const reason = isIP(host) === 0 ? undefined : check(host)
      if (reason === undefined) connect(options, callback)
      else callback(new RefusedAddress(reason), null)
    },
  })
}
