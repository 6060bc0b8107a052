import { createServer, type Server } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { fetch, request } from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { addressCheck } from '../../src/tools/addresses.ts'
import { guardedAgent, type Resolve, refusalIn, systemResolve } from '../../src/tools/guard.ts'
import { privateAddresses, privateIpv6, writingsOf } from '../support/addresses.ts'
import { eventually } from '../support/client.ts'
import { portOf } from '../support/relay.ts'

/** Listens on every address of this machine, and must never hear anything. */
let canary: Server
let heard = 0
let port: number

beforeAll(async () => {
  canary = createServer((_, response) => void response.end('reached'))
  canary.on('connection', () => heard++)
  canary.listen(0, '::')
  await eventually(() => canary.listening)
  port = portOf(canary)
})
beforeEach(() => {
  heard = 0
})
afterAll(() => {
  canary.closeAllConnections()
  canary.close()
})

function agentWith(resolve: Resolve, allowed: readonly string[] = []) {
  const agent = guardedAgent(addressCheck(allowed), resolve)
  onTestFinished(() => agent.destroy())
  return agent
}

const writings = privateAddresses.flatMap(writingsOf)
const urls = [
  ...writings,
  ...privateIpv6.map((address) => `[${address}]`),
  'localhost',
  'localhost.',
  'LOCALHOST',
  'a.localhost',
]

/** What a URL with that host leads to: nothing, or an error. */
async function visit(host: string, resolve: Resolve): Promise<unknown> {
  const url = `http://${host}:${port}/`
  if (!URL.canParse(url)) return new Error('no URL')
  const { username, password, origin } = new URL(url)
  // As the configuration does.
  if (username !== '' || password !== '') return visit(new URL(url).hostname, resolve)
  return request(origin, { dispatcher: agentWith(resolve) }).then(
    ({ statusCode }) => statusCode,
    (thrown: unknown) => thrown,
  )
}

describe('the guard', () => {
  it(`lets no way to write a private address pass, of ${urls.length}`, async () => {
    expect(urls.length).toBeGreaterThan(450)
    const hostile: Resolve = async () => ['127.0.0.1']
    const results = await Promise.all(urls.map((host) => visit(host, hostile)))
    expect(urls.filter((_, n) => !(results[n] instanceof Error))).toEqual([])
    // A name or an address that was read, looked at and refused; the rest are no URLs.
    expect(results.filter((each) => refusalIn(each)).length).toBeGreaterThan(300)
    expect(heard).toBe(0)
  })

  it('lets none pass as an answer of DNS either', async () => {
    const answers = [...writings, ...privateIpv6, ...privateAddresses.map((each) => `::ffff:${each}`), 'fe80::1%lo', '']
    const results = await Promise.all(answers.map((answer) => visit('tool.example', async () => [answer])))
    expect(answers.filter((_, n) => !refusalIn(results[n]))).toEqual([])
    expect(heard).toBe(0)
  })

  it("lets none pass through the system's resolver", async () => {
    const hosts = ['localhost', 'localhost.', 'LocalHost', 'ip6-localhost']
    for (const host of hosts) expect(await visit(host, systemResolve), host).toBeInstanceOf(Error)
    expect(heard).toBe(0)
  })

  it('refuses a name without any address', async () => {
    expect(refusalIn(await visit('tool.example', async () => []))?.reason).toBe('no_address')
  })

  it('tells a resolver that fails from an address that is refused', async () => {
    const fault = Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })
    const result = await visit('tool.example', () => Promise.reject(fault))
    expect(refusalIn(result)).toBeUndefined()
    expect(result).toMatchObject({ code: 'ENOTFOUND' })
  })

  it('connects only to the good ones of several addresses', async () => {
    const agent = agentWith(async () => ['127.0.0.2', '169.254.169.254', '127.0.0.1', '::1'], ['127.0.0.1'])
    const { statusCode } = await request(`http://tool.example:${port}/`, { dispatcher: agent })
    expect(statusCode).toBe(200)
    expect(heard).toBe(1)
  })

  it('resolves once for each connection, so that a second answer changes nothing', async () => {
    const asked: string[] = []
    // The first answer is harmless, all later ones are not.
    const rebinding: Resolve = async (host) => {
      asked.push(host)
      return asked.length === 1 ? ['127.0.0.9'] : ['127.0.0.1']
    }
    const agent = agentWith(rebinding, ['127.0.0.9'])
    const visitAgain = () => request(`http://tool.example:${port}/`, { dispatcher: agent })
    const reached: (string | undefined)[] = []
    const onConnection = (socket: { localAddress?: string | undefined }) => void reached.push(socket.localAddress)
    canary.on('connection', onConnection)
    onTestFinished(() => void canary.off('connection', onConnection))
    await (await visitAgain()).body.text()
    await setImmediate()
    await (await visitAgain()).body.text()
    expect(asked).toHaveLength(1)
    // The pooled connection keeps the address that was checked; a new one is checked again, and refused.
    canary.closeAllConnections()
    const thrown = await eventually(() => visitAgain().catch((each: Error) => refusalIn(each)))
    expect(thrown).toMatchObject({ reason: 'loopback' })
    expect(asked).toHaveLength(2)
    expect(reached).toEqual(['::ffff:127.0.0.9'])
  })

  it('holds for fetch as well, whose redirects are another connection', async () => {
    const agent = agentWith(async (host) => [host === 'tool.example' ? '127.0.0.9' : '127.0.0.1'], ['127.0.0.9'])
    const server = createServer((_, response) => {
      response.writeHead(302, { location: `http://other.example:${port}/` }).end()
    }).listen(0, '127.0.0.9')
    onTestFinished(() => void server.close())
    await eventually(() => server.listening)
    const thrown = await fetch(`http://tool.example:${portOf(server)}/`, { dispatcher: agent }).catch(
      (each: unknown) => each,
    )
    expect(refusalIn(thrown)?.reason).toBe('loopback')
    expect(heard).toBe(0)
  })
})
