import { startBalancer } from '../support/balancer.ts'
import { launchBrowser, startPages } from '../support/browser.ts'
import { clientPages, type Place, readAt } from '../support/places.ts'
import { seeded } from '../support/random.ts'
import type { Outcome } from '../support/read-with-client.ts'
import { readStream } from '../support/reader.ts'
import { judge, judgeText, type Transcript } from '../support/transcript.ts'
import { type Rig, startRig } from './rig.ts'
import { type Mode, many, newTally, note, noteCalls, type Trial } from './trial.ts'

const places: readonly Place[] = ['node', 'page', 'worker', 'deno', 'bun']

/** The client comes through random cuts with the whole answer, each frame once, and one question to Claude. */
export const client: Trial = {
  name: 'client',
  about: 'random cuts of the client, in Node, Deno, Bun, a page and a worker of Chromium',
  count: 3_000,
  async run(options) {
    const tally = newTally()
    await using stack = new AsyncDisposableStack()
    const pages = stack.use(await startPages(await clientPages()))
    const browser = stack.adopt(await launchBrowser(), (each) => each.close())
    const rigs: Rig[] = []
    for (const mode of options.modes) {
      rigs.push(stack.use(await startRig({ mode, env: { CORS_ORIGINS: pages.origin } })))
    }
    const page = await browser.newPage()
    await page.goto(pages.origin)
    let reconnects = 0
    await many(tally, options, async (n) => {
      const at = n % options.modes.length
      const rig = rigs[at] as Rig
      const place = places[Math.floor(n / options.modes.length) % places.length] as Place
      const random = seeded(`${options.seed}/client/${n}`)
      const deltas = random.between(5, 60)
      const prompt = `client ${n}`
      await using balancer = await startBalancer(
        rig.replicas.map(({ url }) => url),
        { random, leastBytes: 1, mostBytes: 3_000, share: 0.85 },
      )
      const smooth = random.chance(0.2) ? ({ smooth: 'word' } as const) : {}
      const model = `claude-sim?text=${deltas}&stamp=1&delay_ms=${random.between(1, 6)}`
      const outcome = await readAt(place, page, {
        url: `${balancer.url}/stream`,
        body: { prompt, model, ...smooth },
        retry: { minMs: 5, maxMs: 100, attempts: 50 },
      })
      reconnects += outcome.reconnects
      const where = `trial ${n} (${options.modes[at] as Mode}, ${place}, ${outcome.reconnects} reconnects)`
      const transcript = transcriptOf(outcome)
      const replica = random.pick(rig.replicas).url
      const golden = await readStream({
        bases: [replica],
        path: `/streams/${outcome.id}?${new URLSearchParams(smooth)}`,
      })
      note(tally, judge(transcript, rewritten(golden)), `${where}, ${transcript.end}`)
      note(
        tally,
        { duplicated: outcome.frames.length - new Set(outcome.positions).size },
        `${where}, frames that came twice`,
      )
      note(tally, judgeText(outcome.text ?? '', deltas), `${where}, its text`)
      noteCalls(tally, rig.upstream.calls(prompt), where)
    })
    tally.more['reconnects'] = reconnects
    return tally
  },
}

/** What the client gave, as what any other reader gets. */
function transcriptOf({ id, frames, positions, reconnects, failure }: Outcome): Transcript {
  return {
    format: 'json',
    frames: frames.map((data, n) => ({
      id: `${id}.${positions[n]}`,
      n: positions[n] as number,
      data,
      connection: 1,
      at: 0,
    })),
    ...{ connections: reconnects + 1, end: failure ?? 'whole', announcement: [], strays: [] },
  }
}

/** A client has frames as objects: the same frame, written in the one way that JavaScript has. */
function rewritten(transcript: Transcript): Transcript {
  const frames = transcript.frames.map((frame) => ({ ...frame, data: JSON.stringify(JSON.parse(frame.data ?? '')) }))
  return { ...transcript, frames }
}
