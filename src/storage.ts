import type { Logger } from 'pino'
import { RedisSpentTickets, ticketScripts } from './access/redis-tickets.ts'
import { LocalSpentTickets } from './access/spent-tickets.ts'
import type { Config } from './config.ts'
import type { LogStore, SpentTickets } from './core/ports.ts'
import type { Sweep } from './core/sweep.ts'
import { Book } from './limits/book.ts'
import { isLimited, Limiter } from './limits/limiter.ts'
import { RedisAccounts } from './limits/redis/accounts.ts'
import { limitScripts } from './limits/redis/scripts.ts'
import { memoryStore } from './log/memory.ts'
import { redisKeys } from './log/redis/keys.ts'
import type { RedisStoreOptions } from './log/redis/options.ts'
import { logScripts } from './log/redis/scripts.ts'
import { redisStore } from './log/redis/store.ts'
import { commandMs, RedisLink } from './redis/link.ts'

const scripts = { ...logScripts, ...limitScripts, ...ticketScripts }

/** The one link to Redis, for all who use it. */
export function openLink({ store: { url } }: Config, sweep: Sweep, log: Logger) {
  if (url === undefined) return undefined
  return new RedisLink({ url, timeoutMs: commandMs, scripts, sweep, log })
}

type AppLink = NonNullable<ReturnType<typeof openLink>>

/** @returns `undefined` where nothing can be limited */
export function openLimiter(config: Config, link: AppLink | undefined, log: Logger): Limiter | undefined {
  const { access, upstream, timeouts, store, server } = config
  const { limits: each, total_limits: total } = access
  const prices = new Map(Object.entries(upstream.prices))
  const callersHaveOwn = access.mode !== undefined && access.mode !== 'none'
  if (!callersHaveOwn && !isLimited(each) && !isLimited(total)) return undefined
  const accounts = link
    ? new RedisAccounts({
        link,
        prefix: store.prefix,
        replicas: redisKeys(store.prefix).replicas,
        leastReplicas: server.workers,
        share: access.fallback_share,
        maxLifeMs: timeouts.total_ms,
        log,
      })
    : new Book()
  return new Limiter({ accounts, each, total, prices })
}

export function openStore(
  { store, streams, timeouts }: Config,
  link: AppLink | undefined,
  log: Logger,
  orphans: Pick<RedisStoreOptions, 'mayTakeOver' | 'adopt'>,
): LogStore | Promise<LogStore> {
  const { retention_ms, key_ttl_ms, max_total_bytes } = streams
  const memory = { retentionMs: retention_ms, keyTtlMs: key_ttl_ms, maxBytes: max_total_bytes }
  const { prefix, durability } = store
  if (!link) return memoryStore(memory)
  return redisStore({ ...memory, link, prefix, durability, maxLifeMs: timeouts.total_ms, log, ...orphans })
}

export function openSpentTickets({ store }: Config, link: AppLink | undefined): SpentTickets {
  return link ? new RedisSpentTickets(link, store.prefix) : new LocalSpentTickets()
}
