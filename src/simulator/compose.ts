import { pausesBefore, signatureOf, stepsBefore } from './conversation.ts'
import type { Scenario } from './scenario.ts'

/** An event to be sent: Claude's JSON, not yet bytes. */
export interface WireEvent {
  readonly type: string
  readonly [field: string]: unknown
}

/** What of a Messages API request decides on the answer. */
export interface SimulatedRequest {
  readonly model: string
  readonly max_tokens: number
  readonly messages: readonly { readonly role: string; readonly content: unknown }[]
  readonly tools?: readonly { readonly name?: string; readonly type?: string }[]
}

const sentences = [
  'A sluice lets through what should flow and holds back what should not.',
  'Each word you read here left a simulated Claude a moment ago, travelled through a socket, and was framed anew.',
  'Line breaks survive:\n\n- so do lists,\n- so does `code`,\n- and so do – dashes, “quotes” and ümlauts.\n\n',
  'Emoji arrive whole: 🌊 👩‍👩‍👧 🇨🇭 and so does 水門, which is what a sluice gate is called elsewhere.',
  'Close this connection and, after a little while, nobody pays for words that nobody reads.',
  'Come back with the id of the last frame you saw, and you get the rest: nothing twice, nothing missing.',
]

/** The words of each sentence with the blanks behind them. */
const wordsBySentence = sentences.map((sentence) => wordsOf(sentence.endsWith('\n') ? sentence : `${sentence} `))
const wordCount = wordsBySentence.flat().length

/** Words for ever. Sentences that come again are numbered: no two places look alike. */
function* words(): Generator<string> {
  for (const sentence of wordsBySentence) yield* sentence
  for (let n = 1; ; n++) {
    yield `(${n}) `
    yield* wordsBySentence[(n - 1) % wordsBySentence.length] ?? []
  }
}

function wordsOf(text: string): string[] {
  return text.match(/\S+\s*/g) ?? []
}

/** The events of an answer to `request`, lazily, as an endless one must not fill the memory. */
export function* compose(request: SimulatedRequest, scenario: Scenario, id: string): Generator<WireEvent> {
  const result = toolResults(request)
  const paused = pausesBefore(request.messages)
  const pauses = paused.length < (scenario.pause ?? 0)
  const wanted = pauses ? [] : toolsFor(request, scenario, result)
  const planned = scenario.text ?? (wanted.length > 0 || pauses ? 8 : wordCount)
  const texts = Math.min(planned, request.max_tokens)
  const tools = texts < planned ? [] : wanted
  const thinking = scenario.thinking ?? 0
  const input_tokens = Math.ceil(JSON.stringify(request.messages).length / 4)
  const usage = { input_tokens, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 1 }

  const message = { id, type: 'message', role: 'assistant', model: request.model, content: [] }
  yield { type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null, usage } }
  yield { type: 'ping' }
  let index = 0
  if (paused.length > 0) yield* wholeBlock(index++, searchResult(paused.at(-1)))
  if (thinking > 0) yield* thinkingBlock(index++, thinking, scenario)
  if (texts > 0) yield* textBlock(index++, texts, scenario, result)
  for (const [n, tool] of tools.entries()) yield* toolBlock(index++, 'tool_use', tool, callId(id, n), scenario)
  if (pauses) yield* toolBlock(index++, 'server_tool_use', 'web_search', `srv${callId(id, 0)}`, scenario)
  const ends = tools.length > 0 ? 'tool_use' : pauses ? 'pause_turn' : 'end_turn'
  const stop_reason = scenario.stop_reason ?? (texts < planned ? 'max_tokens' : ends)
  const output_tokens = thinking + texts + 12 * (tools.length + (pauses ? 1 : 0))
  yield { type: 'message_delta', delta: { stop_reason, stop_sequence: null }, usage: { output_tokens } }
  yield { type: 'message_stop' }
}

const callId = (id: string, n: number): string => `toolu_${id.slice(4)}${n === 0 ? '' : `_${n}`}`

/** The tools that are called: those of the scenario in as many steps as it says, or the one that a question names. */
function toolsFor(request: SimulatedRequest, { tool, steps }: Scenario, result: string | undefined): readonly string[] {
  if (tool !== undefined) return steps === undefined || stepsBefore(request.messages) < steps ? tool.split(',') : []
  const asked = result === undefined ? askedTool(request) : undefined
  return asked === undefined ? [] : [asked]
}

function searchResult(tool_use_id: unknown): object {
  const found = {
    type: 'web_search_result',
    url: 'https://example.com/',
    title: 'Sluices',
    encrypted_content: 'c2x1aWNl',
  }
  return { type: 'web_search_tool_result', tool_use_id, content: [{ ...found, page_age: null }] }
}

function* wholeBlock(index: number, content_block: object): Generator<WireEvent> {
  yield { type: 'content_block_start', index, content_block }
  yield { type: 'content_block_stop', index }
}

function* thinkingBlock(index: number, count: number, scenario: Scenario): Generator<WireEvent> {
  yield { type: 'content_block_start', index, content_block: { type: 'thinking', thinking: '', signature: '' } }
  let thought = ''
  const thoughts = deltas(count, scenario, words(), (text) => ({
    type: 'content_block_delta',
    index,
    delta: { type: 'thinking_delta', thinking: text },
  }))
  for (const event of thoughts) {
    thought += (event['delta'] as { thinking: string }).thinking
    yield event
  }
  const signature = signatureOf(index, thought)
  yield { type: 'content_block_delta', index, delta: { type: 'signature_delta', signature } }
  yield { type: 'content_block_stop', index }
}

function* textBlock(index: number, count: number, scenario: Scenario, result?: string): Generator<WireEvent> {
  yield { type: 'content_block_start', index, content_block: { type: 'text', text: '' } }
  const source = result === undefined ? words() : resultWords(result)
  yield* deltas(count, scenario, source, (text) => ({
    type: 'content_block_delta',
    index,
    delta: { type: 'text_delta', text },
  }))
  yield { type: 'content_block_stop', index }
}

function* resultWords(result: string): Generator<string> {
  yield* wordsOf(`The tool said: ${result}\n\n`)
  yield* words()
}

function* deltas(
  count: number,
  { bytes, stamp }: Scenario,
  source: Generator<string>,
  toEvent: (text: string) => WireEvent,
): Generator<WireEvent> {
  const filler = bytes === undefined ? undefined : 'abcdefghijklmnopqrstuvwxyz '.repeat(bytes / 27 + 1).slice(0, bytes)
  // The same event over and over lets `wire` reuse its bytes: that is what makes full speed fast.
  const repeated = filler === undefined || stamp ? undefined : toEvent(filler)
  for (let n = 0; n < count; n++) {
    if (repeated) yield repeated
    // Events are pulled just before they are written, so this is the time of the write.
    else yield toEvent((stamp ? `@${process.hrtime.bigint()};` : '') + (filler ?? source.next().value))
  }
}

const standardInput = JSON.stringify({ location: 'Zürich', unit: 'celsius', days: 3 })

function* toolBlock(
  index: number,
  type: 'tool_use' | 'server_tool_use',
  name: string,
  id: string,
  { input = standardInput }: Scenario,
): Generator<WireEvent> {
  yield { type: 'content_block_start', index, content_block: { type, id, name, input: {} } }
  for (const partial_json of ['', ...(input.match(/.{1,7}/gsu) ?? [])]) {
    yield { type: 'content_block_delta', index, delta: { type: 'input_json_delta', partial_json } }
  }
  yield { type: 'content_block_stop', index }
}

function lastContent(request: SimulatedRequest): unknown {
  return request.messages.at(-1)?.content
}

/** The text of the tool results that the request brings, if it brings any. */
function toolResults(request: SimulatedRequest): string | undefined {
  const content = lastContent(request)
  const blocks = Array.isArray(content) ? content.filter((each) => each?.type === 'tool_result') : []
  if (blocks.length === 0) return undefined
  return blocks
    .map(({ content }) => (typeof content === 'string' ? content : JSON.stringify(content ?? '')))
    .join(' | ')
}

/** The tool that a prompt asks for by its name. */
function askedTool(request: SimulatedRequest): string | undefined {
  const prompt = JSON.stringify(lastContent(request) ?? '')
  if (!Array.isArray(request.tools)) return undefined
  return request.tools
    .filter((tool) => tool?.type === undefined || tool.type === 'custom')
    .map((tool) => tool?.name)
    .find((name) => typeof name === 'string' && prompt.includes(name))
}

let lastEvent: WireEvent | undefined
let lastWire = ''

/** An event as Anthropic writes it, bytes as latin1: `event:` and `data:` lines, and at times blanks before the last brace. */
export function wire(event: WireEvent): string {
  if (event === lastEvent) return lastWire
  const json = Buffer.from(JSON.stringify(event), 'utf8').toString('latin1')
  const padding = ' '.repeat((json.length * 7) % 13)
  lastEvent = event
  lastWire = `event: ${event.type}\ndata: ${json.slice(0, -1)}${padding}}\n\n`
  return lastWire
}
