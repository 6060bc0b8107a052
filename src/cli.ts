#!/usr/bin/env node
import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Logger } from 'pino'
import { z } from 'zod'
import { hashOf, newKey, principalName } from './access/keyring.ts'
import type { App } from './app.ts'
import { type Config, ConfigError, loadConfig, loadSingleConfig } from './config.ts'
import { describeFault } from './core/errors.ts'
import { randomText } from './core/random.ts'
import { configurationExit } from './supervisor.ts'
import { createLogger, flushLogs } from './telemetry/logger.ts'
import { Output } from './telemetry/output.ts'
import { joinPrimary, runWorkers } from './workers.ts'

const usageExit = 64

// Loaded where they are needed: a primary needs none of them, and would be half as large again.
const loadApp = () => import('./app.ts')
const loadSimulator = () => import('./simulator/server.ts')

const help = `Usage: sluice [command]

  serve                 the server (default); needs ANTHROPIC_API_KEY
  demo                  the server in front of a simulated Claude; needs nothing
  simulate              the simulated Claude alone: a Messages API for tests and load
      --port N            8788 unless given
      --host H            127.0.0.1 unless given
      --defaults QUERY    what to do with requests that do not say, e.g. 'text=200&delay_ms=20'
  keys new [name]       a new access key for a client, and what to put into the configuration

Settings come from the file that SLUICE_CONFIG names and from the environment; see config/sluice.yaml.
`

const print = (text: string) => void process.stdout.write(text)
const complain = (text: string) => void process.stderr.write(text)

async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'v' },
      port: { type: 'string' },
      host: { type: 'string' },
      defaults: { type: 'string' },
    },
  })
  const [command = 'serve'] = positionals
  if (values.help) return print(help)
  if (values.version) return print(`${readVersion()}\n`)
  if (command === 'keys') return keys(positionals.slice(1))
  if (positionals.length > 1) throw new UsageError(`too many words: ${positionals.join(' ')}`)
  if (command === 'serve') return serve()
  if (command === 'demo') return demo()
  if (command === 'simulate') return simulate(values)
  throw new UsageError(`there is no command '${command}'`)
}

class UsageError extends Error {}

function readVersion(): string {
  const file = new URL('../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

async function serve(): Promise<void> {
  if (cluster.isWorker) return work()
  const config = loadConfig()
  if (config.apiKeys.length === 0) {
    throw new ConfigError([
      'set ANTHROPIC_API_KEY (or ANTHROPIC_API_KEY_FILE); to try Sluice without a key: npm run demo',
    ])
  }
  const logger = createLogger(config.telemetry.log_level, new Output(config.server.workers > 1))
  if (config.server.workers > 1) return primary(config, logger)
  const { startApp } = await loadApp()
  const app = await startApp(config, logger)
  logger.info({ url: app.url }, 'listening')
  onHangUp(config, app.reloadKeys)
  stopOnSignals(app, () => flushLogs(logger))
  stopOnDefects(app, logger)
}

/** Serves no streams itself. */
async function primary(config: Config, logger: Logger): Promise<void> {
  const workers = runWorkers(config, logger)
  onHangUp(config, workers.reloadKeys)
  onStopSignal(workers.stop)
  const code = await workers.ended
  logger.info({ code }, 'closed')
  await flushLogs(logger)
  process.exit(code)
}

async function work(): Promise<void> {
  const { id, config, serve } = await joinPrimary()
  const logger = createLogger(config.telemetry.log_level, new Output(true)).child({ worker: id })
  const { startApp } = await loadApp()
  const app = await startApp(config, logger)
  const stop = stopperOf(app, () => flushLogs(logger))
  onHangUp(config, app.reloadKeys)
  let draining = false
  function drain(): void {
    if (!draining) stop()
    draining = true
  }
  serve(app.url, {
    drain,
    reloadKeys: app.reloadKeys,
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

async function demo(): Promise<void> {
  const config = loadSingleConfig()
  const [{ startApp }, { Simulator }] = await Promise.all([loadApp(), loadSimulator()])
  const simulator = await Simulator.start({ defaults: { delay_ms: 30 } })
  const demoConfig: Config = {
    ...config,
    apiKeys: ['demo'],
    upstream: { ...config.upstream, base_url: simulator.url, default_model: 'claude-sim' },
  }
  const app = await startApp(
    demoConfig,
    createLogger(config.telemetry.log_level === 'info' ? 'warn' : config.telemetry.log_level),
  )
  print(`
Sluice is listening on ${app.url}, with a simulated Claude behind it (${simulator.url}).

Text as it comes:
  curl -N '${app.url}/stream?format=text&prompt=hello'
Typed frames, with ids to resume from:
  curl -N ${app.url}/stream -H 'content-type: application/json' -d '{"prompt":"hello"}'
An overload in the middle of the answer:
  curl -N '${app.url}/stream?prompt=hello&model=claude-sim%3Ftext%3D40%26delay_ms%3D30%26error_at%3D20'

Ctrl-C stops it.
`)
  stopOnSignals(app, () => simulator.close())
}

async function simulate(values: { port?: string; host?: string; defaults?: string }): Promise<void> {
  const [{ Simulator }, { parseScenario, scenarioFields }] = await Promise.all([
    loadSimulator(),
    import('./simulator/scenario.ts'),
  ])
  const simulator = await Simulator.start({
    port: Number(values.port ?? 8788),
    ...(values.host && { host: values.host }),
    defaults: parseScenario(values.defaults ?? ''),
  })
  const width = Math.max(...Object.keys(scenarioFields).map((name) => name.length))
  const fields = Object.entries(scenarioFields).map(([name, field]) => `  ${name.padEnd(width)}  ${field.description}`)
  print(`A simulated Claude is listening on ${simulator.url}; any key will do.

What an answer is like goes into the model name, e.g. "claude-sim?text=500&delay_ms=20&error_at=40":
${fields.join('\n')}
`)
  onStopSignal(() => void simulator.close())
}

/** Without a file to read again, SIGHUP ends the process as ever. */
function onHangUp({ access }: Config, reload: () => void): void {
  if (access.keys_file !== undefined) process.on('SIGHUP', reload)
}

function keys([verb, name = `client-${randomText(6)}`, ...rest]: string[]): void {
  if (verb !== 'new' || rest.length > 0) throw new UsageError('the form is: keys new [name]')
  const checked = principalName.safeParse(name)
  if (!checked.success) throw new UsageError('a name is 1 to 64 visible ASCII characters')
  const key = newKey()
  const sha256 = hashOf(key)
  print(`The key of ${name}. It is shown this once, and stored nowhere:

  ${key}

For access.keys in the configuration:

  - { name: ${JSON.stringify(name)}, sha256: ${sha256} }

or a line for the file that access.keys_file names:

  ${name} ${sha256}
`)
}

function stopOnSignals(app: App, after: () => Promise<void>): void {
  onStopSignal(stopperOf(app, after))
}

/** Drains and ends the process; called again, hurries. */
function stopperOf(app: App, after: () => Promise<void>): () => void {
  return () => {
    app
      .shutDown()
      .then(after)
      .then(() => process.exit(0), fail)
  }
}

function onStopSignal(stop: () => void): void {
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}

function fail(thrown: unknown): never {
  if (thrown instanceof ConfigError) {
    complain(thrown.faults.map((fault) => `sluice: ${fault}\n`).join(''))
    process.exit(configurationExit)
  }
  const { code = '', message }: NodeJS.ErrnoException = thrown instanceof Error ? thrown : new Error(String(thrown))
  if (thrown instanceof UsageError || code.startsWith('ERR_PARSE_ARGS')) {
    complain(`sluice: ${message}\n\n${help}`)
    process.exit(usageExit)
  }
  if (thrown instanceof z.ZodError) complain(`sluice: ${z.prettifyError(thrown)}\n`)
  else if (code === 'EADDRINUSE')
    complain(`sluice: the port is taken; set PORT to another one, or to 0 for any free one (${message})\n`)
  else complain(`sluice: ${message}\n`)
  process.exit(1)
}

main(process.argv.slice(2)).catch(fail)
