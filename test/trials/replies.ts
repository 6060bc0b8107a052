import { startChaos } from '../support/chaos.ts'
import { seeded } from '../support/random.ts'
import { readStream } from '../support/reader.ts'
import { startRedis } from '../support/redis.ts'
import { judge, judgeText, textOf } from '../support/transcript.ts'
import { judgeFollower, outcomeOf, startRig, startStream } from './rig.ts'
import { complain, histogram, many, newTally, note, noteCalls, type Trial } from './trial.ts'

const streamsAtOnce = 20
const deltas = 100
/** Of replies to writes, this share is lost; more, and a replica would do nothing but reconnect. */
const lossRate = 0.2
/** So many waves in a row that lose no reply say that no replica writes to Redis through the proxy. */
const idleWaves = 3

const writes = /\b(?:EVALSHA|EVAL|FCALL|XADD)\b/i

/** Replies of Redis get lost after the write was carried out: nothing is stored twice, and nothing is missing. */
export const replies: Trial = {
  name: 'replies',
  about: 'lost replies of Redis, seen from a replica that has lost none',
  count: 1_000,
  async run(options) {
    const tally = newTally()
    const random = seeded(`${options.seed}/replies`)
    await using stack = new AsyncDisposableStack()
    const redis = stack.use(await startRedis())
    const chaos = stack.use(await startChaos(redis.port))
    const redisUrl = (_: unknown, replica: number) => (replica === 0 ? chaos.url : redis.url)
    const rig = stack.use(await startRig({ mode: 'redis', redis, redisUrl }))
    const [owner, other] = rig.replicas.map(({ url }) => url) as [string, string]
    const outcomes: string[] = []

    async function stream(n: number): Promise<void> {
      const prompt = `replies ${n}`
      const where = `stream ${n}`
      const id = await startStream(owner, prompt, `claude-sim?text=${deltas}&stamp=1&delay_ms=20`)
      const path = `/streams/${id}?format=json`
      const [own, follower] = await Promise.all([owner, other].map((base) => readStream({ bases: [base], path })))
      if (!own || !follower) return
      note(tally, judge(own), `${where}, on its owner (${own.end})`)
      note(tally, judgeText(textOf(own), deltas), `${where}, on its owner, its text`)
      // What Redis never got may be missing elsewhere, as long as that is said.
      const outcome = outcomeOf(follower)
      outcomes.push(outcome)
      const said = outcome === 'done' ? deltas : 0
      note(tally, judgeFollower(follower, own), `${where}, on the other replica (${outcome})`)
      note(tally, judgeText(textOf(follower), said), `${where}, on the other replica, its text`)
      if (outcome !== 'done' && outcome !== 'resume_unavailable') complain(tally, `${where}: it ended in ${outcome}`)
      const again = await readStream({ bases: [other], path })
      note(tally, judge(again, follower), `${where}, read again (${again.end})`)
      noteCalls(tally, rig.upstream.calls(prompt), where)
    }

    let idle = 0
    for (let wave = 0; chaos.lost < options.count && idle < idleWaves; wave++) {
      const before = chaos.lost
      const left = options.count - chaos.lost
      const when = (request: Buffer) => writes.test(request.toString('latin1'))
      chaos.cutAfterReply({ count: left, probability: lossRate, when, random: () => random.next() })
      await many(tally, { count: streamsAtOnce, from: wave * streamsAtOnce, concurrency: streamsAtOnce }, stream)
      idle = chaos.lost === before ? idle + 1 : 0
      process.stderr.write(`${chaos.lost} lost replies\n`)
    }
    if (chaos.lost < options.count) complain(tally, `only ${chaos.lost} replies were lost`)
    tally.more['streams'] = tally.trials
    tally.more['on_the_other_replica'] = histogram(outcomes)
    tally.trials = chaos.lost
    return tally
  },
}
