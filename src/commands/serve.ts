import cluster from 'node:cluster'
import type { Logger } from 'pino'
import type { App } from '../app.ts'
import { type Config, ConfigError, loadConfig } from '../config.ts'
import { describeFault } from '../core/errors.ts'
import { createLogger, flushLogs } from '../telemetry/logger.ts'
import { Output } from '../telemetry/output.ts'
import { joinPrimary, runWorkers } from '../workers.ts'
import { type Command, noWords } from './command.ts'
import { fail } from './failure.ts'
import { onHangUp, onStopSignal, stopOnSignals, stopperOf } from './signals.ts'

export const serve: Command = {
  name: 'serve',
  summary: 'the server (default); needs ANTHROPIC_API_KEY',
  examples: [
    ['ANTHROPIC_API_KEY=… sluice', 'on 127.0.0.1:8787'],
    ['SLUICE_CONFIG=/etc/sluice.yaml sluice serve', 'with settings from a file'],
  ],
  run(args) {
    noWords(args)
    return cluster.isWorker ? work() : main()
  },
}

// Loaded where it is needed: a primary needs none of it, and would be half as large again.
const loadApp = () => import('../app.ts')

/** @throws ConfigError */
export function servedConfig(): Config {
  const config = loadConfig()
  if (config.apiKeys.length > 0) return config
  throw new ConfigError([
    'set ANTHROPIC_API_KEY (or ANTHROPIC_API_KEY_FILE); to try Sluice without a key: sluice demo (npm run demo in a checkout)',
  ])
}

async function main(): Promise<void> {
  const config = servedConfig()
  const logger = createLogger(config.telemetry.log_level, new Output(config.server.workers > 1))
  if (config.server.workers > 1) return primary(config, logger)
  const { startApp } = await loadApp()
  const app = await startApp(config, logger)
  onHangUp(config, app.reloadFiles)
  stopOnSignals(app, () => flushLogs(logger))
  stopOnDefects(app, logger)
  logger.info({ url: app.url }, 'listening')
}

/** Serves no streams itself. */
async function primary(config: Config, logger: Logger): Promise<void> {
  const workers = runWorkers(config, logger)
  onHangUp(config, workers.reloadFiles)
  onStopSignal(workers.stop)
  const code = await workers.ended
  logger.info({ code }, 'closed')
  await flushLogs(logger)
  process.exit(code)
}

async function work(): Promise<void> {
  const { id, config, colleagues, serve: serving } = await joinPrimary()
  const logger = createLogger(config.telemetry.log_level, new Output(true)).child({ worker: id })
  const { startApp } = await loadApp()
  const app = await startApp(config, logger, { worker: { id, colleagues } })
  const stop = stopperOf(app, () => flushLogs(logger))
  onHangUp(config, app.reloadFiles)
  let draining = false
  function drain(): void {
    if (!draining) stop()
    draining = true
  }
  serving(app.url, {
    drain,
    reloadFiles: app.reloadFiles,
    hurry() {
      drain()
      stop()
    },
  })
  stopOnDefects(app, logger)
}

/** A defect outside every stream: the state of the process is unknown, but its streams can still end properly. */
function stopOnDefects(app: App, logger: Logger): void {
  process.on('uncaughtException', (error) => {
    logger.fatal({ fault: describeFault(error) }, 'uncaught exception')
    if (cluster.isWorker) app.leavePort()
    const ended = app.shutDown().then(() => flushLogs(logger))
    ended.then(() => process.exit(1), fail)
  })
}
