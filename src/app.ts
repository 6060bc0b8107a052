import type { Logger } from 'pino'
import { Guesses } from './access/guesses.ts'
import { openAuthentication } from './authentication.ts'
import { type Config, ConfigError } from './config.ts'
import { isLoopback } from './contradictions.ts'
import { describeFault } from './core/errors.ts'
import type { RunReport } from './core/report.ts'
import { Sweep } from './core/sweep.ts'
import type { Toolbox } from './core/tools.ts'
import { servedHosts } from './hosts.ts'
import { identifyCallers } from './http/access.ts'
import { refuseUnderPressure } from './http/admission.ts'
import { agUiRoutes } from './http/ag-ui.ts'
import { anthropicRoutes } from './http/anthropic.ts'
import { Attacher } from './http/attach.ts'
import { chatRoutes } from './http/chat.ts'
import { routeDescriptions } from './http/descriptions.ts'
import { healthRoutes } from './http/health.ts'
import { Intake } from './http/intake.ts'
import { limitsRoute } from './http/limits.ts'
import { metricsRoute } from './http/metrics.ts'
import { openaiRoutes } from './http/openai.ts'
import { openApiRoute } from './http/openapi.ts'
import { Operators } from './http/operators.ts'
import { opsRoutes } from './http/ops.ts'
import { pageRoutes } from './http/pages.ts'
import { selfTestRoutes } from './http/self-test.ts'
import { createServer } from './http/server.ts'
import { streamRoutes } from './http/streams.ts'
import { ticketRoutes } from './http/tickets.ts'
import { Tls, TlsFault } from './http/tls.ts'
import { toolRoutes } from './http/tools.ts'
import { Instruments, type WorkerPlace } from './instruments.ts'
import { operationsOf } from './operations.ts'
import { RetryBudget } from './run/budget.ts'
import { Streams } from './run/streams.ts'
import { policyOf } from './settings.ts'
import { shutdownOf } from './shutdown.ts'
import { openLimiter, openLink, openSpentTickets, openStore } from './storage.ts'
import { allowanceOf, processBounds, shareOf } from './telemetry/bounds.ts'
import { logRun } from './telemetry/logger.ts'
import { watchPressure } from './telemetry/pressure.ts'
import { ToolsFault } from './tools/failures.ts'
import { openToolbox } from './tools/toolbox.ts'
import { anthropicUpstream } from './upstream/anthropic.ts'

/** A Sluice that listens. */
export interface App {
  readonly url: string
  readonly streams: Streams
  readonly instruments: Instruments
  /** Reads the files of access keys and certificates again, where there are any. */
  reloadFiles(): void
  /** Takes no more connections: other processes on this port do. */
  leavePort(): void
  /**
   * Takes no more runs, lets the live ones go on for up to `drain_ms`, then ends them and closes. Called again, it
   * waits no longer.
   */
  shutDown(): Promise<void>
}

/** How often files are looked at, and whoever has lost access is cut off, in milliseconds. */
const guardMs = 1_000

/** Tools in the place of those that the settings declare. */
export interface AppTools {
  readonly toolbox: Toolbox
  /** Offered in every stream. */
  readonly offered: readonly string[]
}

/** What a process has beyond its settings. */
export interface AppOptions {
  readonly tools?: AppTools | undefined
  /** Where this process stands among several. */
  readonly worker?: WorkerPlace
}

/** Puts the parts together: the only place that knows every adapter. */
export async function startApp(config: Config, logger: Logger, { tools, worker }: AppOptions = {}): Promise<App> {
  const { server, upstream } = config
  const authentication = openAuthentication(config, logger)
  const tls = openTls(config, logger)
  const toolbox = tools?.toolbox ?? (await openTools(config, logger))
  const bounds = processBounds(server.workers)
  const { max_connections, ...allowed } = allowanceOf(bounds, shareOf(config.streams, server.workers), (lowered) =>
    logger.warn(lowered, 'limits lowered to what this process can bear'),
  )
  const limits = { ...config.streams, ...allowed }
  const sweep = new Sweep()
  const instruments = await Instruments.open(config, logger, worker)
  const link = openLink(config, sweep, logger)
  const limiter = openLimiter(config, link, logger)
  const store = await openStore({ ...config, streams: limits }, link, logger, {
    mayTakeOver: () => !streams.draining,
    adopt: (log, plan) => void streams.adopt(log, plan),
  })
  const claude = anthropicUpstream({
    apiKeys: config.apiKeys,
    baseUrl: upstream.base_url,
    connectTimeoutMs: upstream.connect_timeout_ms,
    maxEventBytes: upstream.max_event_bytes,
    sendsTraceparent: config.telemetry.send_traceparent,
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
  function onEnd(report: RunReport): void {
    limiter?.settle(report)
    logRun(logger, report)
    instruments.ended(report)
  }
  const budget = new RetryBudget(config.retry)
  const streams = new Streams({
    upstream: claude,
    store,
    sweep,
    timeouts: config.timeouts,
    policy: {
      retry: config.retry,
      fallbackModels: upstream.fallback_models,
      recovery: config.recovery,
      tools: config.tool_limits,
    },
    toolbox,
    budget,
    limiter,
    graceMs: limits.grace_ms,
    maxBytes: limits.max_bytes,
    maxStreams: limits.max_streams,
    pressure,
    prices: new Map(Object.entries(upstream.prices)),
    onEnd,
    onFault(fault, stream) {
      if (stream !== undefined) limiter?.settleUnknown(stream)
      logger.error({ fault: describeFault(fault) }, 'run failed')
    },
  })

  const app = await createServer({ ...server, allowed_hosts: servedHosts(server) }, logger, tls, instruments.watch)
  const guesses = new Guesses((address) => logger.warn({ address }, 'too many wrong keys from one address'))
  const streamMs = config.timeouts.total_ms + limits.retention_ms
  identifyCallers(
    app,
    authentication && { ...authentication, guesses, spent: openSpentTickets(config, link), streamMs },
  )
  refuseUnderPressure(app, pressure)
  // Without `dropMaxConnection` Node passes what one worker cannot take to the next, round and round when all are full.
  Object.assign(app.server, { maxConnections: max_connections, dropMaxConnection: true })
  // Connections that wait for their next request make room for those that have one.
  app.server.on('drop', () => app.server.closeIdleConnections())
  const attacher = new Attacher(limits, sweep, logger)
  const policy = policyOf(config)
  const { beginTrace } = instruments
  const intake = new Intake(streams, policy, { limiter, tools: tools?.offered ?? [], toolbox, beginTrace })
  const observed = {
    streams,
    readers: attacher,
    pressure,
    keys: config.apiKeys.length,
    restingKeys: claude.restingKeys,
    extraCallsLeft: () => budget.left(performance.now()),
    storeHealth: () => store.health?.(),
  }
  instruments.observe(observed)
  healthRoutes(app, streams)
  selfTestRoutes(app, limits.heartbeat_ms)
  const operators = new Operators(config.access.ops_token, guesses)
  const { exposition } = instruments
  if (exposition) metricsRoute(app, operators, exposition)
  openApiRoute(app, routeDescriptions, authentication !== undefined)
  streamRoutes(app, streams, intake, attacher, limits)
  toolRoutes(app, streams, config.tool_limits)
  chatRoutes(app, streams, intake, attacher, limits)
  await anthropicRoutes(app, intake, attacher, claude, policy, logger)
  await openaiRoutes(app, intake, attacher, logger)
  ticketRoutes(app, streams, { tickets: authentication?.tickets, ttl_ms: config.access.tickets.ttl_ms })
  limitsRoute(app, limiter)
  agUiRoutes(app, intake, attacher, limits)
  opsRoutes(app, operators, operationsOf(observed, instruments.history, worker?.colleagues))
  if (server.playground ?? isLoopback(server.host)) pageRoutes(app)
  const url = await app.listen({ host: server.host, port: server.port, backlog: 4096 })

  function cutOff(): void {
    if (!authentication) return
    const { authenticator } = authentication
    streams.revoke((principal) => !authenticator.knows(principal))
    attacher.revoke((caller) => !authenticator.accepts(caller))
  }
  const guard = setInterval(() => {
    authentication?.file?.look()
    tls?.look()
    // Not only when a key goes: a request may have been let in just before, and be a stream only now.
    cutOff()
  }, guardMs)

  async function close(): Promise<void> {
    await Promise.all([app.close(), toolbox.close()])
    clearInterval(guard)
    await limiter?.close()
    await Promise.all([store.close(), instruments.close()])
    await claude.close()
    pressure.close()
  }

  return {
    url,
    streams,
    instruments,
    reloadFiles() {
      authentication?.file?.reload()
      tls?.reload()
      cutOff()
    },
    leavePort: () => void app.server.close(),
    shutDown: shutdownOf({ streams, attacher, tls, drainMs: server.drain_ms, logger, close }),
  }
}

/** @throws ConfigError when there is a certificate that cannot be used */
function openTls({ server }: Config, log: Logger): Tls | undefined {
  try {
    return server.tls && new Tls(server.tls, server, log)
  } catch (fault) {
    throw fault instanceof TlsFault ? new ConfigError([`server.tls: ${fault.message}`]) : fault
  }
}

/** @throws ConfigError when there are tools that cannot work as they are declared */
async function openTools({ tools }: Config, log: Logger): Promise<Toolbox> {
  try {
    return await openToolbox(tools, log)
  } catch (fault) {
    throw fault instanceof ToolsFault ? new ConfigError([fault.message]) : fault
  }
}
