import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from '@redis/client'
import { type Child, startChild } from './children.ts'
import { freePort } from './relay.ts'

export interface RedisOptions {
  /** Writes everything down, so that it survives `kill` and `start`; by default nothing touches a disk. */
  readonly appendonly?: 'everysec' | 'always'
  /** Beyond it every write is refused: `noeviction`. */
  readonly maxmemory?: string
  /** Further settings, as `redis-server` takes them: `{ requirepass: 'x' }`. */
  readonly settings?: Readonly<Record<string, string>>
}

type Reply = unknown

/** A real Redis server of a test's own. */
export interface Redis extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Starts it again on the same port and data, after `kill`. */
  start(): Promise<void>
  /** SIGKILL; what is in no append-only file is gone. */
  kill(): Promise<void>
  /** SIGSTOP: connections stay open and nobody answers. */
  freeze(): void
  thaw(): void
  /** One command over a connection of its own, which is given up after two seconds. */
  command(...args: string[]): Promise<Reply>
  close(): Promise<void>
}

const startMs = 10_000
const commandMs = 2_000

/** Starts a Redis server on a free port, in a folder of its own; the caller closes it. */
export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-redis-'))
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  const password = options.settings?.['requirepass']
  let child: Child | undefined
  // Whoever fails before `close` leaves no server behind, and no folder either.
  const sweep = () => rmSync(folder, { recursive: true, force: true })
  process.once('exit', sweep)

  async function start(): Promise<void> {
    if (child?.running) throw new Error('this Redis is running already')
    child = await startChild('redis-server', argumentsFor(port, folder, options)).catch(explain)
    const until = performance.now() + startMs
    while (!(await answers())) {
      if (!child.running || performance.now() > until) throw new Error(`redis-server did not start:\n${child.said}`)
      await delay(10)
    }
  }

  /** While it reads its append-only file it answers, but with an error. */
  const answers = () =>
    command('PING').then(
      (reply) => reply === 'PONG',
      () => false,
    )

  async function command(...args: string[]): Promise<Reply> {
    const client = createClient({
      url,
      ...(password !== undefined && { password }),
      socket: { reconnectStrategy: false, connectTimeout: commandMs, socketTimeout: commandMs },
    })
    // The call below fails as well, and that is where it is told.
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.sendCommand(args)
    } finally {
      client.destroy()
    }
  }

  async function close(): Promise<void> {
    await child?.kill()
    await rm(folder, { recursive: true, force: true })
    process.off('exit', sweep)
  }

  await start().catch(async (error) => {
    await close()
    throw error
  })
  return {
    url,
    port,
    start,
    kill: async () => child?.kill(),
    freeze: () => child?.signal('SIGSTOP'),
    thaw: () => child?.signal('SIGCONT'),
    command,
    close,
    [Symbol.asyncDispose]: close,
  }
}

function argumentsFor(port: number, folder: string, { appendonly, maxmemory, settings }: RedisOptions): string[] {
  const all: Record<string, string> = {
    bind: '127.0.0.1',
    port: String(port),
    dir: folder,
    save: '',
    appendonly: appendonly ? 'yes' : 'no',
    ...(appendonly && { appendfsync: appendonly }),
    ...(maxmemory !== undefined && { maxmemory }),
    'maxmemory-policy': 'noeviction',
    ...settings,
  }
  return Object.entries(all).flatMap(([name, value]) => [`--${name}`, value])
}

function explain(error: NodeJS.ErrnoException): never {
  if (error.code !== 'ENOENT') throw error
  throw new Error('there is no redis-server on the PATH, and these tests need a real one: apt-get install redis-server')
}
