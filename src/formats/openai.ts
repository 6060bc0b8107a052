import type { Block } from '../core/blocks.ts'
import type { Delta } from '../core/delta.ts'
import { type ErrorCode, errorTable, type PublicError } from '../core/errors.ts'
import { type ClaudeEvent, isTerminal, type LogEvent, type StartEvent, type TerminalEvent } from '../core/events.ts'
import type { Encoder, Format } from '../core/format.ts'
import { closing, comment, type Frames, opening } from '../core/sse.ts'
import type { Usage } from '../core/usage.ts'
import { finishReason, openaiUsage } from './openai-response.ts'

/**
 * Chat completion chunks, for the OpenAI SDKs and whatever else speaks to OpenAI.
 * @see https://platform.openai.com/docs/api-reference/chat-streaming
 */
export const openai: Format = { name: 'openai', headers: {}, heartbeat: comment('heartbeat'), encoder }

function encoder(): Encoder {
  const chunks = new Chunks()
  return (event, out) => {
    if (event.type === 'delta') chunks.delta(event, out)
    else if (isTerminal(event)) chunks.end(event, out)
    else chunks.observe(event, out)
  }
}

/** The parts of a chunk's JSON that are the same in all chunks of a stream. */
interface Parts {
  /** Up to `choices`. */
  readonly head: string
  readonly delta: string
  readonly content: string
  readonly reasoning: string
  /** Behind a delta whose last field is a string. */
  readonly closeString: string
  readonly close: string
  /** Behind the text of a call's arguments. */
  readonly closeArguments: string
  readonly end: string
}

function partsOf(id: string, model: string, { created, echo }: StartEvent): Parts {
  const head = JSON.stringify({ id: `chatcmpl-${id}`, object: 'chat.completion.chunk', created, model }).slice(0, -1)
  const delta = `${head},"choices":[{"index":0,"delta":{`
  // Chunks without the count say so when the client asked for it.
  const end = echo.include_usage ? ',"usage":null}' : '}'
  const close = `},"finish_reason":null}]${end}`
  const closeString = closing(`"${close}`)
  return {
    head,
    delta,
    content: opening(`${delta}"content":"`),
    reasoning: opening(`${delta}"reasoning_content":"`),
    closeString,
    close,
    closeArguments: closing(`"}}]${close}`),
    end,
  }
}

type BlockStart = Extract<ClaudeEvent, { type: 'content_block_start' }>
type OtherDelta = Extract<ClaudeEvent, { type: 'content_block_delta' }>

/** A call of one of the client's own tools. */
interface Call {
  /** A chunk up to the text of its arguments. */
  readonly head: string
  readonly input: unknown
  begun: boolean
}

/** The state of the fold. */
class Chunks {
  #start: StartEvent = { type: 'start', stream: '', model: '', created: 0, echo: {} }
  #parts: Parts | undefined
  #calls = 0
  /** Calls that are open, by Claude's index. */
  readonly #open = new Map<number, Call>()
  /** Thinking that is open, escaped, by Claude's index: its signature holds for the whole of it. */
  readonly #thinking = new Map<number, { escaped: string; signature: string }>()

  /** The one hot path: the payload goes from Claude's JSON into ours as it is. */
  delta({ kind, index, escaped }: Delta, out: Frames): void {
    if (escaped === '') return
    const parts = this.#ready(out)
    if (kind === 'text') {
      out.spliced(parts.content, escaped, parts.closeString)
    } else if (kind === 'thinking') {
      const thinking = this.#thinking.get(index)
      if (thinking) thinking.escaped += escaped
      out.spliced(parts.reasoning, escaped, parts.closeString)
    } else {
      const call = this.#open.get(index)
      if (call) this.#arguments(call, escaped, parts, out)
    }
  }

  observe(event: Exclude<LogEvent, Delta | TerminalEvent>, out: Frames): void {
    switch (event.type) {
      case 'start':
        this.#start = event
        break
      case 'message_start':
        // Later messages of the same answer go on under the id of the first: a completion has one.
        this.#parts ??= this.#begin(event.message.id, event.message.model, out)
        break
      case 'content_block_start':
        this.#startBlock(event, out)
        break
      case 'content_block_delta':
        this.#otherDelta(event)
        break
      case 'content_block_stop':
        this.#stopBlock(event.index, out)
        break
    }
  }

  end(event: TerminalEvent, out: Frames): void {
    if (event.type === 'done') this.#finish(event.stop_reason, event.usage, out)
    else out.data(JSON.stringify(openaiError(event.type === 'error' ? event.error : stopped)))
    out.end('with [DONE]')
  }

  #finish(stopReason: string | null, usage: Usage, out: Frames): void {
    const { head, end } = this.#ready(out)
    for (const index of [...this.#open.keys()]) this.#stopBlock(index, out)
    out.data(`${head},"choices":[{"index":0,"delta":{},"finish_reason":"${finishReason(stopReason)}"}]${end}`)
    if (!this.#start.echo.include_usage) return
    out.data(`${head},"choices":[],"usage":${JSON.stringify(openaiUsage(usage))}}`)
  }

  /** An answer without a `message_start` begins with its first content. */
  #ready(out: Frames): Parts {
    this.#parts ??= this.#begin(this.#start.stream, this.#start.model, out)
    return this.#parts
  }

  #begin(id: string, model: string, out: Frames): Parts {
    const parts = partsOf(id, model, this.#start)
    out.data(`${parts.delta}"role":"assistant","content":""${parts.close}`)
    return parts
  }

  #startBlock({ index, content_block }: BlockStart, out: Frames): void {
    const { delta, content, reasoning, close, closeString } = this.#ready(out)
    const block: Block = { ...content_block }
    if (block.type === 'text' && block['text']) out.spliced(content, inner(block['text']), closeString)
    if (block.type === 'thinking') {
      const escaped = inner(block['thinking'] ?? '')
      this.#thinking.set(index, { escaped, signature: String(block['signature'] ?? '') })
      if (escaped !== '') out.spliced(reasoning, escaped, closeString)
    }
    if (block.type === 'redacted_thinking') out.data(`${delta}"thinking_blocks":[${JSON.stringify(block)}]${close}`)
    // A completion has no place for calls that were answered meanwhile: those of the server's tools.
    if (block.type !== 'tool_use' || this.#start.tools?.includes(String(block['name']))) return
    const { id, name, input } = block
    // Clients fill an array by this index, so it counts the calls; Claude's counts all blocks.
    const at = this.#calls++
    const start = JSON.stringify({ index: at, id, type: 'function', function: { name, arguments: '' } })
    out.data(`${delta}"tool_calls":[${start}]${close}`)
    const head = opening(`${delta}"tool_calls":[{"index":${at},"function":{"arguments":"`)
    this.#open.set(index, { head, input: input ?? {}, begun: false })
  }

  #otherDelta({ index, delta }: OtherDelta): void {
    const thinking = this.#thinking.get(index)
    if (thinking && delta.type === 'signature_delta') thinking.signature = delta.signature
  }

  #stopBlock(index: number, out: Frames): void {
    const parts = this.#ready(out)
    const call = this.#open.get(index)
    // No arguments came: clients parse what they have, and an empty text does not parse.
    if (call && !call.begun) this.#arguments(call, inner(JSON.stringify(call.input)), parts, out)
    this.#open.delete(index)
    const thinking = this.#thinking.get(index)
    this.#thinking.delete(index)
    if (!thinking?.signature) return
    const block = `{"type":"thinking","thinking":"${thinking.escaped}","signature":${JSON.stringify(thinking.signature)}}`
    out.data(`${parts.delta}"thinking_blocks":[${block}]${parts.close}`)
  }

  #arguments(call: Call, escaped: string, { closeArguments }: Parts, out: Frames): void {
    call.begun = true
    out.spliced(call.head, escaped, closeArguments)
  }
}

/** A value as the inside of a JSON string. */
function inner(value: unknown): string {
  return JSON.stringify(String(value)).slice(1, -1)
}

/** A failure as OpenAI has it, in bodies and in streams. */
export interface OpenAIError {
  readonly error: {
    readonly message: string
    readonly type: string
    readonly param: string | null
    readonly code: ErrorCode
  }
}

const stopped: PublicError = { code: 'stopped', message: errorTable.stopped.message, retryable: true }

export function openaiError({ code, message }: PublicError): OpenAIError {
  return {
    error: { message, type: errorType(code), param: namesField.has(code) ? faultyField(message) : null, code },
  }
}

/** Their sentences begin with the field that is wrong. */
const namesField: ReadonlySet<ErrorCode> = new Set(['invalid_request', 'preset_conflict', 'not_allowed'])

/** More requests do not help. */
const quotaCodes: ReadonlySet<ErrorCode> = new Set([
  'budget_exhausted',
  'token_budget_exhausted',
  'spend_limit_reached',
])

function errorType(code: ErrorCode): string {
  if (quotaCodes.has(code)) return 'insufficient_quota'
  const { status } = errorTable[code]
  if (status === 429 && code !== 'too_many_wrong_keys') return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}

/** The field that such a sentence names first. */
function faultyField(message: string): string | null {
  const path = /^([^\s:]+): /.exec(message)?.[1]
  return path === undefined || path === 'body' ? null : path
}
