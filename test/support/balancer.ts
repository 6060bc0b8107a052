import type { Socket } from 'node:net'
import type { Random } from './random.ts'
import { listenOn, portOf, relay, tryConnect } from './relay.ts'

/** Connections are cut after so many bytes of answers. */
export interface Cutting {
  readonly random: Random
  readonly leastBytes: number
  readonly mostBytes: number
  /** Of the connections, this share is cut: all unless given. */
  readonly share?: number
}

export interface Balancer extends AsyncDisposable {
  readonly url: string
  /** Connections that are open now. */
  readonly connections: number
  /** Connections that were taken so far. */
  readonly accepted: number
  /** For connections that come from now on. */
  setTargets(targets: readonly string[]): void
  setCutting(cutting: Cutting | undefined): void
  cutAll(): void
  close(): Promise<void>
}

/**
 * Spreads TCP connections over `targets`, the URLs of servers on this machine, in turn; one that refuses is passed over.
 * It knows nothing of HTTP, so a client that keeps its connection stays where it is. The caller closes it.
 */
export async function startBalancer(targets: readonly string[], cutting?: Cutting): Promise<Balancer> {
  const open = new Set<Socket>()
  let current = targets
  let rules = cutting
  let turn = 0
  let accepted = 0

  function accept(client: Socket): void {
    accepted++
    open.add(client)
    client.on('error', () => client.destroy())
    client.on('close', () => open.delete(client))
    client.pause()
    void nextTarget().then((target) => {
      if (!target || client.destroyed) {
        target?.destroy()
        client.destroy()
        return
      }
      join(client, target)
    })
  }

  async function nextTarget(): Promise<Socket | undefined> {
    // Those that were there when the connection came: they may change while one is being tried.
    const tried = current
    const first = turn++
    for (let n = 0; n < tried.length; n++) {
      const { hostname, port } = new URL(tried[(first + n) % tried.length] as string)
      const target = await tryConnect(hostname, Number(port))
      if (target) return target
    }
    return undefined
  }

  function join(client: Socket, target: Socket): void {
    let left = bytesToLive(rules)
    relay(client, target)
    relay(target, client, (answer) => {
      left -= answer.length
      if (left > 0) return answer
      // Half an answer is what a lost network leaves of it.
      client.end(answer.subarray(0, answer.length + left), () => client.destroy())
      target.destroy()
      return undefined
    })
    client.on('close', () => target.destroy())
    target.on('close', () => client.destroySoon())
    client.resume()
  }

  const server = await listenOn(0, accept)
  const cutAll = () => {
    for (const client of open) client.destroy()
  }
  const close = async () => {
    server.close()
    cutAll()
  }
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    get connections() {
      return open.size
    },
    get accepted() {
      return accepted
    },
    setTargets: (next) => {
      current = next
    },
    setCutting: (next) => {
      rules = next
    },
    cutAll,
    close,
    [Symbol.asyncDispose]: close,
  }
}

function bytesToLive(cutting: Cutting | undefined): number {
  if (!cutting?.random.chance(cutting.share ?? 1)) return Number.POSITIVE_INFINITY
  return cutting.random.between(cutting.leastBytes, cutting.mostBytes)
}
