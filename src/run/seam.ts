import { Delta, escapeJson } from '../core/delta.ts'
import type { ClaudeEvent, LogEvent } from '../core/events.ts'
import type { Usage } from '../core/usage.ts'
import { isEnough, join } from './join.ts'
import { type Partial, textOf } from './partial.ts'

type BlockStart = Extract<ClaudeEvent, { type: 'content_block_start' }>

/**
 * Makes the answer to the request for the rest what follows in the log: the same message, whose blocks count on, and in
 * which the open text block goes on. One for each continuation; a fold over its events.
 */
export class Seam {
  readonly #usage: () => Usage
  readonly #before: string
  readonly #mode: 'prefill' | 'quote'
  /** The text block under way that waits to be gone on with. */
  #waiting: number | undefined
  #next: number
  /** Where blocks of the continuation go; `undefined` for those that readers do not get. */
  readonly #indexes = new Map<number, number | undefined>()
  /** The first text: its beginning is held back until it can be joined. */
  #joining: { readonly index: number; start: BlockStart | undefined; held: string } | undefined
  #joined = false

  /** @param usage of all attempts at this message, for its final count */
  constructor(partial: Partial, mode: 'prefill' | 'quote', usage: () => Usage) {
    this.#usage = usage
    this.#before = textOf(partial)
    this.#mode = mode
    this.#waiting = partial.openText
    this.#next = partial.nextIndex
    this.#joined = partial.openText === undefined && this.#before === ''
  }

  take(events: readonly LogEvent[]): LogEvent[] {
    return events.flatMap((event) => this.#take(event))
  }

  #take(event: LogEvent): LogEvent[] {
    switch (event.type) {
      case 'message_start':
        return []
      case 'content_block_start':
        return this.#start(event)
      case 'delta':
        return this.#delta(event)
      case 'content_block_delta': {
        const index = this.#indexes.get(event.index)
        const before = this.#flush(event.index, 'goes on')
        return index === undefined ? before : [...before, { ...event, index }]
      }
      case 'content_block_stop':
        return this.#stop(event.index)
      case 'message_delta':
        return [
          ...this.#endJoining(),
          ...this.#endWaiting(),
          { ...event, usage: { ...event.usage, ...countsOf(this.#usage()) } },
        ]
      default:
        return [event]
    }
  }

  #start(event: BlockStart): LogEvent[] {
    const { type } = event.content_block
    if (type === 'text' && !this.#joined) return this.#beginToJoin(event)
    // It thinks anew before it goes on with a text that readers are in the middle of.
    const hidden = this.#waiting !== undefined && (type === 'thinking' || type === 'redacted_thinking')
    this.#indexes.set(event.index, undefined)
    if (hidden) return []
    // Behind its thoughts the first text is still to be joined.
    if (type !== 'thinking' && type !== 'redacted_thinking') this.#joined = true
    const before = [...this.#endJoining(), ...this.#endWaiting()]
    const index = this.#next++
    this.#indexes.set(event.index, index)
    return [...before, { ...event, index }]
  }

  #beginToJoin(event: BlockStart): LogEvent[] {
    const text = 'text' in event.content_block ? String(event.content_block.text) : ''
    const goesOn = this.#waiting !== undefined
    const index = this.#waiting ?? this.#next++
    this.#waiting = undefined
    this.#joined = true
    this.#indexes.set(event.index, index)
    const start = { ...event, index, content_block: { ...event.content_block, text: '' } } as BlockStart
    this.#joining = { index: event.index, start: goesOn ? undefined : start, held: text }
    return []
  }

  #delta(delta: Delta): LogEvent[] {
    if (this.#joining?.index === delta.index && delta.kind === 'text') {
      this.#joining.held += delta.text
      return isEnough(this.#before, this.#joining.held) ? this.#flush(delta.index, 'goes on') : []
    }
    const index = this.#indexes.get(delta.index)
    return index === undefined
      ? []
      : [new Delta(delta.kind, index, delta.escaped, index === delta.index ? delta.raw : undefined)]
  }

  #stop(of: number): LogEvent[] {
    const index = this.#indexes.get(of)
    const unborn = this.#joining?.index === of && this.#joining.start
    const before = this.#flush(of, 'ends')
    if (unborn && before.length === 0) {
      // A text block of which nothing is new was never begun.
      this.#next--
      this.#joined = false
      return []
    }
    if (index === undefined) return before
    return [...before, { type: 'content_block_stop', index }]
  }

  /** Lets go of what is held of a block. */
  #flush(of: number, then: 'ends' | 'goes on'): LogEvent[] {
    const joining = this.#joining
    const index = this.#indexes.get(of)
    if (joining?.index !== of || index === undefined) return []
    this.#joining = undefined
    // The blanks at its end were left out of an assistant turn, so the rest begins with them.
    const blanks = this.#mode === 'prefill' ? this.#before.slice(this.#before.trimEnd().length) : ''
    const text = join(this.#before, joining.held.startsWith(blanks) ? joining.held.slice(blanks.length) : joining.held)
    const start = joining.start && (text !== '' || then === 'goes on') ? [joining.start] : []
    return text === '' ? start : [...start, new Delta('text', index, escapeJson(text))]
  }

  /** Upstream went on without ending the block whose beginning is held. */
  #endJoining(): LogEvent[] {
    return this.#joining ? this.#stop(this.#joining.index) : []
  }

  /** Nothing goes on with the open text block. */
  #endWaiting(): LogEvent[] {
    const index = this.#waiting
    this.#waiting = undefined
    return index === undefined ? [] : [{ type: 'content_block_stop', index }]
  }
}

/** As Claude writes them: that they are an estimate in part is for the terminal event to say. */
function countsOf({ measured: _, ...counts }: Usage): Omit<Usage, 'measured'> {
  return counts
}
