import { seeded } from '../support/random.ts'
import { readStream } from '../support/reader.ts'
import { formatNames, judge, judgeText, textOf } from '../support/transcript.ts'
import { type Rig, startRig } from './rig.ts'
import { type Mode, many, newTally, note, noteCalls, type Trial } from './trial.ts'

const tabsAtOnce = 50

/** Fifty tabs ask the same under one key at the same moment: one answer is bought, and all of them get it. */
export const tabs: Trial = {
  name: 'tabs',
  about: 'fifty requests under one key at once, GET and POST',
  count: 24,
  async run(options) {
    const tally = newTally()
    const rigs: Rig[] = []
    await using stack = new AsyncDisposableStack()
    for (const mode of options.modes) rigs.push(stack.use(await startRig({ mode })))
    await many(tally, { ...options, concurrency: 1 }, async (n) => {
      const at = n % options.modes.length
      const turn = Math.floor(n / options.modes.length)
      const random = seeded(`${options.seed}/tabs/${n}`)
      const { upstream, replicas } = rigs[at] as Rig
      const one = {
        ...{ format: random.pick(formatNames), byPost: turn % 2 === 1, prompt: `tabs ${n}` },
        ...{ key: `tabs-${options.seed}-${n}`, deltas: random.between(5, 60) },
      }
      const reading = Array.from({ length: tabsAtOnce }, (_, tab) =>
        readTab(one, replicas[tab % replicas.length]?.url as string),
      )
      const transcripts = await Promise.all(reading)
      const [golden] = transcripts
      const where = `trial ${n} (${options.modes[at] as Mode}, ${one.format}, ${one.byPost ? 'POST' : 'GET'})`
      if (golden) note(tally, judgeText(textOf(golden), one.deltas), `${where}, its text`)
      for (const [tab, transcript] of transcripts.entries()) {
        note(tally, judge(transcript, golden), `${where}, tab ${tab} (${transcript.end})`)
        const other = transcript.frames.some(({ id }, index) => id !== golden?.frames[index]?.id)
        if (other) note(tally, { duplicated: 1 }, `${where}, tab ${tab} has another stream`)
      }
      noteCalls(tally, upstream.calls(one.prompt), where)
    })
    tally.more['tabs'] = tally.trials * tabsAtOnce
    return tally
  },
}

interface One {
  readonly format: string
  readonly byPost: boolean
  readonly prompt: string
  readonly key: string
  readonly deltas: number
}

function readTab({ format, byPost, prompt, key, deltas }: One, base: string) {
  const model = `claude-sim?text=${deltas}&stamp=1&delay_ms=10`
  if (byPost) {
    const post = { prompt, model, format }
    return readStream({ bases: [base], path: '/stream', format, post, headers: { 'idempotency-key': key } })
  }
  return readStream({ bases: [base], path: `/stream?${new URLSearchParams({ prompt, model, format, key })}`, format })
}
