import { createClient, type RedisScripts } from '@redis/client'
import { SluiceError } from '../core/errors.ts'
import type { Alarm, Sweep, Swept } from '../core/sweep.ts'

/** Redis did not do what it was asked, or nobody knows whether it did: away, frozen, out of memory, not allowed. */
export class StoreAway extends Error {
  override readonly name = 'StoreAway'
}

/** For what is done again before long: that Redis is away, of which the link has told already, does not matter. */
export async function ifThere(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof StoreAway)) throw error
  }
}

/**
 * For what a client waits for.
 * @throws SluiceError `store_unavailable`
 */
export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (error instanceof StoreAway) throw new SluiceError('store_unavailable', { retryAfterMs: 1_000, cause: error })
    throw error
  }
}

export interface LinkLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface LinkOptions<Scripts extends RedisScripts> {
  /** `redis://` or `rediss://`. */
  readonly url: string
  /** A command without a reply for so long has failed, and the connection with it, in milliseconds. */
  readonly timeoutMs: number
  /** Of all who use the link. */
  readonly scripts: Scripts
  readonly sweep: Sweep
  readonly log: LinkLog
}

/** A command without a reply for so long has failed, and the connection with it, in milliseconds. */
export const commandMs = 1_000
/** Commands without a reply at one time: what is sent to a Redis that does not answer must not pile up. */
const maxPending = 20_000
/** A new connection that has not come up after so long is given up for another, in milliseconds. */
const connectMs = 3_000
/** How late a missing reply, or a missing connection, may be noticed, in milliseconds. */
const lookMs = 25
/** Whoever listens hears something every now and then; when it has heard nothing for so long, it is deaf, in milliseconds. */
const deafMs = 5_000

type Client<Scripts extends RedisScripts> = ReturnType<typeof newClient<Scripts>>

/** What its users know of the link: each the commands, and scripts of its own. */
export interface Link<Scripts extends RedisScripts> {
  readonly upSince: number | undefined
  readonly lastUpAt: number
  readonly backAt: number
  send<Reply>(command: (client: Client<Scripts>) => Promise<Reply>): Promise<Reply>
  onUp(heard: () => void): void
  listen(channel: string, onMessage: (message: string) => void): void
}

/**
 * The connections to Redis: one for commands, one that listens. Every command either gets its reply within a bound or
 * fails, and none is ever sent twice by itself: whoever sent it knows whether it can be repeated.
 */
export class RedisLink<Scripts extends RedisScripts> implements Link<Scripts>, Swept {
  alarm: Alarm | undefined
  readonly #options: LinkOptions<Scripts>
  #client: Client<Scripts>
  #openedAt = performance.now()
  #listener: Client<Scripts> | undefined
  readonly #onUp: (() => void)[] = []
  /** The commands under way: replies come in order, so the first of them is the oldest. */
  readonly #pending = new Set<{ readonly sentAt: number }>()
  #upSince: number | undefined
  /** When Redis was last back after it had been away, in milliseconds since the epoch. */
  backAt = Number.NEGATIVE_INFINITY
  #lastUpAt = Number.NEGATIVE_INFINITY
  #lastComplaint = ''
  #closed = false

  constructor(options: LinkOptions<Scripts>) {
    this.#options = options
    this.#client = this.#open()
    options.sweep.due(this, 0)
  }

  /** Calls `heard` whenever commands can be sent again, and at the first time. */
  onUp(heard: () => void): void {
    this.#onUp.push(heard)
  }

  /** Listens to a channel from now on, the only one of this process. */
  listen(channel: string, onMessage: (message: string) => void): void {
    const listener = newClient(this.#options, deafMs)
    this.#listener = listener
    listener.on('error', (error: Error) => this.#complain(error))
    listener.on('ready', () => void this.#subscribe(listener, channel, onMessage))
    void this.#connect(listener)
  }

  /** Since when commands can be sent, in milliseconds of the monotonic clock; `undefined` when they cannot. */
  get upSince(): number | undefined {
    return this.#client.isReady ? this.#upSince : undefined
  }

  /**
   * Sends a command.
   * @throws StoreAway
   */
  async send<Reply>(command: (client: Client<Scripts>) => Promise<Reply>): Promise<Reply> {
    if (!this.#client.isReady) throw new StoreAway('not connected')
    if (this.#pending.size >= maxPending) throw new StoreAway('too many commands under way')
    const pending = { sentAt: performance.now() }
    this.#pending.add(pending)
    try {
      return await command(this.#client)
    } catch (error) {
      this.#complain(error as Error)
      throw new StoreAway('failed', { cause: error })
    } finally {
      this.#pending.delete(pending)
    }
  }

  /** When commands could last be sent, in milliseconds of the monotonic clock. */
  get lastUpAt(): number {
    return this.#client.isReady ? performance.now() : this.#lastUpAt
  }

  tick(now: number): number {
    this.#look(now)
    return now + lookMs
  }

  #look(now: number): void {
    if (this.#client.isReady) this.#lastUpAt = now
    const [oldest] = this.#pending
    const unanswered = oldest !== undefined && now - oldest.sentAt >= this.#options.timeoutMs
    const stuck = !this.#client.isReady && now - this.#openedAt >= connectMs
    if (!unanswered && !stuck) return
    if (unanswered) this.#complain(new Error(`no reply for ${this.#options.timeoutMs} ms`))
    // All that waits for a reply fails here; what Redis made of it shows when it answers again.
    this.#client.destroy()
    this.#client = this.#open()
  }

  close(): void {
    this.#closed = true
    this.#options.sweep.delete(this)
    for (const client of [this.#client, this.#listener]) client?.destroy()
  }

  #open(): Client<Scripts> {
    const client = newClient(this.#options)
    client.on('error', (error: Error) => this.#complain(error))
    client.on('ready', () => {
      if (this.#upSince !== undefined) this.backAt = Date.now()
      this.#upSince = performance.now()
      this.#lastComplaint = ''
      this.#options.log.info({}, 'redis is there')
      for (const heard of this.#onUp) heard()
    })
    this.#openedAt = performance.now()
    void this.#connect(client)
    return client
  }

  /** Again at each connection, which costs nothing where the client has done so by itself. */
  async #subscribe(listener: Client<Scripts>, channel: string, onMessage: (message: string) => void): Promise<void> {
    try {
      await listener.subscribe(channel, onMessage)
    } catch (error) {
      this.#complain(error as Error)
    }
  }

  /** Lasts until it is connected, or given up: the client tries again by itself and tells each failure as an event. */
  async #connect(client: Client<Scripts>): Promise<void> {
    try {
      await client.connect()
    } catch (error) {
      this.#complain(error as Error)
    }
  }

  /** Says each trouble once, not for each of a thousand streams. */
  #complain(error: Error): void {
    const { code, message } = error as NodeJS.ErrnoException
    // Redis quotes nothing of ours but keys' names; a refused connection quotes the address.
    const reason = code ?? message.split('\n', 1)[0]?.slice(0, 120) ?? error.name
    if (this.#closed || reason === this.#lastComplaint) return
    this.#lastComplaint = reason
    this.#options.log.warn({ reason }, 'redis failed')
  }
}

/** @param idleMs cut the connection when nothing has come or gone for so long */
function newClient<Scripts extends RedisScripts>({ url, scripts }: LinkOptions<Scripts>, idleMs?: number) {
  return createClient({
    url,
    scripts,
    // Nothing waits for a connection, and nothing is sent again after one was lost.
    disableOfflineQueue: true,
    socket: {
      connectTimeout: 1_000,
      ...(idleMs !== undefined && { socketTimeout: idleMs }),
      // A lost connection is replaced at once. Jitter keeps many replicas from coming back in the same moment.
      reconnectStrategy: (retries) => (retries === 0 ? 10 : 100) + Math.random() * 200 * Math.min(1, retries),
    },
  })
}
