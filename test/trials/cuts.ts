import { setTimeout as delay } from 'node:timers/promises'
import { type Random, seeded } from '../support/random.ts'
import { type Reader, randomCuts, readStream, startReader } from '../support/reader.ts'
import { formatNames, judge, judgeText, textOf } from '../support/transcript.ts'
import { type Rig, startRig, startStream } from './rig.ts'
import { type Mode, many, newTally, note, noteCalls, type Trial } from './trial.ts'

/** Readers whose connections are cut at random places hold, in the end, what an uncut reader holds. */
export const cuts: Trial = {
  name: 'cuts',
  about: 'random cuts of every format, with memory and with two replicas on one Redis',
  count: 10_000,
  async run(options) {
    const tally = newTally()
    const rigs: Rig[] = []
    await using stack = new AsyncDisposableStack()
    for (const mode of options.modes) rigs.push(stack.use(await startRig({ mode })))
    let connections = 0
    await many(tally, options, async (n) => {
      const at = n % options.modes.length
      const format = formatNames[Math.floor(n / options.modes.length) % formatNames.length] as string
      const one = {
        ...{ n, format, mode: options.modes[at] as Mode, rig: rigs[at] as Rig },
        random: seeded(`${options.seed}/cuts/${n}`),
      }
      // Read the sum after the trial, as others have added to it meanwhile.
      const taken = await trial(one, tally)
      connections += taken
    })
    tally.more['connections'] = connections
    return tally
  },
}

interface One {
  readonly n: number
  readonly format: string
  readonly mode: Mode
  readonly rig: Rig
  readonly random: Random
}

/** One stream with one to three readers; gives the number of connections they took. */
async function trial(one: One, tally: ReturnType<typeof newTally>): Promise<number> {
  const { n, format, mode, rig, random } = one
  const where = `trial ${n} (${mode}, ${format})`
  const prompt = `cuts ${n}`
  const deltas = random.between(5, 60)
  const readers = await startReaders(one, prompt, modelFor(random, deltas))
  const transcripts = await Promise.all(readers.map(({ ended }) => ended))
  const stream = await (readers[0] as Reader).stream
  const base = random.pick(rig.replicas).url
  const golden = await readStream({ bases: [base], path: `/streams/${stream}?format=${format}` })
  note(tally, judge(golden), `${where}, uncut (${golden.end})`)
  note(tally, judgeText(textOf(golden), deltas), `${where}, its text`)
  for (const [index, transcript] of transcripts.entries()) {
    const { connections, end } = transcript
    note(tally, judge(transcript, golden), `${where}, reader ${index} (${connections} connections, ${end})`)
  }
  noteCalls(tally, rig.upstream.calls(prompt), where)
  return transcripts.reduce((sum, { connections }) => sum + connections, 0)
}

function modelFor(random: Random, deltas: number): string {
  const scenario = {
    text: deltas,
    stamp: 1,
    delay_ms: random.between(1, 6),
    ...(random.chance(0.3) && { thinking: random.between(1, 8) }),
    ...(random.chance(0.3) && { tool: 'get_weather' }),
    ...(random.chance(0.3) && { per_write: random.between(2, 9) }),
  }
  return `claude-sim?${Object.entries(scenario)
    .map((field) => field.join('='))
    .join('&')}`
}

/** The first reader asks, or reads what was started for it; others are tabs that open a little later. */
async function startReaders({ n, format, mode, rig, random }: One, prompt: string, model: string): Promise<Reader[]> {
  const cutsOf = (first: boolean) =>
    randomCuts(random, { cuts: random.between(0, 6), mostFrames: 20, mostBytes: 4_000, afterFirstFrame: first })
  const read = (path: string, asks = false) =>
    startReader({ bases: [rig.balancer.url], path, format, cut: cutsOf(asks && mode === 'memory') })
  const readers: Reader[] = []
  let stream: string
  if (random.chance(0.5)) {
    stream = await startStream(rig.balancer.url, prompt, model)
  } else {
    // With a key a client may lose its connection before it has an id, and still come back to the same stream.
    const key = mode === 'redis' ? { key: `cuts-${n}` } : {}
    const reader = read(`/stream?${new URLSearchParams({ prompt, model, format, ...key })}`, true)
    readers.push(reader)
    stream = await reader.stream
  }
  const wanted = random.between(1, 3)
  while (readers.length < wanted) {
    await delay(random.between(0, 60))
    readers.push(read(`/streams/${stream}?format=${format}`))
  }
  return readers
}
