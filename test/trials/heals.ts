import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from '../support/random.ts'
import { type Reader, readStream, startReader } from '../support/reader.ts'
import type { Replica } from '../support/replica.ts'
import { judge, spokenText, textOf } from '../support/transcript.ts'
import { outcomeOf, type Rig, startRig, startStream } from './rig.ts'
import { killInRounds, killSome, type Round } from './rounds.ts'
import { complain, newTally, note, percentiles, type Tally, type Trial } from './trial.ts'

const replicas = 6
/** They die at the same moment. */
const killsAtOnce = 3
const streamsPerReplica = 4

/** Owners are killed in the middle of their answers: every reader sees the whole answer, continued by another replica. */
export const heals: Trial = {
  name: 'heals',
  about: 'kill -9 of replicas whose live answers are then continued on the others',
  count: 100,
  async run(options) {
    const tally = newTally()
    await using rig = await startRig({ mode: 'redis', replicas, env: { SLUICE_RECOVERY__MAX_ATTEMPTS: '1' } })
    const ended = await killInRounds(heals.name, options, killsAtOnce, tally, (round) => playRound(rig, round, tally))
    tally.more['ms_without_a_frame'] = percentiles(ended.map(({ waited }) => waited))
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

async function playRound(rig: Rig, played: Round, tally: Tally) {
  const { random, round } = played
  const owners = [...rig.replicas]
  const streams = await Promise.all(
    owners.flatMap((owner) =>
      Array.from({ length: streamsPerReplica }, (_, n) =>
        startOne(rig, random, owner, `round ${round} of ${owner.pid}, ${n}`),
      ),
    ),
  )
  // All answers are under way, and none is at its end.
  await delay(random.between(300, 1_500))
  const { victims, replaced } = await killSome(rig, owners, played)
  const judged = await Promise.all(streams.map((stream) => judgeStream(rig, stream, victims.has(stream.owner), tally)))
  await replaced
  return judged.filter(({ killed }) => killed)
}

async function startOne(rig: Rig, random: Random, owner: Replica, where: string): Promise<Stream> {
  const deltas = random.between(100, 250)
  const prompt = `heals ${where}`
  const id = await startStream(owner.url, prompt, `claude-sim?text=${deltas}&delay_ms=20`)
  const read = (bases: string[], format: string) =>
    startReader({ bases, path: `/streams/${id}?format=${format}`, format, retryMs: 50, patienceMs: 30_000 })
  const readers = [read([owner.url, rig.balancer.url], 'json'), read([rig.balancer.url], random.pick(['json', 'text']))]
  return { where, id, prompt, deltas, owner, readers }
}

async function judgeStream(rig: Rig, stream: Stream, killed: boolean, tally: Tally) {
  const { where, id, prompt, deltas, readers } = stream
  const transcripts = await Promise.all(readers.map(({ ended }) => ended))
  const outcome = outcomeOf(transcripts[0] as (typeof transcripts)[0])
  for (const [n, transcript] of transcripts.entries()) {
    const reader = `${where}${killed ? ', killed' : ''}, reader ${n} (${transcript.format}, ${outcome}, ${transcript.end})`
    const golden = await readStream({ bases: [rig.balancer.url], path: `/streams/${id}?format=${transcript.format}` })
    note(tally, judge(transcript, golden), reader)
    if (textOf(transcript) !== spokenText(deltas)) complain(tally, `${reader}: not the whole text`)
  }
  if (outcome !== 'done') complain(tally, `${where}: ended in ${outcome}`)
  const calls = rig.upstream.simulator.requests.filter(({ body }) => isAbout(body, prompt)).length
  if (calls !== (killed ? 2 : 1)) complain(tally, `${where}: Claude was asked ${calls} times`)
  const times = (transcripts[0]?.frames ?? []).map(({ at }) => at)
  const waited = Math.max(0, ...times.slice(1).map((at, n) => at - (times[n] as number)))
  return { killed, outcome, waited }
}

/** The question, or a request for the rest of its answer. */
function isAbout(body: unknown, prompt: string): boolean {
  const { messages } = (body ?? {}) as { messages?: { content: unknown }[] }
  return messages?.[0]?.content === prompt
}
