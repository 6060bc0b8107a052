import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/** A process that a test started, and that is gone, with all that it has started, when the test's own process is. */
export interface Child {
  readonly pid: number
  /** The end of what it has said, on stdout and stderr. */
  readonly said: string
  readonly running: boolean
  /** Resolves with the exit code, or `null` after a signal. */
  readonly exited: Promise<number | null>
  signal(name: NodeJS.Signals): void
  /** SIGKILL, which also ends a process that is stopped; resolves when it is gone. */
  kill(): Promise<void>
}

export interface ChildOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Gets every line of stdout. */
  readonly onLine?: (line: string) => void
}

const keptOutput = 4_000

const running = new Set<ChildProcess>()
process.on('exit', killAll)
// So Vitest ends its processes, also those in which a test that timed out has closed nothing. While a test runs it does not
// let it exit, but ends it a moment later.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    killAll()
    process.exit(130)
  })
}

/** Also what they have started, such as workers, which may be stopped and would outlive them. */
function killAll(): void {
  for (const { pid } of running) {
    try {
      process.kill(-(pid as number), 'SIGKILL')
    } catch {
      // All are gone already.
    }
  }
}

/** @throws Error of code ENOENT when there is no such program */
export async function startChild(program: string, args: readonly string[], options: ChildOptions = {}): Promise<Child> {
  const { onLine, ...rest } = options
  // Detached it leads a process group of its own.
  const child = spawn(program, args, { ...rest, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let line = ''
  const keep = (text: string) => {
    said = (said + text).slice(-keptOutput)
  }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    keep(text)
    if (!onLine) return
    const lines = (line + text).split('\n')
    line = lines.pop() ?? ''
    for (const each of lines) onLine(each)
  })
  child.stderr.setEncoding('utf8').on('data', keep)
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  await once(child, 'spawn')
  running.add(child)
  child.once('exit', () => running.delete(child))
  const isRunning = () => child.exitCode === null && child.signalCode === null
  return {
    pid: child.pid as number,
    get said() {
      return said
    },
    get running() {
      return isRunning()
    },
    exited,
    signal: (name) => void child.kill(name),
    async kill() {
      if (isRunning()) child.kill('SIGKILL')
      await exited
    },
  }
}
