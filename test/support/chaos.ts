import type { Socket } from 'node:net'
import { listenOn, portOf, relay, tryConnect } from './relay.ts'

/** Which replies get lost. */
export interface LostReplies {
  /** How many; 1 unless given. */
  readonly count?: number
  /** Of replies that could be lost, this share is: 1 unless given. */
  readonly probability?: number
  /** Only replies to requests whose bytes, as they came in one read, satisfy this. */
  readonly when?: (request: Buffer) => boolean
  /** For `probability`; a seeded one makes a run repeatable. */
  readonly random?: () => number
}

/** A TCP proxy that does to connections what networks do. */
export interface Chaos extends AsyncDisposable {
  readonly port: number
  /** For clients of Redis. */
  readonly url: string
  /** Connections that are open now. */
  readonly connections: number
  /** Replies lost so far. */
  readonly lost: number
  cutAll(): void
  /**
   * From now on the next reply on a connection that has sent a request since then is thrown away and the connection cut:
   * what was asked for has been done, and who asked never hears of it. A new call replaces the last one; `count: 0` ends it.
   */
  cutAfterReply(which?: LostReplies): void
  /** While on, bytes of either side vanish and nobody is told. Connections that lost some are cut when it ends. */
  blackhole(on: boolean): void
  /** While on, bytes of either side wait; they arrive, late, when it ends. */
  hold(on: boolean): void
  /** While on, nobody listens. Connections that are open stay so. */
  refuse(on: boolean): Promise<void>
  close(): Promise<void>
}

interface Pair {
  readonly client: Socket
  readonly target: Socket
  /** Its next reply gets lost. */
  doomed: boolean
  /** Bytes of it have vanished. */
  tainted: boolean
}

/** Listens on a free port for connections to `targetPort` of this machine; the caller closes it. */
export async function startChaos(targetPort: number): Promise<Chaos> {
  const pairs = new Set<Pair>()
  let holed = false
  let held = false
  let left = 0
  let lost = 0
  let which: LostReplies = {}

  function accept(client: Socket): void {
    client.on('error', () => client.destroy())
    client.pause()
    void tryConnect('127.0.0.1', targetPort).then((target) => {
      if (!target || client.destroyed) {
        target?.destroy()
        client.destroy()
        return
      }
      join({ client, target, doomed: false, tainted: false })
    })
  }

  function join(pair: Pair): void {
    const { client, target } = pair
    pairs.add(pair)
    relay(client, target, (request) => passRequest(pair, request), mayEnd)
    relay(target, client, (reply) => passReply(pair, reply), mayEnd)
    // Who vanishes behind a black hole is not seen to.
    client.on('close', () => (holed ? taint(pair) : drop(pair)))
    target.on('close', () => (holed ? taint(pair) : forget(pair)))
    setFlow(pair)
  }

  const mayEnd = () => !holed
  const setFlow = ({ client, target }: Pair) => {
    for (const socket of [client, target]) held ? socket.pause() : socket.resume()
  }

  function passRequest(pair: Pair, request: Buffer): Buffer | undefined {
    if (holed) return taint(pair)
    const { when = () => true, probability = 1, random = Math.random } = which
    if (left > 0 && !pair.doomed && when(request) && random() < probability) {
      left--
      pair.doomed = true
    }
    return request
  }

  function passReply(pair: Pair, reply: Buffer): Buffer | undefined {
    if (holed) return taint(pair)
    if (!pair.doomed) return reply
    if (pair.client.destroyed) return undefined
    lost++
    pair.client.destroy()
    // Ended, not destroyed: a reset could take away a request that the target has not read yet.
    pair.target.end()
    return undefined
  }

  function taint(pair: Pair): undefined {
    pair.tainted = true
  }

  function drop(pair: Pair): void {
    pair.client.destroy()
    if (!pair.doomed) pair.target.destroy()
  }

  function forget(pair: Pair): void {
    pairs.delete(pair)
    pair.client.destroy()
    pair.target.destroy()
  }

  let server = await listenOn(0, accept)
  const port = portOf(server)
  const cutAll = () => {
    for (const pair of pairs) forget(pair)
  }
  const close = async () => {
    server.close()
    cutAll()
  }
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get connections() {
      return pairs.size
    },
    get lost() {
      return lost
    },
    cutAll,
    cutAfterReply(replies = {}) {
      which = replies
      left = replies.count ?? 1
    },
    blackhole(on) {
      holed = on
      if (!on) for (const pair of pairs) if (pair.tainted) forget(pair)
    },
    hold(on) {
      held = on
      for (const pair of pairs) setFlow(pair)
    },
    async refuse(on) {
      if (on) server.close()
      else if (!server.listening) server = await listenOn(port, accept)
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}
