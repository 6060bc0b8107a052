import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import { Colleagues, GatheringPoint, isGatherMessage, type Peer } from './gathering.ts'
import { Supervisor, signMs, type WorkerEvents, type WorkerProcess } from './supervisor.ts'
import { processBounds } from './telemetry/bounds.ts'

/** What a primary says to a worker after its configuration. */
type Order = 'drain' | 'hurry' | 'reloadFiles'

/** Of V8, in its own unit. */
const MiB = 2 ** 20

export interface Workers {
  stop(): void
  /** Has each of them read its files of access keys and certificates again. */
  reloadFiles(): void
  /** The exit code, once all are gone. */
  readonly ended: Promise<number>
}

/**
 * Starts `server.workers` processes that serve behind one port, and watches them; this one only accepts connections and
 * hands them out in turn. Streams last long, so that a fair share of connections is a fair share of the work.
 */
export function runWorkers(config: Config, log: Logger): Workers {
  const { workers, drain_ms } = config.server
  cluster.schedulingPolicy = cluster.SCHED_RR
  // Each would take V8's share of the whole memory for its own.
  const heapMiB = Math.max(1, Math.floor(processBounds().oldBytes / workers / MiB))
  cluster.setupPrimary({ execArgv: [...process.execArgv, `--max-old-space-size=${heapMiB}`] })
  const point = new GatheringPoint()
  const supervisor = new Supervisor({ workers, drainMs: drain_ms, log, start: (on) => startWorker(config, point, on) })
  function reloadFiles(): void {
    for (const worker of Object.values(cluster.workers ?? {})) worker?.send('reloadFiles' satisfies Order)
  }
  return { stop: () => supervisor.stop(), reloadFiles, ended: supervisor.ended }
}

/** The configuration is sent, not read again: its files may say something else by the time that a worker is replaced. */
function startWorker(config: Config, point: GatheringPoint, { onUp, onSign, onGone }: WorkerEvents): WorkerProcess {
  const worker = cluster.fork()
  rescueConnections(worker)
  const peer: Peer = { send: (message) => void (worker.isConnected() && worker.send(message)) }
  worker.once('message', (url: string) => {
    onUp(url)
    point.peers.add(peer)
    worker.on('message', (message: unknown) => {
      onSign()
      if (isGatherMessage(message)) point.hear(peer, message)
    })
  })
  worker.once('exit', (code, signal) => {
    point.leave(peer)
    onGone(code, signal)
  })
  // A message to one that is just going is lost, and its end is told all the same. One without a pid never began.
  worker.on('error', () => worker.process.pid === undefined && onGone(1))
  worker.send(config)
  return {
    id: worker.id,
    pid: worker.process.pid,
    send: (order: Order) => void worker.send(order),
    kill: () => void worker.process.kill('SIGKILL'),
  }
}

/** What Node sends with a connection; the worker that takes it repeats `seq` as `ack`. */
interface Handout {
  readonly act?: string
  readonly seq: number
}

/**
 * Node forgets the connection that it has just handed to a worker when that one dies before it has taken it: its client
 * would wait for ever (one at each death under load, Node 24). Here it goes to another worker.
 */
function rescueConnections(worker: Worker): void {
  const untaken = new Map<number, { handout: Handout; connection: { close(): void } }>()
  const { process } = worker
  const send = process.send.bind(process) as (...all: unknown[]) => boolean
  process.send = (handout: Handout, ...rest: unknown[]) => {
    if (handout.act === 'newconn') untaken.set(handout.seq, { handout, connection: rest[0] as { close(): void } })
    return send(handout, ...rest)
  }
  process.on('internalMessage', ({ ack }: { ack?: number }) => ack !== undefined && untaken.delete(ack))
  function handOn(): void {
    // What it has said at last is still to be read. Node tells of no `disconnect` while a connection is on its way.
    if (process.connected) return void setImmediate(handOn)
    const heir = Object.values(cluster.workers ?? {}).find((each) => each?.isConnected())
    for (const { handout, connection } of untaken.values()) {
      if (heir) heir.process.send(handout as never, connection as never)
      else connection.close()
    }
  }
  worker.once('exit', handOn)
}

/** In a worker: which one this is, what it is to do, and the way to tell its primary. */
export interface Primary {
  readonly id: number
  readonly config: Config
  /** The other workers, to be asked. */
  readonly colleagues: Colleagues
  /** Says that this worker serves and, from time to time, that it lives; hears from then on what it is to do. */
  serve(url: string, handlers: Record<Order, () => void>): void
}

export async function joinPrimary(): Promise<Primary> {
  const { worker } = cluster
  if (!worker) throw new Error('only a worker has a primary')
  const [config] = (await once(process, 'message')) as [Config]
  const colleagues = new Colleagues({ send: (message) => void (worker.isConnected() && worker.send(message)) })
  return {
    id: worker.id,
    config,
    colleagues,
    serve(url, handlers) {
      // A signal to the whole process group reaches workers as well; the primary counts it, once for all.
      process.on('SIGTERM', () => {})
      process.on('SIGINT', () => {})
      worker.once('disconnect', () => {
        clearInterval(signs)
        // The primary is dead, and Node would end this process at once.
        worker.exitedAfterDisconnect = true
        handlers.drain()
      })
      process.on('message', (message: unknown) => {
        if (isGatherMessage(message)) colleagues.hear(message)
        else handlers[message as Order]()
      })
      worker.send(url)
      // The primary may have died a moment ago, which is told as `disconnect` only.
      const signs = setInterval(() => worker.send('alive', () => {}), signMs)
      signs.unref()
    },
  }
}
