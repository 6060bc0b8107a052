import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchAll, jsonFrames, open, parseFrames, type WireFrame } from '../support/client.ts'
import { expectWholeJsonStream } from '../support/invariants.ts'
import { expectedOf, parseRecording, recordings } from '../support/recordings.ts'
import { openRig, type Rig, sim, startRig } from '../support/sluice.ts'

type Frame = Record<string, unknown>
type Scenario = Record<string, string | number>

const env = {
  SLUICE_RECOVERY__MAX_ATTEMPTS: '1',
  SLUICE_RETRY__MAX_ATTEMPTS: '2',
  SLUICE_RETRY__BUDGET_FLOOR: '1000000',
  SLUICE_TIMEOUTS__SILENCE_MS: '150',
}

let rig: Rig
let old: Rig
beforeAll(async () => {
  rig = await openRig({ env })
  old = await openRig({ env: { ...env, SLUICE_RECOVERY__PREFILL_MODELS: 'claude-sim*' } })
})
afterAll(() => Promise.all([rig.close(), old.close()]))

async function ask(scenario: Scenario, at = rig, format = 'json'): Promise<WireFrame[]> {
  const { frames } = await fetchAll(`${at.url}/stream`, { body: { prompt: 'hi', model: sim(scenario), format } })
  return frames
}

const textOf = (frames: readonly Frame[]) =>
  frames
    .filter(({ type }) => type === 'text')
    .map(({ text }) => text)
    .join('')

async function inTurns<T>(all: readonly T[], work: (each: T) => Promise<void>): Promise<void> {
  const queue = [...all]
  await Promise.all(
    Array.from({ length: 12 }, async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) await work(next)
    }),
  )
}

const faults: Record<string, (at: number) => Scenario> = {
  'a reset': (at) => ({ reset_at: at }),
  'an early end': (at) => ({ end_at: at }),
  'an overload': (at) => ({ error_at: at }),
  silence: (at) => ({ silence_at: at }),
}

/** Recorded answers that are whole. Each event but the last is a position at which one can be lost. */
const whole = [...recordings].filter(([, bytes]) => expectedOf(bytes).whole)

/** What there is of the answer before event number `at`. */
function stateBefore(
  bytes: Buffer,
  at: number,
): { open: string | undefined; waits: boolean; stopped: boolean; content: boolean } {
  let open: string | undefined
  let [stopped, content] = [false, false]
  /** Calls without their result. */
  const calls = new Set<string>()
  for (const event of parseRecording(bytes).slice(0, at)) {
    if (event.type === 'content_block_start') {
      open = event.content_block.type
      if (/tool_use$/.test(event.content_block.type)) calls.add(event.content_block.id)
      calls.delete(event.content_block.tool_use_id)
    }
    const preamble =
      event.type === 'content_block_start' && ['text', 'thinking'].includes(open ?? '') && !event.content_block.text
    if (event.type === 'content_block_stop') open = undefined
    if (event.type === 'message_delta') stopped = true
    if (event.type !== 'message_start' && event.type !== 'ping' && !preamble) content = true
  }
  return { open, waits: calls.size > 0, stopped, content }
}

describe.each(Object.entries(faults))('%s', (_, fault) => {
  it.each(whole)('anywhere in %s: the answer is whole all the same, or says that it is not', async (name, bytes) => {
    const { text, tools } = expectedOf(bytes)
    const count = parseRecording(bytes).length
    const positions = Array.from({ length: count }, (_, at) => at)
    // Long recordings are cut at every so many events: the whole suite has to end in its time.
    const step = Math.ceil(count / 25)
    await inTurns(
      positions.filter((at) => at % step === 0 || at > count - 5),
      async (at) => {
        const frames = await ask({ recording: name, fail_first: 1, ...fault(at) })
        const terminal = expectWholeJsonStream(frames)
        const { open, waits, stopped, content } = stateBefore(bytes, at)
        const lost = content && !stopped && (waits || (open !== undefined && open !== 'text'))
        const where = `${name} at ${at}`
        if (lost) {
          expect(terminal, where).toMatchObject({ type: 'error', partial: true })
          return
        }
        expect(terminal, where).toMatchObject({ type: 'done', recovered: content && !stopped ? 1 : 0 })
        const parsed = jsonFrames(frames)
        expect(textOf(parsed), where).toBe(text)
        const told = parsed.filter(({ type }) => type === 'tool_call')
        // What a server's tool found is asked for again where there was no text yet to go on with.
        expect(
          told.map(({ name, input }) => ({ name, input })),
          where,
        ).toEqual(expect.arrayContaining(tools.map(({ name, input }) => ({ name, input }))))
      },
    )
  })
})

/** What each format calls its text, as the client of the format puts it together. */
const textIn: Record<string, (frames: readonly WireFrame[]) => string> = {
  json: (frames) => textOf(jsonFrames(frames)),
  text: (frames) => frames.map(({ id, data }) => (id === undefined ? '' : (data ?? ''))).join(''),
  anthropic: (frames) => collect(frames, ({ type, delta }) => (type === 'content_block_delta' ? delta?.text : '')),
  openai: (frames) => collect(frames, ({ choices }) => choices?.[0]?.delta?.content),
  'ai-sdk': (frames) => collect(frames, ({ type, delta }) => (type === 'text-delta' ? delta : '')),
  'ag-ui': (frames) => collect(frames, ({ type, delta }) => (type === 'TEXT_MESSAGE_CONTENT' ? delta : '')),
}

// biome-ignore lint/suspicious/noExplicitAny: six shapes of JSON, told apart by what is in them
function collect(frames: readonly WireFrame[], text: (frame: any) => unknown): string {
  return frames
    .filter(({ data }) => data?.startsWith('{'))
    .map(({ data }) => text(JSON.parse(data ?? '')) ?? '')
    .join('')
}

const modes = { quote: () => rig, prefill: () => old }

describe.each(['exact', 'repeat', 'announce'] as const)('an answer that goes on (%s)', (manner) => {
  it.each(
    Object.keys(textIn),
  )('is one answer in %s, wherever it was lost and however it was asked for', async (format) => {
    const undisturbed = await ask({ text: 60 }, rig, format)
    const text = textIn[format]?.(undisturbed) ?? ''
    expect(text.length).toBeGreaterThan(200)
    const cases = [...Array(64).keys()]
      .filter((at) => at % 2 === 0)
      .flatMap((at) => (Object.keys(modes) as (keyof typeof modes)[]).map((mode) => ({ at, mode })))
    await inTurns(cases, async ({ at, mode }) => {
      // A beginning of a few words is what the model says again as a whole, and may be an accident.
      if (manner === 'repeat' && at < 12) return
      const frames = await ask({ text: 60, fail_first: 1, reset_at: at, continue: manner }, modes[mode](), format)
      expect(textIn[format]?.(frames), `${mode} at ${at}`).toBe(text)
      expect(
        frames
          .map(({ id }) => id)
          .filter((id) => id !== undefined)
          .map((id) => Number(id?.split('.')[1])),
      ).toEqual(frames.filter(({ id }) => id !== undefined).map((_, n) => n + 1))
    })
  })
})

it('says what happened, adds up what it cost, and asks for the rest once', async () => {
  const own = await startRig({ env })
  const frames = jsonFrames(await ask({ text: 40, error_at: 20 }, own))
  const recovery = frames.filter(({ type }) => type === 'recovery')
  expect(recovery).toMatchObject([{ reason: 'upstream_overloaded', attempt: 2, mode: 'quote' }])
  const done = frames.at(-1)
  expect(done).toMatchObject({ type: 'done', recovered: 1, usage: { measured: false } })
  const { requests } = own.simulator
  expect(requests).toHaveLength(2)
  const [first, second] = requests.map(({ body }) => body as { messages: { role: string; content: unknown }[] })
  expect(second?.messages.slice(0, 1)).toEqual(first?.messages)
  expect(second?.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user'])
  expect((done as { usage: { input_tokens: number } }).usage.input_tokens).toBeGreaterThan(
    (frames.find(({ type }) => type === 'message') as { usage: { input_tokens: number } }).usage.input_tokens,
  )
  expect(own.log.find(({ message }) => message === 'stream ended')).toMatchObject({
    status: 'done',
    attempts: 2,
    failed_attempts: ['upstream_overloaded'],
    recovered: 1,
  })
})

it('gives up where it may not go on: a second loss, a call under way, recovery off', async () => {
  const twice = jsonFrames(await ask({ text: 40, reset_at: 20, fail_continuations: 1 }))
  expect(twice.at(-1)).toMatchObject({ type: 'error', partial: true, error: { code: 'upstream_truncated' } })
  const call = jsonFrames(await ask({ text: 8, tool: 'weather', reset_at: 16 }))
  expect(call.at(-1)).toMatchObject({ type: 'error', partial: true })
  expect(call.some(({ type }) => type === 'recovery')).toBe(false)
  const thinking = jsonFrames(await ask({ thinking: 10, text: 8, reset_at: 8 }))
  expect(thinking.at(-1)).toMatchObject({ type: 'error', partial: true })
  const off = await startRig({ env: { ...env, SLUICE_RECOVERY__MAX_ATTEMPTS: '0' } })
  expect(jsonFrames(await ask({ text: 40, reset_at: 20 }, off)).at(-1)).toMatchObject({ type: 'error', partial: true })
  expect(off.simulator.requests).toHaveLength(1)
})

it('does not ask twice for what may be under way: only where the operator says so', async () => {
  const clocks = { ...env, SLUICE_TIMEOUTS__HEADERS_MS: '500' }
  const own = await startRig({ env: clocks })
  expect(jsonFrames(await ask({ headers_ms: 5_000 }, own)).length).toBe(0)
  expect(own.simulator.requests).toHaveLength(1)
  const again = await startRig({ env: { ...clocks, SLUICE_RETRY__AFTER_TIMEOUT: 'true' } })
  const frames = await ask({ headers_ms: 5_000, fail_first: 1, text: 5 }, again)
  expect(expectWholeJsonStream(frames)).toMatchObject({ type: 'done', recovered: 0 })
  expect(again.simulator.requests).toHaveLength(2)
})

it('tells of the failure that made it ask, not of the refusal of what it asked', async () => {
  const frames = jsonFrames(await ask({ text: 40, reset_at: 20, prefill: 0 }, old))
  expect(frames.at(-1)).toMatchObject({
    type: 'error',
    partial: true,
    error: { code: 'upstream_truncated', retryable: true },
  })
})

it('passes over a model that Claude does not know, and ends with the first failure when no model can answer', async () => {
  const unknown = sim({ status: 404 })
  const fallbacks = (models: string) =>
    startRig({ env: { ...env, SLUICE_RETRY__MAX_ATTEMPTS: '0', SLUICE_UPSTREAM__FALLBACK_MODELS: models } })
  const good = sim({ text: 7 })
  const own = await fallbacks(`${unknown},${good}`)
  const frames = jsonFrames(await ask({ status: 529 }, own))
  expect(frames[1]).toMatchObject({ type: 'recovery', model: good, attempt: 3 })
  expect(frames.at(-1)).toMatchObject({ type: 'done' })
  const none = await fallbacks(unknown)
  const { status, body } = await fetchAll(`${none.url}/stream`, { body: { prompt: 'hi', model: sim({ status: 529 }) } })
  expect([status, JSON.parse(body).error.code]).toEqual([503, 'upstream_overloaded'])
})

it('asks the next model when one cannot answer, and shows it', async () => {
  const fallback = sim({ text: 7 })
  const own = await startRig({
    env: { ...env, SLUICE_RETRY__MAX_ATTEMPTS: '0', SLUICE_UPSTREAM__FALLBACK_MODELS: fallback },
  })
  const frames = jsonFrames(await ask({ status: 529 }, own))
  expect(frames.map(({ type }) => type).slice(0, 4)).toEqual(['start', 'recovery', 'message', 'text'])
  expect(frames[1]).toMatchObject({ mode: 'fallback', model: fallback, reason: 'upstream_overloaded', attempt: 2 })
  expect(frames.at(-1)).toMatchObject({ type: 'done', recovered: 0 })
})

it('holds in a storm: each stream ends once, nearly all with the whole text', async () => {
  const own = await startRig({ env: { ...env, SLUICE_RETRY__BUDGET_RATIO: '1', SLUICE_RETRY__BUDGET_FLOOR: '10' } })
  const text = textOf(jsonFrames(await ask({ text: 40 }, own)))
  // A third of requests fails at first, a fifth of streams is cut.
  const scenarios = Array.from({ length: 200 }, (_, n): Scenario => {
    if (n % 10 < 3) return { text: 40, fail_first: 1, status: 529, message: `storm ${n}` }
    return n % 10 < 5
      ? { text: 40, reset_at: 3 + (n % 40), message: `storm ${n}` }
      : { text: 40, message: `storm ${n}` }
  })
  const ends = await Promise.all(
    scenarios.map(async (scenario) => {
      const stream = await open(`${own.url}/stream`, { body: { prompt: 'hi', model: sim(scenario) } })
      const frames = parseFrames(await stream.ended)
      return [expectWholeJsonStream(frames)['type'], textOf(jsonFrames(frames)) === text]
    }),
  )
  expect(ends.filter(([type, same]) => type === 'done' && same).length).toBeGreaterThanOrEqual(198)
})

it('keeps extra calls within the budget, and the rest fails at once', async () => {
  const own = await startRig({
    env: {
      ...env,
      SLUICE_RETRY__BUDGET_RATIO: '0.2',
      SLUICE_RETRY__BUDGET_FLOOR: '10',
      SLUICE_STREAMS__COMMIT_AFTER_MS: '60000',
    },
  })
  await Promise.all(
    Array.from({ length: 200 }, async (_, n) => {
      const answer = await fetchAll(`${own.url}/stream`, {
        body: { prompt: 'hi', model: sim({ text: 5, status: 500, message: `n ${n}` }) },
      })
      expect(answer.status).toBe(502)
    }),
  )
  expect(own.simulator.requests.length).toBeLessThanOrEqual(200 + 40)
  expect(own.simulator.requests.length).toBeGreaterThanOrEqual(200 + 10)
})
