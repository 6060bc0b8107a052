/** How long the primary waits for its workers, and a worker for its primary, in milliseconds. */
const answerMs = 1_000
const heardMs = 2_000

/**
 * What goes between a primary and its workers when one of them wants to know something of all: it asks, the primary puts
 * the question to each, each tells, and the one that asked hears what all have told.
 */
export type GatherMessage =
  | { readonly gather: 'ask' | 'question'; readonly id: number; readonly topic: string }
  | { readonly gather: 'told'; readonly id: number; readonly value: unknown }
  | { readonly gather: 'heard'; readonly id: number; readonly values: readonly unknown[] }

export interface Peer {
  send(message: GatherMessage): void
}

interface Round {
  readonly asker: Peer
  /** As the asker counts. */
  readonly id: number
  readonly waiting: Set<Peer>
  readonly values: unknown[]
  readonly timer: NodeJS.Timeout
}

/** The primary's part. */
export class GatheringPoint {
  /** Workers that serve. */
  readonly peers = new Set<Peer>()
  readonly #rounds = new Map<number, Round>()
  #next = 0

  hear(from: Peer, message: GatherMessage): void {
    if (message.gather === 'ask') this.#ask(from, message.id, message.topic)
    if (message.gather !== 'told') return
    const round = this.#rounds.get(message.id)
    // Who has nothing to tell says so.
    if (round?.waiting.delete(from) && message.value !== null) round.values.push(message.value)
    if (round?.waiting.size === 0) this.#finish(message.id, round)
  }

  /** Nobody waits for a worker that is gone. */
  leave(peer: Peer): void {
    this.peers.delete(peer)
    for (const [id, round] of this.#rounds) {
      if (round.waiting.delete(peer) && round.waiting.size === 0) this.#finish(id, round)
    }
  }

  #ask(asker: Peer, id: number, topic: string): void {
    const number = this.#next++
    const timer = setTimeout(() => this.#finish(number, round), answerMs)
    const round: Round = { asker, id, waiting: new Set(this.peers), values: [], timer }
    this.#rounds.set(number, round)
    for (const peer of this.peers) peer.send({ gather: 'question', id: number, topic })
  }

  #finish(number: number, { asker, id, values, timer }: Round): void {
    clearTimeout(timer)
    this.#rounds.delete(number)
    if (this.peers.has(asker)) asker.send({ gather: 'heard', id, values })
  }
}

/** A worker's part. */
export class Colleagues {
  readonly #primary: Peer
  readonly #answers = new Map<string, () => Promise<unknown>>()
  readonly #waiting = new Map<number, (values: readonly unknown[]) => void>()
  #next = 0

  constructor(primary: Peer) {
    this.#primary = primary
  }

  /** What this worker tells when somebody asks for `topic`: something that JSON can hold. */
  answer(topic: string, tell: () => Promise<unknown>): void {
    this.#answers.set(topic, tell)
  }

  /** What all workers tell, this one included; those that do not answer in time are left out. */
  async ask(topic: string): Promise<readonly unknown[]> {
    const id = this.#next++
    const { promise, resolve } = Promise.withResolvers<readonly unknown[] | undefined>()
    const timer = setTimeout(() => resolve(undefined), heardMs)
    this.#waiting.set(id, resolve)
    this.#primary.send({ gather: 'ask', id, topic })
    const values = await promise
    clearTimeout(timer)
    this.#waiting.delete(id)
    // Without a primary, and when all were too slow for it, there is still this one.
    return values && values.length > 0 ? values : [await this.#answers.get(topic)?.()]
  }

  hear(message: GatherMessage): void {
    if (message.gather === 'heard') this.#waiting.get(message.id)?.(message.values)
    if (message.gather === 'question') void this.#tell(message.id, message.topic)
  }

  async #tell(id: number, topic: string): Promise<void> {
    const tell = this.#answers.get(topic)
    const value = (await tell?.().catch(() => null)) ?? null
    this.#primary.send({ gather: 'told', id, value })
  }
}

export function isGatherMessage(message: unknown): message is GatherMessage {
  return typeof message === 'object' && message !== null && 'gather' in message
}
