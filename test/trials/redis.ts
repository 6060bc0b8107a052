import { setTimeout as delay } from 'node:timers/promises'
import { type Reader, readStream, startReader } from '../support/reader.ts'
import { type Redis, type RedisOptions, startRedis } from '../support/redis.ts'
import { judge, judgeText, type SeenFrame, textOf } from '../support/transcript.ts'
import { judgeFollower, outcomeOf, type Rig, startRig, startStream } from './rig.ts'
import {
  complain,
  histogram,
  newTally,
  note,
  noteCalls,
  percentiles,
  sentenceOf,
  type Tally,
  type Trial,
} from './trial.ts'

const streamsAtOnce = 100
/** One stream in so many is followed on the other replica too. */
const followedOneIn = 5
const deltaMs = 50
/** Until then readers are catching up with what was said before they came, which is no latency. */
const warmUpMs = 1_500
const beforeMs = 2_000
/** What comes so soon after a fault is still under its influence. */
const settleMs = 1_000
const afterMs = 5_000
/** By then after a fault, new streams are to be shared again. */
const recoveryMs = 2_000

interface Fault {
  readonly name: string
  readonly lastsMs: number
  readonly options?: RedisOptions
  readonly begin: (redis: Redis) => unknown
  readonly end: (redis: Redis) => unknown
}

const faults: readonly Fault[] = [
  { name: 'killed', lastsMs: 2_000, begin: (redis) => redis.kill(), end: (redis) => redis.start() },
  {
    ...{ name: 'killed, with AOF', lastsMs: 2_000, options: { appendonly: 'everysec' } },
    ...{ begin: (redis) => redis.kill(), end: (redis) => redis.start() },
  },
  { name: 'frozen', lastsMs: 10_000, begin: (redis) => redis.freeze(), end: (redis) => redis.thaw() },
  { name: 'flushed', lastsMs: 0, begin: (redis) => redis.command('FLUSHALL'), end: () => undefined },
  {
    ...{ name: 'out of memory', lastsMs: 3_000 },
    begin: (redis) => redis.command('CONFIG', 'SET', 'maxmemory', '100kb'),
    end: (redis) => redis.command('CONFIG', 'SET', 'maxmemory', '0'),
  },
]

/** Redis fails under live streams: readers on the owner get everything, in time; others what is there, or are told. */
export const redis: Trial = {
  name: 'redis',
  about: `Redis ${faults.map(({ name }) => name).join('; ')}, under ${streamsAtOnce} live streams each`,
  count: faults.length,
  async run({ from, count }) {
    const tally = newTally()
    for (const fault of faults.slice(from, from + count)) {
      tally.more[fault.name] = await play(fault, tally).catch((error) =>
        complain(tally, `${fault.name}: ${sentenceOf(error)}`),
      )
      tally.trials += streamsAtOnce
      process.stderr.write(`${fault.name}: ${JSON.stringify(tally.more[fault.name])}\n`)
    }
    return tally
  },
}

interface Stream {
  readonly where: string
  readonly prompt: string
  readonly own: Reader
  readonly follower: Reader | undefined
}

async function play(fault: Fault, tally: Tally) {
  await using server = await startRedis(fault.options)
  await using rig = await startRig({ mode: 'redis', redis: server })
  const deltas = Math.ceil((warmUpMs + beforeMs + fault.lastsMs + afterMs) / deltaMs)
  const latencies = { before: [] as number[], during: [] as number[], after: [] as number[] }
  let phase: keyof typeof latencies | undefined
  const measure = (frame: SeenFrame) => {
    const stamp = /@(\d+);/.exec(frame.data ?? '')?.[1]
    if (stamp !== undefined && phase) latencies[phase].push(Number(process.hrtime.bigint() - BigInt(stamp)) / 1e6)
  }
  const starts = Array.from({ length: streamsAtOnce }, (_, n) => startOne(rig, fault, n, deltas, measure))
  const streams = await Promise.all(starts)
  await delay(warmUpMs)
  phase = 'before'
  await delay(beforeMs)
  phase = 'during'
  await fault.begin(server)
  await delay(fault.lastsMs)
  await fault.end(server)
  await delay(settleMs)
  phase = 'after'
  await delay(recoveryMs - settleMs)
  await judgeRecovery(rig, fault, tally)
  const outcomes = await Promise.all(streams.map((stream) => judgeStream(rig, stream, deltas, tally)))
  const latency_ms = Object.fromEntries(Object.entries(latencies).map(([name, all]) => [name, percentiles(all)]))
  return { latency_ms, followers: histogram(outcomes.filter((outcome) => outcome !== undefined)) }
}

async function startOne(
  rig: Rig,
  fault: Fault,
  n: number,
  deltas: number,
  measure: (frame: SeenFrame) => void,
): Promise<Stream> {
  const where = `${fault.name}, stream ${n}`
  const prompt = `redis ${where}`
  const [owner, other] = rig.replicas.map(({ url }) => url) as [string, string]
  const id = await startStream(owner, prompt, `claude-sim?text=${deltas}&stamp=1&delay_ms=${deltaMs}`)
  const path = `/streams/${id}?format=json`
  const own = startReader({ bases: [owner], path, onFrame: measure })
  const follower = n % followedOneIn === 0 ? startReader({ bases: [other], path }) : undefined
  return { where, prompt, own, follower }
}

/** @returns how the follower's stream ended, if there was one */
async function judgeStream(rig: Rig, { where, prompt, own, follower }: Stream, deltas: number, tally: Tally) {
  const whole = await own.ended
  note(tally, judge(whole), `${where}, on its owner (${whole.end})`)
  note(tally, judgeText(textOf(whole), deltas), `${where}, on its owner, its text`)
  if (outcomeOf(whole) !== 'done') complain(tally, `${where}: ended in ${outcomeOf(whole)} on its owner`)
  if (whole.connections !== 1) complain(tally, `${where}: its owner hung up ${whole.connections - 1} times`)
  noteCalls(tally, rig.upstream.calls(prompt), where)
  if (!follower) return undefined
  const followed = await follower.ended
  const outcome = outcomeOf(followed)
  note(tally, judgeFollower(followed, whole), `${where}, on the other replica (${outcome})`)
  if (outcome === 'done') note(tally, judgeText(textOf(followed), deltas), `${where}, on the other replica, its text`)
  return outcome
}

/** A stream that is started when the fault is over is shared as if there had been none. */
async function judgeRecovery(rig: Rig, { name }: Fault, tally: Tally): Promise<void> {
  const where = `${name}, a stream after it`
  const deltas = 10
  const [owner, other] = rig.replicas.map(({ url }) => url) as [string, string]
  const id = await startStream(owner, where, `claude-sim?text=${deltas}&stamp=1&delay_ms=${deltaMs}`)
  const transcript = await readStream({ bases: [other], path: `/streams/${id}?format=json` })
  note(tally, judge(transcript), `${where} (${transcript.end})`)
  note(tally, judgeText(textOf(transcript), deltas), `${where}, its text`)
}
