import { compose } from '../../src/simulator/compose.ts'
import type { WireFrame } from './client.ts'

/** What one reader has seen of one stream, over all its connections. */
export interface Transcript {
  readonly format: string
  /** Frames with an id, in the order in which they came. */
  readonly frames: readonly SeenFrame[]
  readonly connections: number
  /**
   * `whole`: the end of the format; `known`: 204, as the terminal frame was there already; anything else is a failure,
   * told in a few words.
   */
  readonly end: string
  /** Frames without an id that are no heartbeat: what this reader alone was told at its end, such as a loss. */
  readonly announcement: readonly WireFrame[]
  /** Frames behind the end. There must be none. */
  readonly strays: readonly WireFrame[]
}

export interface SeenFrame {
  readonly id: string
  /** The number in the id. */
  readonly n: number
  readonly event?: string
  readonly data?: string
  /** Which connection it came on, from 1. */
  readonly connection: number
  /** Monotonic milliseconds. */
  readonly at: number
}

/** What is wrong with a transcript; all zero is right. */
export interface Verdict {
  /** Frames of the golden transcript that the reader never got. */
  lost: number
  /** Frames that came under an id that had been seen with other content, or that the golden transcript has not. */
  duplicated: number
  /** Frames behind one with a higher number that are no repetition. */
  out_of_order: number
  /** Numbers that were skipped, wherever the reader began. */
  gaps: number
  /** 1 unless there was exactly one terminal frame, last, and nothing behind it. */
  terminals_wrong: number
}

export const clean = (): Verdict => ({ lost: 0, duplicated: 0, out_of_order: 0, gaps: 0, terminals_wrong: 0 })

export const isClean = (verdict: Verdict): boolean => Object.values(verdict).every((count) => count === 0)

export function add(sum: Verdict, verdict: Verdict): void {
  for (const field of Object.keys(clean()) as (keyof Verdict)[]) sum[field] += verdict[field]
}

/**
 * Judges what a reader got.
 * @param golden the same stream read in one go; without it only what can be told from the transcript alone is counted
 * @param first the number that the reader's first frame must have
 */
export function judge(transcript: Transcript, golden?: Transcript, first = 1): Verdict {
  const verdict = clean()
  const seen = new Map<number, SeenFrame>()
  const stream = transcript.frames[0]?.id.replace(/\.\d+$/, '')
  let last = first - 1
  for (const frame of transcript.frames) {
    const known = seen.get(frame.n)
    const foreign = frame.id !== `${stream}.${frame.n}`
    if (foreign || (known && contentOf(known) !== contentOf(frame))) verdict.duplicated++
    else if (!known && frame.n <= last) verdict.out_of_order++
    else if (frame.n > last + 1) verdict.gaps += frame.n - last - 1
    if (!known) seen.set(frame.n, frame)
    last = Math.max(last, frame.n)
  }
  if (golden) compare(seen, golden, first, verdict)
  const terminals = [...seen.values()].filter((frame) => isTerminal(transcript.format, frame))
  const ended = transcript.end === 'whole' || transcript.end === 'known'
  const right = announced(transcript) ? terminals.length === 0 : terminals.length === 1 && terminals[0]?.n === last
  if (!ended || !right || transcript.strays.length > 0) verdict.terminals_wrong = 1
  return verdict
}

function compare(seen: ReadonlyMap<number, SeenFrame>, golden: Transcript, first: number, verdict: Verdict): void {
  const expected = new Map(golden.frames.map((frame) => [frame.n, contentOf(frame)]))
  for (const [n, content] of expected) {
    if (n < first) continue
    const frame = seen.get(n)
    if (!frame) verdict.lost++
    else if (contentOf(frame) !== content) verdict.duplicated++
  }
  for (const n of seen.keys()) if (!expected.has(n)) verdict.duplicated++
}

const contentOf = ({ event, data }: WireFrame) => JSON.stringify([event, data])

/** The terminal frame, if the reader got one. */
export function terminalOf({ format, frames }: Transcript): SeenFrame | undefined {
  return frames.find((frame) => isTerminal(format, frame))
}

/** The terminal frame that was for this reader alone, and has no id. */
export function announced({ format, announcement }: Transcript): WireFrame | undefined {
  return announcement.find((frame) => isTerminal(format, { ...frame, n: Number.POSITIVE_INFINITY }))
}

/** The JSON of a frame, or of anything else nothing. */
function parse({ data }: WireFrame): Json {
  return data?.startsWith('{') ? (JSON.parse(data) as Json) : {}
}

interface Json {
  readonly type?: string
  readonly text?: unknown
  readonly delta?: unknown
  readonly error?: unknown
  readonly choices?: readonly { readonly delta?: { readonly content?: string }; readonly finish_reason?: unknown }[]
}

/** How each format ends, and where it has Claude's text. */
const shapes: Readonly<
  Record<string, { ends(frame: WireFrame, n: number): boolean; text(frame: WireFrame): unknown }>
> = {
  json: {
    ends: (frame) => ['done', 'error', 'cancelled'].includes(parse(frame).type ?? ''),
    text: (frame) => parse(frame).type === 'text' && parse(frame).text,
  },
  text: {
    ends: (frame, n) => frame.event === 'stream_error' || (n > 1 && frame.data === undefined),
    text: (frame) => frame.event === undefined && frame.data,
  },
  anthropic: {
    ends: ({ event }) => event === 'message_stop' || event === 'error',
    text: (frame) => {
      const { delta } = parse(frame) as { delta?: Json }
      return delta?.type === 'text_delta' && delta.text
    },
  },
  openai: {
    ends: (frame) => parse(frame).error !== undefined || Boolean(parse(frame).choices?.[0]?.finish_reason),
    text: (frame) => parse(frame).choices?.[0]?.delta?.content,
  },
  'ai-sdk': {
    ends: (frame) => parse(frame).type === 'finish',
    text: (frame) => parse(frame).type === 'text-delta' && parse(frame).delta,
  },
  'ag-ui': {
    ends: (frame) => ['RUN_FINISHED', 'RUN_ERROR'].includes(parse(frame).type ?? ''),
    text: (frame) => parse(frame).type === 'TEXT_MESSAGE_CONTENT' && parse(frame).delta,
  },
}

/** Every format these tools can judge. */
export const formatNames = Object.keys(shapes)

/** Formats whose clients stop at the terminal frame, as no `[DONE]` follows. */
export const hasDoneMark = (format: string): boolean => format !== 'anthropic' && format !== 'ag-ui'

export function isTerminal(format: string, frame: WireFrame & { readonly n: number }): boolean {
  return shapeOf(format).ends(frame, frame.n)
}

function shapeOf(format: string) {
  const shape = shapes[format]
  if (!shape) throw new Error(`there is no format ${format}`)
  return shape
}

/** Claude's text as a reader has it once repetitions are dropped. */
export function textOf({ format, frames }: Transcript): string {
  const { text } = shapeOf(format)
  const once = new Map(frames.map((frame) => [frame.n, frame]))
  const pieces = [...once.values()].sort((a, b) => a.n - b.n).map(text)
  return pieces.filter((piece) => typeof piece === 'string').join('')
}

/** What the simulated Claude says in `deltas` deltas of text, without stamps. */
export function spokenText(deltas: number): string {
  const request = { model: 'claude-sim', max_tokens: deltas, messages: [{ role: 'user', content: '' }] }
  const events = [...compose(request, { text: deltas }, 'msg_sim_0')] as { delta?: { text?: string } }[]
  return events.map(({ delta }) => delta?.text ?? '').join('')
}

/**
 * Compares a text whose deltas are stamped (`stamp=1` of the simulator) with what was said: each stamp is one delta, so
 * what the log lost, or holds twice, shows here even if every reader got the same.
 * @param deltas how many were said
 */
export function judgeText(stamped: string, deltas: number): Pick<Verdict, 'lost' | 'duplicated' | 'out_of_order'> {
  const stamps = [...stamped.matchAll(/@(\d+);/g)].map(([, stamp]) => BigInt(stamp as string))
  const distinct = new Set(stamps).size
  const backwards = stamps.filter((stamp, n) => n > 0 && stamp < (stamps[n - 1] as bigint)).length
  const words = stamped.replaceAll(/@\d+;/g, '')
  // All there, none twice, and yet not the text that was said: a piece has been damaged.
  const damaged = distinct === stamps.length && !spokenText(distinct).startsWith(words) ? 1 : 0
  return {
    lost: Math.max(0, deltas - distinct) + damaged,
    duplicated: stamps.length - distinct,
    out_of_order: backwards,
  }
}
