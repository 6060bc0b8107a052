import type { Logger } from 'pino'
import { type Config, isLoopback } from './config.ts'
import { Sweep } from './core/sweep.ts'
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
import { Streams } from './run/streams.ts'
import { logRun } from './telemetry/logger.ts'
import { anthropicUpstream } from './upstream/anthropic.ts'

/** A Sluice that listens. */
export interface App {
  readonly url: string
  readonly streams: Streams
  /**
   * Takes no more runs, lets the live ones go on for up to `drain_ms`, then ends them and closes. Called again, it
   * waits no longer.
   */
  shutDown(): Promise<void>
}

/** How long clients get to take the last frames before their connections are cut, in milliseconds. */
const flushMs = 1_000

/** Always served when `Host` is checked at all: health checks come from inside. */
const loopbackHosts = ['localhost', '127.0.0.1', '[::1]']

/** Puts the parts together: the only place that knows every adapter. */
export async function startApp(config: Config & { apiKey: string }, logger: Logger): Promise<App> {
  const { server, upstream, streams: limits } = config
  const sweep = new Sweep()
  const store = memoryStore({ retentionMs: limits.retention_ms, maxBytes: limits.max_total_bytes })
  const claude = anthropicUpstream({
    apiKey: config.apiKey,
    baseUrl: upstream.base_url,
    connectTimeoutMs: upstream.connect_timeout_ms,
    maxEventBytes: upstream.max_event_bytes,
    forwardTimeoutMs: config.timeouts.headers_ms,
    log: { warn: (message) => logger.warn({ sdk: message }, 'anthropic sdk') },
  })
  const streams = new Streams({
    upstream: claude,
    store,
    sweep,
    timeouts: config.timeouts,
    retry: config.retry,
    graceMs: limits.grace_ms,
    maxBytes: limits.max_bytes,
    maxStreams: limits.max_streams,
    prices: new Map(Object.entries(upstream.prices)),
    onEnd: (report) => logRun(logger, report),
  })

  const checksHost = isLoopback(server.host) || server.allowed_hosts.length > 0
  const allowed_hosts = checksHost ? [...loopbackHosts, ...server.allowed_hosts] : []
  const app = await createServer({ ...server, allowed_hosts }, logger)
  const attacher = new Attacher(limits, sweep, logger)
  healthRoutes(app, streams)
  openApiRoute(app, routeDescriptions)
  streamRoutes(app, streams, attacher, { ...upstream, on_disconnect: limits.on_disconnect })
  chatRoutes(app, streams, attacher, { ...upstream, on_disconnect: limits.on_disconnect })
  await anthropicRoutes(app, streams, attacher, claude, logger)
  await openaiRoutes(app, streams, attacher, upstream, logger)
  agUiRoutes(app, streams, attacher, { ...upstream, on_disconnect: limits.on_disconnect })
  const url = await app.listen({ host: server.host, port: server.port, backlog: 4096 })
  logger.info({ url }, 'listening')

  const hurry = new AbortController()
  let closing: Promise<void> | undefined

  async function close(): Promise<void> {
    logger.info({ live: streams.live, drain_ms: server.drain_ms }, 'draining')
    await streams.drain(server.drain_ms, hurry.signal)
    await flushed()
    await app.close()
    store.close()
    await claude.close()
    logger.info('closed')
  }

  /** Resolves when all responses have been sent, or after `flushMs`. */
  async function flushed(): Promise<void> {
    const until = performance.now() + flushMs
    while (sweep.size > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 10))
  }

  return {
    url,
    streams,
    shutDown() {
      if (closing) hurry.abort()
      closing ??= close()
      return closing
    },
  }
}
