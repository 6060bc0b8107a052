import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from '../support/random.ts'
import { type Reader, readStream, startReader } from '../support/reader.ts'
import type { Replica } from '../support/replica.ts'
import { formatNames, judge, judgeText, terminalOf, textOf } from '../support/transcript.ts'
import { outcomeOf, type Rig, startRig, startStream } from './rig.ts'
import { killInRounds, killSome, type Round } from './rounds.ts'
import { complain, newTally, note, noteCalls, percentiles, type Tally, type Trial } from './trial.ts'

const replicas = 6
/** They die at the same moment. */
const killsAtOnce = 3
const streamsPerReplica = 5
/** The lease, and two seconds for those who follow to notice that it is over. */
const deadlineMs = 5_000 + 2_000

/** Owners are killed in the middle of their streams: every reader goes on elsewhere, and is told that there is no more. */
export const kills: Trial = {
  name: 'kills',
  about: 'kill -9 of replicas that own live streams, which then end on the others',
  count: 200,
  async run(options) {
    const tally = newTally()
    await using rig = await startRig({ mode: 'redis', replicas })
    const ended = await killInRounds(kills.name, options, killsAtOnce, tally, (round) => playRound(rig, round, tally))
    tally.more['ms_from_kill_to_end'] = percentiles(ended.flatMap(({ wait }) => wait ?? []))
    return tally
  },
}

interface Stream {
  readonly where: string
  readonly id: string
  readonly prompt: string
  readonly deltas: number
  readonly owner: Replica
  readonly readers: readonly Reader[]
}

/** Starts streams everywhere, kills some replicas, starts others instead, and judges what all readers got. */
async function playRound(rig: Rig, played: Round, tally: Tally) {
  const { random, round } = played
  const owners = [...rig.replicas]
  const starts = owners.flatMap((owner) =>
    Array.from({ length: streamsPerReplica }, (_, n) =>
      startOne(rig, random, owner, `round ${round} of ${owner.pid}, ${n}`),
    ),
  )
  const streams = await Promise.all(starts)
  await delay(random.between(0, 2_500))
  const { victims, killedAt, replaced } = await killSome(rig, owners, played)
  const judged = streams.map(async (stream) => {
    const killed = victims.has(stream.owner)
    const { outcome, endedAt } = await judgeStream(rig, stream, killed, tally)
    const wait = outcome === 'replica_lost' ? endedAt - killedAt : undefined
    if (wait !== undefined && wait > deadlineMs) complain(tally, `${stream.where}: ended ${Math.round(wait)} ms after`)
    return { killed, outcome, wait }
  })
  const ended = await Promise.all(judged)
  await replaced
  return ended.filter(({ killed }) => killed)
}

async function startOne(rig: Rig, random: Random, owner: Replica, where: string): Promise<Stream> {
  const deltas = random.between(20, 250)
  const prompt = `kills ${where}`
  const id = await startStream(owner.url, prompt, `claude-sim?text=${deltas}&stamp=1&delay_ms=20`)
  const read = (bases: string[], format: string) =>
    startReader({ bases, path: `/streams/${id}?format=${format}`, format, retryMs: 50, patienceMs: 30_000 })
  const readers = [
    read([owner.url, rig.balancer.url], 'json'),
    read([rig.balancer.url], random.pick(formatNames)),
    ...(random.chance(0.5) ? [read([rig.balancer.url], 'json')] : []),
  ]
  return { where, id, prompt, deltas, owner, readers }
}

async function judgeStream(rig: Rig, { where, id, prompt, deltas, readers }: Stream, killed: boolean, tally: Tally) {
  const transcripts = await Promise.all(readers.map(({ ended }) => ended))
  const first = transcripts[0] as (typeof transcripts)[0]
  const outcome = outcomeOf(first)
  const place = `${where}${killed ? ', killed' : ''}`
  for (const [n, transcript] of transcripts.entries()) {
    const path = `/streams/${id}?format=${transcript.format}`
    const golden = await readStream({ bases: [rig.balancer.url], path })
    const reader = `${place}, reader ${n} (${transcript.format}, ${outcome}, ${transcript.end})`
    note(tally, judge(transcript, golden), reader)
    // An answer that was cut off is a beginning of what Claude said, and anything else the whole of it.
    note(tally, judgeText(textOf(transcript), outcome === 'replica_lost' ? 0 : deltas), `${reader}, its text`)
  }
  const allowed = killed ? ['done', 'replica_lost'] : ['done']
  if (!allowed.includes(outcome)) complain(tally, `${place}: ended in ${outcome}`)
  noteCalls(tally, rig.upstream.calls(prompt), place)
  return { outcome, endedAt: Math.max(...transcripts.map((each) => terminalOf(each)?.at ?? Number.POSITIVE_INFINITY)) }
}
