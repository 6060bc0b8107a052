import { z } from 'zod'

const count = z.coerce.number().int().min(0).max(10_000_000)
const wait = z.coerce.number().min(0).max(3_600_000)
const flag = z.enum(['0', '1']).transform((value) => value === '1')

/**
 * What the simulated Claude does with one request. It travels in the model name, behind a `?`, as a query string
 * (`claude-sim?text=500&delay_ms=20&error_at=40`): the one field that every SDK, proxy and gateway hands through.
 * Positions `…_at` count events from 0, positions `…_at_byte` bytes of the body.
 */
export const scenarioFields = {
  recording: z
    .string()
    .regex(/^[\w.-]+$/)
    .describe('replay this recording, byte for byte'),
  pace: z.enum(['recorded']).describe('`recorded`: play the recording with the times it was made with'),
  speed: z.coerce.number().min(0.01).max(1_000).describe('with `pace`: so many times as fast'),
  text: count.describe('number of text deltas to make'),
  bytes: count.max(60_000).describe('characters in each delta; without it, a word each'),
  thinking: count.describe('number of thinking deltas before the text'),
  tool: z
    .string()
    .regex(/^[\w-]{1,64}(,[\w-]{1,64})*$/)
    .describe('end with a call of this tool; of several, separated by commas, all at once'),
  steps: count.describe('call tools in so many answers; the next one tells their last results. Without it: for ever'),
  input: z.string().max(10_000).describe('input of the calls, as it is sent: it need not be valid JSON'),
  pause: count.describe('so many answers pause in the middle of a search, until they are sent back'),
  stop_reason: z
    .string()
    .regex(/^\w{1,64}$/)
    .describe('say that this is why it stopped'),
  continue: z.enum(['exact', 'repeat', 'capital', 'announce']).describe('how an interrupted answer goes on'),
  prefill: flag.describe('`0`: refuse messages that end with an assistant turn, as newer models do'),
  stamp: flag.describe('begin each delta with `@<monotonic ns>;`, for measuring latency'),

  headers_ms: wait.describe('wait before the response headers'),
  first_ms: wait.describe('wait between the headers and the first event'),
  delay_ms: wait.describe('wait before each delta'),
  ping_ms: wait.describe('send a ping this often while waiting'),
  per_write: count.min(1).describe('events in one write'),
  split: count.min(1).describe('cut what is sent into writes of so many bytes'),
  lines: z.enum(['lf', 'crlf', 'cr']).describe('line ends of the body'),

  fail_first: count.describe('only the first so many requests of this model name fail; later ones go well'),
  fail_step: count.min(1).describe('only answers fail that are this step, counted from 1'),
  fail_continuations: flag.describe('requests to go on with an answer fail, too'),
  status: z.coerce.number().int().min(300).max(599).describe('answer with this status'),
  error: z
    .string()
    .regex(/^\w{1,64}$/)
    .describe('error type, with status or error_at'),
  error_code: z
    .string()
    .regex(/^\w{1,64}$/)
    .describe('details.error_code of the error'),
  message: z.string().max(1000).describe('message of the error'),
  retry_after: z.string().max(64).describe('Retry-After header of the error'),
  location: z.string().max(1000).describe('Location header, with status 302'),
  encoding: z.string().regex(/^\w+$/).describe('claim this Content-Encoding'),
  error_at: count.describe('send an error event here'),
  silence_at: count.describe('send nothing more from here on, and stay open'),
  pings_at: count.describe('send nothing but pings from here on'),
  junk_at: count.describe('break the JSON of this event'),
  unknown_at: count.describe('insert an event, a block and a delta of unknown types here'),
  endless_line_at: count.describe('send a line that never ends from here on'),
  end_at: count.describe('end the body cleanly before this event'),
  end_at_byte: count.describe('end the body cleanly at this byte'),
  reset_at: count.describe('reset the connection before this event'),
  reset_at_byte: count.describe('reset the connection at this byte'),
  refuse: flag.describe('reset the connection before the response headers'),
} as const

const schema = z.strictObject(scenarioFields).partial()

export type Scenario = z.output<typeof schema>

/** What of an answer decides on whether it fails. */
interface AnswerFacts {
  /** It is the rest of one. */
  readonly continues: boolean
  /** One more than the turns with results of tools before it. */
  readonly step: number
}

/** The fields that make an answer fail. */
const faultFields = new Set<string>([
  'status',
  'headers_ms',
  'encoding',
  'error_at',
  'silence_at',
  'pings_at',
  'junk_at',
  'endless_line_at',
  'end_at',
  'end_at_byte',
  'reset_at',
  'reset_at_byte',
  'refuse',
] satisfies (keyof Scenario)[])

/**
 * The scenario of one request: an answer that broke off can be gone on with, unless the scenario has that fail as well.
 * @param call which request with `fail_first` it is, counted from 1
 */
export function faultsFor(scenario: Scenario, call: number, { continues, step }: AnswerFacts): Scenario {
  const { fail_first, fail_continuations, fail_step = step } = scenario
  if (step !== fail_step) return withoutFaults(scenario)
  const fails = fail_first === undefined ? !continues || fail_continuations : call <= fail_first
  return fails ? scenario : withoutFaults(scenario)
}

function withoutFaults(scenario: Scenario): Scenario {
  return Object.fromEntries(Object.entries(scenario).filter(([field]) => !faultFields.has(field)))
}

/**
 * Reads a scenario as it stands behind the `?` of a model name.
 * @throws ZodError naming the parameters that are unknown or wrong
 */
export function parseScenario(query: string, defaults: Scenario = {}): Scenario {
  return { ...defaults, ...schema.parse(Object.fromEntries(new URLSearchParams(query))) }
}
