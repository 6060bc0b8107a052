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
  readonly tools?: readonly { readonly name?: string }[]
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
  const result = toolResult(request)
  const wanted = scenario.tool ?? (result === undefined ? askedTool(request) : undefined)
  const planned = scenario.text ?? (wanted ? 8 : wordCount)
  const texts = Math.min(planned, request.max_tokens)
  const tool = texts < planned ? undefined : wanted
  const thinking = scenario.thinking ?? 0
  const input_tokens = Math.ceil(JSON.stringify(request.messages).length / 4)
  const usage = { input_tokens, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 1 }

  const message = { id, type: 'message', role: 'assistant', model: request.model, content: [] }
  yield { type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null, usage } }
  yield { type: 'ping' }
  let index = 0
  if (thinking > 0) yield* thinkingBlock(index++, thinking, scenario)
  if (texts > 0) yield* textBlock(index++, texts, scenario, result)
  if (tool) yield* toolBlock(index++, tool, id)
  const stop_reason = texts < planned ? 'max_tokens' : tool ? 'tool_use' : 'end_turn'
  const output_tokens = thinking + texts + (tool ? 12 : 0)
  yield { type: 'message_delta', delta: { stop_reason, stop_sequence: null }, usage: { output_tokens } }
  yield { type: 'message_stop' }
}

function* thinkingBlock(index: number, count: number, scenario: Scenario): Generator<WireEvent> {
  yield { type: 'content_block_start', index, content_block: { type: 'thinking', thinking: '', signature: '' } }
  yield* deltas(count, scenario, words(), (text) => ({
    type: 'content_block_delta',
    index,
    delta: { type: 'thinking_delta', thinking: text },
  }))
  const signature = Buffer.from(`signature of block ${index}`).toString('base64')
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

function* toolBlock(index: number, name: string, id: string): Generator<WireEvent> {
  const block = { type: 'tool_use', id: `toolu_${id.slice(4)}`, name, input: {} }
  yield { type: 'content_block_start', index, content_block: block }
  const json = JSON.stringify({ location: 'Zürich', unit: 'celsius', days: 3 })
  for (const partial_json of ['', ...(json.match(/.{1,7}/gsu) ?? [])]) {
    yield { type: 'content_block_delta', index, delta: { type: 'input_json_delta', partial_json } }
  }
  yield { type: 'content_block_stop', index }
}

function lastContent(request: SimulatedRequest): unknown {
  return request.messages.at(-1)?.content
}

/** The text of the tool result that the request brings, if it brings one. */
function toolResult(request: SimulatedRequest): string | undefined {
  const content = lastContent(request)
  if (!Array.isArray(content)) return undefined
  const block = content.find((each) => each?.type === 'tool_result')
  if (!block) return undefined
  return typeof block.content === 'string' ? block.content : JSON.stringify(block.content ?? '')
}

/** The tool that a prompt asks for by its name. */
function askedTool(request: SimulatedRequest): string | undefined {
  const prompt = JSON.stringify(lastContent(request) ?? '')
  return request.tools?.map((tool) => tool.name).find((name) => name !== undefined && prompt.includes(name))
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
