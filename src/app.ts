import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { Guesses } from './access/guesses.ts'
import { Keyring } from './access/keyring.ts'
import { KeysFault, KeysFile } from './access/keys-file.ts'
import { type Config, ConfigError } from './config.ts'
import { describeFault, SluiceError } from './core/errors.ts'
import type { LogStore } from './core/ports.ts'
import { Sweep } from './core/sweep.ts'
import { identifyCallers } from './http/access.ts'
import { refuseUnderPressure } from './http/admission.ts'
import { agUiRoutes } from './http/ag-ui.ts'
import { anthropicRoutes } from './http/anthropic.ts'
import { Attacher } from './http/attach.ts'
import { chatRoutes } from './http/chat.ts'
import { routeDescriptions } from './http/descriptions.ts'
import { healthRoutes } from './http/health.ts'
import { openaiRoutes } from './http/openai.ts'
import { openApiRoute } from './http/openapi.ts'
import { createServer } from './http/server.ts'
import { streamRoutes } from './http/streams.ts'
import { memoryStore } from './log/memory.ts'
import type { RedisStoreOptions } from './log/redis/options.ts'
import { redisStore } from './log/redis/store.ts'
import { RetryBudget } from './run/budget.ts'
import { Streams } from './run/streams.ts'
import { isLoopback } from './settings.ts'
import { allowanceOf, processBounds, shareOf } from './telemetry/bounds.ts'
import { logRun } from './telemetry/logger.ts'
import { watchPressure } from './telemetry/pressure.ts'
import { anthropicUpstream } from './upstream/anthropic.ts'

/** A Sluice that listens. */
export interface App {
  readonly url: string
  readonly streams: Streams
  /** Reads the file of access keys again, where there is one. */
  reloadKeys(): void
  /** Takes no more connections: other processes on this port do. */
  leavePort(): void
  /**
   * Takes no more runs, lets the live ones go on for up to `drain_ms`, then ends them and closes. Called again, it
   * waits no longer.
   */
  shutDown(): Promise<void>
}

/** How long clients get to take the last frames before their connections are cut, in milliseconds. */
const flushMs = 1_000
const pollMs = 10
/** How often the file of access keys is looked at, and whoever has lost access is cut off, in milliseconds. */
const accessMs = 1_000

/** Always served when `Host` is checked at all: health checks come from inside. */
const loopbackHosts = ['localhost', '127.0.0.1', '[::1]']

/** Puts the parts together: the only place that knows every adapter. */
export async function startApp(config: Config, logger: Logger): Promise<App> {
  const { server, upstream } = config
  const { keyring, file } = openAccess(config, logger)
  const bounds = processBounds(server.workers)
  const { max_connections, ...allowed } = allowanceOf(bounds, shareOf(config.streams, server.workers), (lowered) =>
    logger.warn(lowered, 'limits lowered to what this process can bear'),
  )
  const limits = { ...config.streams, ...allowed }
  const sweep = new Sweep()
  const store = await openStore({ ...config, streams: limits }, sweep, logger, {
    mayTakeOver: () => !streams.draining,
    adopt: (log, plan) => void streams.adopt(log, plan),
  })
  const claude = anthropicUpstream({
    apiKeys: config.apiKeys,
    baseUrl: upstream.base_url,
    connectTimeoutMs: upstream.connect_timeout_ms,
    maxEventBytes: upstream.max_event_bytes,
    forwardTimeoutMs: config.timeouts.headers_ms,
    log: { warn: (message) => logger.warn({ sdk: message }, 'anthropic sdk') },
    onKeyRefused: (key, reason) =>
      logger.warn(
        { key: key + 1, keys: config.apiKeys.length, reason },
        'Claude refuses this API key, others are used',
      ),
  })
  const pressure = watchPressure(
    bounds,
    limits.max_lag_ms,
    () => streams.live,
    (reason) => {
      if (reason) logger.warn({ reason }, 'under pressure, new streams are refused')
      else logger.info('no longer under pressure')
    },
  )
  const streams = new Streams({
    upstream: claude,
    store,
    sweep,
    timeouts: config.timeouts,
    policy: { retry: config.retry, fallbackModels: upstream.fallback_models, recovery: config.recovery },
    budget: new RetryBudget(config.retry),
    graceMs: limits.grace_ms,
    maxBytes: limits.max_bytes,
    maxStreams: limits.max_streams,
    pressure,
    prices: new Map(Object.entries(upstream.prices)),
    onEnd: (report) => logRun(logger, report),
    onFault: (fault) => logger.error({ fault: describeFault(fault) }, 'run failed'),
  })

  const checksHost = isLoopback(server.host) || server.allowed_hosts.length > 0
  const allowed_hosts = checksHost ? [...loopbackHosts, ...server.allowed_hosts] : []
  const app = await createServer({ ...server, allowed_hosts }, logger)
  const guesses = new Guesses((address) => logger.warn({ address }, 'too many wrong keys from one address'))
  identifyCallers(app, keyring && { keyring, guesses })
  refuseUnderPressure(app, pressure)
  // Without `dropMaxConnection` Node passes what one worker cannot take to the next, round and round when all are full.
  Object.assign(app.server, { maxConnections: max_connections, dropMaxConnection: true })
  // Connections that wait for their next request make room for those that have one.
  app.server.on('drop', () => app.server.closeIdleConnections())
  const attacher = new Attacher(limits, sweep, logger)
  healthRoutes(app, streams)
  openApiRoute(app, routeDescriptions, keyring !== undefined)
  streamRoutes(app, streams, attacher, { ...upstream, on_disconnect: limits.on_disconnect })
  chatRoutes(app, streams, attacher, { ...upstream, on_disconnect: limits.on_disconnect })
  await anthropicRoutes(app, streams, attacher, claude, logger)
  await openaiRoutes(app, streams, attacher, upstream, logger)
  agUiRoutes(app, streams, attacher, { ...upstream, on_disconnect: limits.on_disconnect })
  const url = await app.listen({ host: server.host, port: server.port, backlog: 4096 })

  function cutOff(ring: Keyring): void {
    streams.revoke((principal) => !ring.knows(principal))
    attacher.revoke((caller) => !ring.accepts(caller))
  }
  // Not only when a key goes: a request may have been let in just before, and be a stream only now.
  const guard =
    keyring &&
    setInterval(() => {
      file?.look()
      cutOff(keyring)
    }, accessMs)

  const hurry = new AbortController()
  let closing: Promise<void> | undefined

  async function close(): Promise<void> {
    logger.info({ live: streams.live, drain_ms: server.drain_ms }, 'draining')
    const until = performance.now() + server.drain_ms
    streams.refuse()
    attacher.handOver()
    await streams.drain(server.drain_ms, hurry.signal)
    await letGo(until)
    await flushed()
    await app.close()
    clearInterval(guard)
    await store.close()
    await claude.close()
    pressure.close()
    logger.info('closed')
  }

  /** What other processes write goes on without this one. Its readers here may wait for its end, but not for ever. */
  async function letGo(until: number): Promise<void> {
    let waiting = await attacher.waiting()
    while (waiting.length + attacher.collecting > 0 && performance.now() < until && !hurry.signal.aborted) {
      await delay(pollMs)
      waiting = await attacher.waiting()
    }
    attacher.handOver()
    attacher.failCollecting(new SluiceError('shutting_down'))
    for (const connection of waiting) connection.fail(new SluiceError('shutting_down'))
  }

  /** Resolves when all responses have been sent, or after `flushMs`. */
  async function flushed(): Promise<void> {
    const until = performance.now() + flushMs
    while (attacher.connections > 0 && performance.now() < until) await delay(pollMs)
  }

  return {
    url,
    streams,
    reloadKeys() {
      file?.reload()
      if (keyring) cutOff(keyring)
    },
    leavePort: () => void app.server.close(),
    shutDown() {
      if (closing) hurry.abort()
      closing ??= close()
      return closing
    },
  }
}

/** @throws ConfigError when there is a file of keys that cannot be used */
function openAccess({ access }: Config, log: Logger): { keyring?: Keyring; file?: KeysFile } {
  if (access.mode !== 'keys') return {}
  const keyring = new Keyring(access.keys)
  if (access.keys_file === undefined) return { keyring }
  try {
    return { keyring, file: new KeysFile(keyring, access.keys, access.keys_file, log) }
  } catch (fault) {
    throw fault instanceof KeysFault ? new ConfigError([`access.keys_file: ${fault.message}`]) : fault
  }
}

function openStore(
  { store, streams, timeouts }: Config,
  sweep: Sweep,
  log: Logger,
  orphans: Pick<RedisStoreOptions, 'mayTakeOver' | 'adopt'>,
): LogStore | Promise<LogStore> {
  const { retention_ms, key_ttl_ms, max_total_bytes } = streams
  const memory = { retentionMs: retention_ms, keyTtlMs: key_ttl_ms, maxBytes: max_total_bytes }
  const { url, prefix, durability } = store
  if (url === undefined) return memoryStore(memory)
  return redisStore({ ...memory, url, prefix, durability, maxLifeMs: timeouts.total_ms, sweep, log, ...orphans })
}
