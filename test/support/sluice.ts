import { onTestFinished } from 'vitest'
import { type App, type AppTools, startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { Simulator, type SimulatorOptions } from '../../src/simulator/server.ts'
import { createLogger, type LogLevel } from '../../src/telemetry/logger.ts'

export interface Rig {
  readonly app: App
  readonly url: string
  readonly simulator: Simulator
  /** Log lines so far, parsed. */
  readonly log: Record<string, unknown>[]
  close(): Promise<void>
}

export interface RigOptions {
  /** Settings as the environment gives them, e.g. `SLUICE_TIMEOUTS__SILENCE_MS`. */
  readonly env?: Record<string, string>
  readonly simulator?: SimulatorOptions
  readonly logLevel?: LogLevel
  /** The server's own tools. */
  readonly tools?: AppTools
}

/** A whole Sluice in front of a simulated Claude, both on real sockets; closed when the test ends. */
export async function startRig(options: RigOptions = {}): Promise<Rig> {
  const rig = await openRig(options)
  onTestFinished(() => rig.close())
  return rig
}

/** The same, for several tests to share: the caller closes it. */
export async function openRig(options: RigOptions = {}): Promise<Rig> {
  const simulator = await Simulator.start(options.simulator)
  const log: Record<string, unknown>[] = []
  const logger = createLogger(options.logLevel ?? 'debug', { write: (line) => void log.push(JSON.parse(line)) })
  const config = loadConfig({
    ANTHROPIC_API_KEY: 'test-key',
    ANTHROPIC_BASE_URL: simulator.url,
    PORT: '0',
    SLUICE_SERVER__DRAIN_MS: '0',
    SLUICE_UPSTREAM__DEFAULT_MODEL: 'claude-sim',
    SLUICE_RETRY__MAX_ATTEMPTS: '0',
    SLUICE_RECOVERY__MAX_ATTEMPTS: '0',
    // Simulator, clients and checks stand in the same process, and often enough in the way.
    SLUICE_STREAMS__MAX_LAG_MS: '60000',
    ...options.env,
  })
  const app = await startApp(config, logger, { tools: options.tools })
  const close = async () => {
    await app.shutDown()
    await simulator.close()
  }
  return { app, url: app.url, simulator, log, close }
}

/** A model name that makes the simulated Claude follow `scenario`. */
export function sim(scenario: Record<string, string | number>): string {
  const query = new URLSearchParams(
    Object.entries(scenario).map(([name, value]): [string, string] => [name, String(value)]),
  )
  return `claude-sim?${query}`
}
