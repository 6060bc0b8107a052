import { styleText } from 'node:util'
import { type Frame, SluiceClientError } from '../../client/stream.ts'
import { plain, plainLine } from './plain.ts'

type Done = Extract<Frame, { type: 'done' }>

const dim = (text: string) => (text === '' ? '' : styleText('dim', text))
/** Of a tool's input or result, about a line. */
const shownLength = 100
const nameLength = 60

/** Tells the frames of one answer to somebody at a terminal. */
export class Telling {
  #writes: 'text' | 'thinking' | undefined
  #atLineStart = true

  add(frame: Frame): string {
    switch (frame.type) {
      case 'text':
        return this.#write('text', plain(frame.text))
      case 'thinking':
        return this.#write('thinking', plain(frame.text))
      case 'tool_call':
        return this.#line(
          `→ ${plainLine(`${frame.name} ${frame.invalid ?? JSON.stringify(frame.input)}`, shownLength)}`,
        )
      case 'recovery':
        return this.#line(`(${frame.reason}: goes on)`)
      case 'done':
        return this.#line(footer(frame))
      case 'tool_result':
        return this.#line(`← ${plainLine(textOf(frame.content), shownLength)}`)
      case 'tool_approval':
        return this.#line(`(${plainLine(frame.name, nameLength)} waits for consent)`)
      case 'tool_decision':
        return this.#line(`(${plainLine(`${frame.name}: ${frame.decision}`, nameLength)})`)
      default:
        return ''
    }
  }

  /** A sentence of ours between what Claude says, on a line of its own; without one, the end of Claude's line. */
  note(text?: string): string {
    return text === undefined ? this.#toLineStart('\n') : this.#line(text)
  }

  #write(kind: 'text' | 'thinking', text: string): string {
    if (text === '') return ''
    const gap = this.#writes === undefined || this.#writes === kind ? '' : this.#toLineStart('\n\n')
    this.#writes = kind
    this.#atLineStart = text.endsWith('\n')
    return gap + (kind === 'text' ? text : dim(text))
  }

  #line(text: string): string {
    const line = `${this.#toLineStart('\n')}${dim(text)}\n`
    this.#writes = undefined
    this.#atLineStart = true
    return line
  }

  #toLineStart(otherwise: string): string {
    return this.#atLineStart ? '' : otherwise
  }
}

const textOf = (content: unknown) => (typeof content === 'string' ? content : JSON.stringify(content ?? ''))

function footer({ usage, cost_usd, timing, stop_reason, recovered }: Done): string {
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`
  const parts = [
    `${usage.input_tokens} tokens in, ${usage.output_tokens} out`,
    cost_usd !== null && `$${cost_usd.toFixed(4)}`,
    timing.ttft_ms !== null && `first word after ${seconds(timing.ttft_ms)}`,
    `${seconds(timing.duration_ms)} in all`,
    timing.tokens_per_second !== null && `${Math.round(timing.tokens_per_second)} tokens/s`,
    recovered > 0 && `broke off ${recovered === 1 ? 'once' : `${recovered} times`}`,
    stop_reason !== 'end_turn' && `ended by ${plainLine(String(stop_reason), 40)}`,
  ]
  return parts.filter((part) => part !== false).join(' · ')
}

/** @throws what is no failure of an answer */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof SluiceClientError)) throw error
  const { code, message, status } = error
  const hint = status === 401 ? ' Give a key with --key or SLUICE_KEY.' : ''
  return plain(`${message} (${code})${hint}`)
}
