import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { onTestFinished } from 'vitest'

interface Running {
  readonly child: ChildProcess
  /** What it has said, and how it ended, if it has. */
  state(): { ended: boolean; code: number | null; output: string }
}

/** Starts a program of the system; one that is not installed fails the test. */
export async function run(
  [command = '', ...args]: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Running> {
  let output = ''
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Caddy keeps its state below the home of whoever runs it; nginx and haproxy are where only root looks.
    env: {
      ...process.env,
      PATH: `${process.env['PATH']}:/usr/sbin`,
      HOME: folder,
      XDG_DATA_HOME: folder,
      XDG_CONFIG_HOME: folder,
      ...env,
    },
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (text) => {
      output += text
    })
  }
  try {
    await once(child, 'spawn')
  } catch (error) {
    throw new Error(`these tests run ${command}, which is not here: apt-get install ${packageOf(command)}`, {
      cause: error,
    })
  }
  onTestFinished(async () => {
    if (!ended()) {
      child.kill('SIGTERM')
      await Promise.race([once(child, 'exit'), new Promise((resolve) => setTimeout(resolve, 3_000))])
    }
    if (!ended()) child.kill('SIGKILL')
  })
  const ended = () => child.exitCode !== null || child.signalCode !== null
  return { child, state: () => ({ ended: ended(), code: child.exitCode, output }) }
}

/** Runs a program to its end. */
export async function exitOf(
  command: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>> = {},
): Promise<number | null> {
  const { child, state } = await run(command, folder, env)
  if (!state().ended) await once(child, 'exit')
  return state().code
}

function packageOf(command: string): string {
  if (command === 'promtool') return 'prometheus'
  return command.startsWith('redis') ? 'redis-server' : command
}

/** A port on which nothing listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Whether something listens there. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const accepted = await once(socket, 'connect').then(
    () => true,
    () => false,
  )
  socket.destroy()
  return accepted
}
