import { decodeEvent } from '../../core/codec.ts'
import type { LogEvent } from '../../core/events.ts'
import type { Claim } from '../../core/ports.ts'
import { type RedisKeys, redisKeys } from './keys.ts'
import type { LogLink } from './scripts.ts'

/** What does not change about a stream. */
export interface StreamFacts {
  readonly id: string
  readonly principal: string
  readonly createdAt: Date
  /** Redis' names of its idempotency key and its alias; empty for none. */
  readonly key: string
  readonly alias: string
}

export interface Batch {
  readonly epoch: number
  /** Numbers of its first and its last event. */
  readonly first: number
  readonly last: number
  /** The events as `encodeEvent` writes them, with line breaks between them. */
  readonly lines: string
  /** `live`, or the type of the terminal event that it ends with. */
  readonly state: string
  /** From now until the stream is forgotten, in milliseconds: heeded of the first batch of an epoch, and of the last. */
  readonly ttlMs: number
  /** What the run is to do, with the first batch; empty for nothing. */
  readonly plan: string
  /** The idempotency key may be used again. */
  readonly freesKey: boolean
  /** Replicas to tell. */
  readonly followers: Iterable<string>
}

/** Where the log in Redis is, as opposed to where its writer thought. */
export interface Standing {
  readonly epoch: number
  readonly n: number
  readonly state: string
}

/** A stream as Redis has it, and what follows after the event it was read from. */
export interface Reading extends Standing {
  /** The last event before this epoch. */
  readonly began: number
  readonly owner: string
  readonly principal: string
  readonly createdAt: Date
  readonly batches: readonly { readonly last: number; readonly events: readonly LogEvent[] }[]
}

export interface Takeover {
  readonly epoch: number
  readonly n: number
  readonly facts: StreamFacts
}

/** A replica is alive as long as it renews this, in milliseconds. */
export const leaseMs = 5_000

/** A batch holds at most 64 KiB beside its last event: so much is decoded at a time. */
const batchesPerRead = 32

/** What can be done to streams in Redis, as one replica. Everything throws `StoreAway` when Redis does not do it. */
export class RedisCommands {
  readonly replica: string
  readonly keys: RedisKeys
  readonly #link: LogLink
  /** When the renewal that Redis last took was sent. */
  #renewedAt = performance.now()

  constructor(replica: string, prefix: string, link: LogLink) {
    this.replica = replica
    this.keys = redisKeys(prefix)
    this.#link = link
  }

  get up(): boolean {
    return this.#link.upSince !== undefined
  }

  /** Redis is within reach, or has been so lately; `ms` in milliseconds. */
  upWithin(ms: number): boolean {
    return performance.now() - this.#link.lastUpAt < ms
  }

  /** Redis has been away from here at some time after `time`, as far as this process has lived to see it. */
  wasAwaySince(time: Date): boolean {
    return this.#link.backAt > time.getTime()
  }

  /** How long Redis has been within reach, in milliseconds. */
  upFor(now: number): number {
    return this.#link.upSince === undefined ? 0 : now - this.#link.upSince
  }

  /** @returns where the log is when the batch does not follow on it; `undefined` when there is no log */
  async append(facts: StreamFacts, batch: Batch): Promise<'ok' | Standing | undefined> {
    const { id, key, alias, principal } = facts
    const { keys, replica } = this
    const meta = keys.meta(id)
    const inboxes = Array.from(batch.followers, keys.inbox).join(' ')
    const names = [meta, keys.log(id), keys.owned(replica), alias || meta, key || meta, keys.plan(id)]
    const { epoch, first, last, lines, state, ttlMs, freesKey, plan } = batch
    const created = facts.createdAt.getTime()
    const place = [epoch, first, last].map(String)
    const rest = [state, freesKey ? 'free' : '', key, alias, inboxes, plan, principal]
    const args = [id, replica, String(created), String(ttlMs), ...place, lines, ...rest]
    const reply = await this.#link.send((client) => client.appendBatch(names, args))
    if (reply === 'ok') return 'ok'
    if (reply === 'gone') return undefined
    const [epochNow, n, stateNow = ''] = reply.split(' ')
    return { epoch: Number(epochNow), n: Number(n), state: stateNow }
  }

  /** @returns what the key stood for before, if it did */
  async claim(facts: StreamFacts, fingerprint: string, ttlMs: number, keyTtlMs: number): Promise<Claim | undefined> {
    const { id, key, alias, principal } = facts
    const names = [key, this.keys.meta(id), this.keys.owned(this.replica), alias || key]
    const created = String(facts.createdAt.getTime())
    const args = [id, this.replica, created, String(ttlMs), fingerprint, String(keyTtlMs), key, alias, principal]
    const earlier = await this.#link.send((client) => client.claimKey(names, args))
    return claimOf(earlier)
  }

  /** @returns what the key stands for, if it does */
  async claimed(key: string): Promise<Claim | undefined> {
    return claimOf(await this.#link.send((client) => client.get(key)))
  }

  /** Becomes the owner of a stream if its owner is dead, or this very replica. */
  async takeOver(id: string, owner: string): Promise<Takeover | undefined> {
    const { keys, replica } = this
    const names = [keys.meta(id), keys.lease(owner), keys.owned(owner), keys.owned(replica)]
    const reply = await this.#link.send((client) => client.takeOver(names, [id, owner, replica]))
    if (!reply) return undefined
    const [epoch, n, key, alias, created, principal] = reply
    const texts = { key: key ?? '', alias: alias ?? '', principal: principal ?? '' }
    return { epoch: Number(epoch), n: Number(n), facts: { id, ...texts, createdAt: new Date(Number(created)) } }
  }

  /** What the run of a live stream is to do, if that is known. */
  async planOf(id: string): Promise<string | undefined> {
    return (await this.#link.send((client) => client.get(this.keys.plan(id)))) ?? undefined
  }

  /** Tells readers of the stream that the rest of it will never be here. */
  async cut(id: string, epoch: number, ttlMs: number): Promise<void> {
    const names = [this.keys.meta(id), this.keys.log(id), this.keys.owned(this.replica), this.keys.plan(id)]
    await this.#link.send((client) => client.cut(names, [id, String(epoch), String(ttlMs)]))
  }

  /**
   * @param after the last event that is known already
   * @param holder whose it has to be; `undefined` for anybody
   */
  async read(id: string, after: number, holder?: string): Promise<Reading | undefined> {
    const names = [this.keys.meta(id), this.keys.log(id)]
    const args = [String(after), String(batchesPerRead), ...(holder === undefined ? [] : [holder])]
    const reply = await this.#link.send((client) => client.readBatches(names, args))
    if (!reply) return undefined
    const [epoch, began, n, state, owner, created, principal, ...entries] = reply
    const batches = []
    for (let at = 0; at < entries.length; at += 2) {
      const events = (entries[at + 1] as string).split('\n').map(decodeEvent)
      batches.push({ last: Number.parseInt(entries[at] as string, 10), events })
    }
    const numbers = { epoch: Number(epoch), began: Number(began), n: Number(n) }
    const texts = { state: state ?? '', owner: owner ?? '', principal: principal ?? '' }
    return { ...numbers, ...texts, createdAt: new Date(Number(created)), batches }
  }

  async idOfAlias(alias: string): Promise<string | undefined> {
    return (await this.#link.send((client) => client.get(this.keys.alias(alias)))) ?? undefined
  }

  /** @returns how many heard it */
  tell(replica: string, message: string): Promise<number> {
    return this.#link.send((client) => client.publish(this.keys.inbox(replica), message))
  }

  /** Says that this replica lives. A Redis out of memory still lets the life of a key be prolonged. */
  async renewLease(): Promise<void> {
    const sentAt = performance.now()
    await this.#renew()
    this.#renewedAt = sentAt
  }

  /** Nobody can have taken this replica for dead. */
  get leased(): boolean {
    return performance.now() - this.#renewedAt < leaseMs
  }

  async #renew(): Promise<void> {
    const { keys, replica } = this
    if ((await this.#link.send((client) => client.pExpire(keys.lease(replica), leaseMs))) === 1) return
    await this.#link.send((client) =>
      client.set(keys.lease(replica), '1', { expiration: { type: 'PX', value: leaseMs } }),
    )
    await this.#link.send((client) => client.sAdd(keys.replicas, replica))
  }

  /** Says that this replica is gone, so that nobody has to wait for its lease to end. */
  async giveUpLease(): Promise<void> {
    await this.#link.send((client) => client.del(this.keys.lease(this.replica)))
  }

  /** How much longer a replica's lease lasts, in milliseconds; negative when it has none. */
  leaseOf(replica: string): Promise<number> {
    return this.#link.send((client) => client.pTTL(this.keys.lease(replica)))
  }

  otherReplicas(): Promise<string[]> {
    return this.#link
      .send((client) => client.sMembers(this.keys.replicas))
      .then((all) => all.filter((each) => each !== this.replica))
  }

  streamsOf(replica: string): Promise<string[]> {
    return this.#link.send((client) => client.sMembers(this.keys.owned(replica)))
  }

  /** Forgets a dead replica that owns nothing any more. */
  async forgetReplica(replica: string): Promise<void> {
    const names = [this.keys.replicas, this.keys.lease(replica), this.keys.owned(replica)]
    await this.#link.send((client) => client.forgetReplica(names, [replica]))
  }
}

function claimOf(text: string | null): Claim | undefined {
  const [id, fingerprint = ''] = text?.split(' ') ?? []
  return id === undefined ? undefined : { id, fingerprint }
}
