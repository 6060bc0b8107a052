import type { Limits } from '../../src/core/caller.ts'
import type { Accounts, Amount, Verdict, Wish } from '../../src/core/limits.ts'
import { Sweep } from '../../src/core/sweep.ts'
import { Book } from '../../src/limits/book.ts'
import { RedisAccounts, type RedisAccountsOptions } from '../../src/limits/redis/accounts.ts'
import { limitScripts } from '../../src/limits/redis/scripts.ts'
import { RedisLink } from '../../src/redis/link.ts'
import { eventually } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'

/** A clock that stands still until it is told to go on, in milliseconds since the epoch. */
export class Clock {
  at = Date.UTC(2031, 4, 6, 12)
  readonly now = (): number => this.at
}

export const lifeMs = 10_000

let names = 0
/** Of a stream, a principal or a deployment that no other test uses. */
export const newName = (): string => `n${process.pid}-${++names}`

export interface RedisReplica {
  readonly accounts: RedisAccounts
  readonly link: RedisLink<typeof limitScripts>
  readonly warnings: object[]
  close(): Promise<void>
}

/** Accounts of one replica; the caller closes it. */
export async function openReplica(
  url: string,
  clock: Clock,
  options: Partial<RedisAccountsOptions> = {},
): Promise<RedisReplica> {
  const warnings: object[] = []
  const log = { info() {}, warn: (fields: object) => void warnings.push(fields) }
  const link = new RedisLink({ url, timeoutMs: 1_000, scripts: limitScripts, sweep: new Sweep(), log })
  await eventually(() => link.upSince !== undefined, 5_000)
  const accounts = new RedisAccounts({
    link,
    prefix: newName(),
    replicas: 'replicas',
    leastReplicas: 1,
    share: undefined,
    maxLifeMs: lifeMs,
    log,
    now: clock.now,
    ...options,
  })
  const close = async () => {
    await accounts.close()
    link.close()
  }
  return { accounts, link, warnings, close }
}

export interface Place {
  readonly name: string
  readonly trials: number
  /** Where something is taken, and where it is asked for: another replica, where there is one. */
  open(clock: Clock): Promise<{ readonly here: Accounts; readonly there: Accounts; close(): Promise<void> }>
}

/** Wherever accounts are kept. The caller closes it. */
export function accountPlaces(): { readonly places: readonly Place[]; close(): Promise<void> } {
  let redis: Promise<Redis> | undefined
  const places: Place[] = [
    {
      name: 'in memory',
      trials: 300,
      async open(clock) {
        const book = new Book(clock.now)
        return { here: book, there: book, async close() {} }
      },
    },
    {
      name: 'in Redis',
      trials: 25,
      async open(clock) {
        redis ??= startRedis()
        const { url } = await redis
        const prefix = newName()
        const [one, other] = await Promise.all([
          openReplica(url, clock, { prefix }),
          openReplica(url, clock, { prefix }),
        ])
        const close = async () => void (await Promise.all([one.close(), other.close()]))
        return { here: one.accounts, there: other.accounts, close }
      },
    },
  ]
  return { places, close: async () => (await redis)?.close() }
}

export const amount = (tokens: number, microdollars = 0): Amount => ({ tokens, microdollars })

/** A wish of one party for a stream of its own. */
export function wish(account: string, limits: Limits, tokens = 0, microdollars = 0): Wish & { stream: string } {
  return { stream: newName(), parties: [{ account, limits }], amount: amount(tokens, microdollars) }
}

export async function limitOf(verdict: Verdict | Promise<Verdict>): Promise<string | undefined> {
  return (await verdict).refusal?.limit
}
