import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Simulator, type SimulatorOptions } from '../../src/simulator/server.ts'
import { type Child, startChild } from './children.ts'

const cli = join(import.meta.dirname, '../../src/cli.ts')
const startMs = 20_000

type LogLine = Record<string, unknown>

/** Sluice in a process of its own, which can die. */
export interface Replica extends AsyncDisposable {
  readonly url: string
  readonly pid: number
  /** Its log lines so far, parsed. */
  readonly log: LogLine[]
  readonly running: boolean
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
  /** SIGSTOP: like a long pause of the garbage collector, or a machine that is being moved. */
  pause(): void
  resume(): void
  /** SIGTERM; resolves with the exit code, which is `null` if it took a signal to end it. */
  terminate(): Promise<number | null>
  close(): Promise<void>
}

/**
 * Starts a replica; the caller closes it.
 * @param env settings, of which `ANTHROPIC_BASE_URL` must be one; nothing that the caller's own environment says of
 *   Sluice reaches it
 * @param program what it runs, unless it is the command
 */
export async function startReplica(env: Readonly<Record<string, string>>, program = cli): Promise<Replica> {
  if (Number.parseInt(process.versions.node, 10) < 24) {
    throw new Error(`replicas run on Node 24, this is ${process.version}: use node_modules/.bin/node`)
  }
  const log: LogLine[] = []
  const child = await startChild(process.execPath, [program], {
    env: { ...cleanEnvironment(), ...defaults, ...env },
    onLine: (line) => {
      // A dying process may leave half a line.
      if (line.startsWith('{') && line.endsWith('}')) log.push(JSON.parse(line))
    },
  })
  const url = await listening(child, log).catch(async (error) => {
    await child.kill()
    throw error
  })
  const close = () => child.kill()
  return {
    url,
    pid: child.pid,
    log,
    get running() {
      return child.running
    },
    kill: close,
    pause: () => child.signal('SIGSTOP'),
    resume: () => child.signal('SIGCONT'),
    terminate: () => {
      child.signal('SIGTERM')
      return child.exited
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

const defaults = {
  ANTHROPIC_API_KEY: 'test-key',
  PORT: '0',
  SLUICE_SERVER__DRAIN_MS: '0',
  SLUICE_UPSTREAM__DEFAULT_MODEL: 'claude-sim',
  SLUICE_RETRY__MAX_ATTEMPTS: '0',
  SLUICE_RECOVERY__MAX_ATTEMPTS: '0',
  // Tests, simulator and readers share a machine: that a process stands still says nothing about its load.
  SLUICE_STREAMS__MAX_LAG_MS: '60000',
}

function cleanEnvironment(): NodeJS.ProcessEnv {
  const ours = /^(SLUICE_|ANTHROPIC_|REDIS_URL$|PORT$|HOST$|WORKERS$|LOG_LEVEL$|CORS_ORIGINS$|NODE_OPTIONS$)/
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)))
}

async function listening(child: Child, log: readonly LogLine[]): Promise<string> {
  const until = performance.now() + startMs
  for (;;) {
    const line = log.find(({ message }) => message === 'listening')
    if (line) return String(line['url'])
    if (!child.running || performance.now() > until) throw new Error(`the replica did not start:\n${child.said}`)
    await delay(5)
  }
}

/** A simulated Claude in this process, which knows what it was asked. */
export interface Upstream extends AsyncDisposable {
  readonly url: string
  readonly simulator: Simulator
  /** Answers that are being sent. */
  readonly open: number
  /** How often it was asked for an answer, in all or to `prompt`. */
  calls(prompt?: string): number
  /** How often somebody hung up before the answer was at its end. */
  cancelled(prompt?: string): number
  close(): Promise<void>
}

/** Starts a simulated Claude; the caller closes it. */
export async function startUpstream(options?: SimulatorOptions): Promise<Upstream> {
  const simulator = await Simulator.start(options)
  const asked = (prompt: string | undefined) =>
    simulator.requests.filter(
      ({ path, body }) => path === '/v1/messages' && (prompt === undefined || promptOf(body) === prompt),
    )
  const close = () => simulator.close()
  return {
    url: simulator.url,
    simulator,
    get open() {
      return simulator.open
    },
    calls: (prompt) => asked(prompt).length,
    cancelled: (prompt) => asked(prompt).filter(({ abortedAt }) => abortedAt !== undefined).length,
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** The last thing that was said to Claude, if it is plain text. */
function promptOf(body: unknown): unknown {
  return (body as { messages?: { content?: unknown }[] } | undefined)?.messages?.at(-1)?.content
}
