import { type Balancer, startBalancer } from '../support/balancer.ts'
import { open } from '../support/client.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { type Replica, startReplica, startUpstream, type Upstream } from '../support/replica.ts'
import { announced, judge, type Transcript, terminalOf, type Verdict } from '../support/transcript.ts'
import type { Mode } from './trial.ts'

export interface RigOptions {
  readonly mode: Mode
  /** How many; one without Redis, two with it unless given. */
  readonly replicas?: number
  /** One that the caller has started, and will close; else one that keeps nothing on disk is started. */
  readonly redis?: Redis
  /** What a replica has for `REDIS_URL`, by its number from 0; the Redis itself unless given. */
  readonly redisUrl?: (redis: Redis, replica: number) => string
  readonly env?: Readonly<Record<string, string>>
}

/** Replicas in processes of their own, before one Claude and one Redis, behind one address. */
export interface Rig extends AsyncDisposable {
  readonly upstream: Upstream
  /** There is none in mode `memory`. */
  readonly redis: Redis
  readonly balancer: Balancer
  /** Those that were started and not removed. */
  readonly replicas: readonly Replica[]
  addReplica(): Promise<Replica>
  /** Takes it out of the balancer's turn too. */
  removeReplica(replica: Replica): void
}

/** Starts everything that trials stand on; disposing of it ends everything. */
export async function startRig({ mode, redisUrl, env, ...options }: RigOptions): Promise<Rig> {
  await using stack = new AsyncDisposableStack()
  const upstream = stack.use(await startUpstream())
  const redis = mode === 'redis' ? (options.redis ?? stack.use(await startRedis())) : undefined
  const balancer = stack.use(await startBalancer([]))
  const replicas: Replica[] = []
  let started = 0

  async function addReplica(): Promise<Replica> {
    const number = started++
    const url = redis && (redisUrl?.(redis, number) ?? redis.url)
    const replica = stackOfRig.use(
      await startReplica({
        ANTHROPIC_BASE_URL: upstream.url,
        ...(url !== undefined && { REDIS_URL: url }),
        // The last tens of thousands of streams are not needed any more.
        SLUICE_STREAMS__RETENTION_MS: '60000',
        ...env,
      }),
    )
    replicas.push(replica)
    balancer.setTargets(replicas.map((each) => each.url))
    return replica
  }

  let stackOfRig: AsyncDisposableStack = stack
  const wanted = options.replicas ?? (mode === 'redis' ? 2 : 1)
  for (let n = 0; n < wanted; n++) await addReplica()
  stackOfRig = stack.move()
  return {
    upstream,
    balancer,
    replicas,
    get redis() {
      if (!redis) throw new Error('there is no Redis in memory mode')
      return redis
    },
    addReplica,
    removeReplica(replica) {
      replicas.splice(replicas.indexOf(replica), 1)
      balancer.setTargets(replicas.map((each) => each.url))
    },
    [Symbol.asyncDispose]: () => stackOfRig.disposeAsync(),
  }
}

/** Starts a stream that goes on whoever reads it, and gives its id. */
export async function startStream(base: string, prompt: string, model: string): Promise<string> {
  const body = { prompt, model, on_disconnect: 'finish' }
  const response = await open(`${base}/stream`, { body, headers: { accept: 'application/json' } })
  const text = await response.ended
  if (response.status !== 201) throw new Error(`POST /stream: ${response.status} ${text}`)
  return (JSON.parse(text) as { id: string }).id
}

/** How a `json` or `text` stream ended: `done`, `cancelled`, the code of its error, or what the reader says of itself. */
export function outcomeOf(transcript: Transcript): string {
  const terminal = terminalOf(transcript) ?? announced(transcript)
  if (!terminal) return transcript.end
  if (transcript.format === 'text' && terminal.data === undefined) return 'done'
  const { type, error } = JSON.parse(terminal.data ?? '{}') as { type?: string; error?: { code?: string } }
  return error?.code ?? type ?? 'unknown'
}

/**
 * Judges a reader whose stream may have ended before that of another: up to its error it must have the same frames.
 * @param whole what the other reader got
 */
export function judgeFollower(transcript: Transcript, whole: Transcript): Verdict {
  const last = transcript.frames.at(-1)?.n ?? 0
  if (announced(transcript)) return judge(transcript, { ...whole, frames: whole.frames.filter(({ n }) => n <= last) })
  const terminal = terminalOf(transcript)
  if (!terminal || outcomeOf(transcript) === 'done') return judge(transcript, whole)
  return judge(transcript, { ...whole, frames: [...whole.frames.filter(({ n }) => n < terminal.n), terminal] })
}
