import { Delta } from '../core/delta.ts'
import { isToolEvent, type LogEvent, type TerminalEvent } from '../core/events.ts'

type ClaudesEnd = Extract<LogEvent, { type: 'message_delta' }>

/**
 * Makes one message of an answer in several steps, for clients that know nothing of the server's tools: theirs are not
 * shown, nor the ends of the messages before the last. One for each log; a fold over its events.
 */
export class FoldedSteps {
  readonly #tools: ReadonlySet<string>
  #begun = false
  /** Where the blocks of the step under way go; `undefined` for calls that are not shown. */
  readonly #indexes = new Map<number, number | undefined>()
  #next = 0
  /** How the last message ended, until it is known to be the last. */
  #end: ClaudesEnd | undefined

  /** @param tools the server's */
  constructor(tools: readonly string[]) {
    this.#tools = new Set(tools)
  }

  fold(event: Exclude<LogEvent, TerminalEvent>): LogEvent[] {
    if (event.type === 'delta') return this.#delta(event)
    switch (event.type) {
      case 'message_start':
        this.#indexes.clear()
        if (this.#begun) return []
        this.#begun = true
        return [event]
      case 'content_block_start': {
        const { type, name } = event.content_block as { type: string; name?: unknown }
        const hidden = type === 'tool_use' && this.#tools.has(String(name))
        const index = hidden ? undefined : this.#next++
        this.#indexes.set(event.index, index)
        return index === undefined ? [] : [{ ...event, index }]
      }
      case 'content_block_delta':
      case 'content_block_stop': {
        const index = this.#indexes.get(event.index)
        return index === undefined ? [] : [{ ...event, index }]
      }
      case 'message_delta':
        this.#end = event
        return []
      case 'message_stop':
        return []
      default:
        return isToolEvent(event) ? [] : [event]
    }
  }

  /** What comes before the end of the log. */
  end(event: TerminalEvent): LogEvent[] {
    if (event.type !== 'done' || !this.#end) return []
    const { measured: _, ...usage } = event.usage
    return [{ ...this.#end, usage: { ...this.#end.usage, ...usage } }, { type: 'message_stop' }]
  }

  #delta(delta: Delta): LogEvent[] {
    const index = this.#indexes.get(delta.index)
    if (index === undefined) return []
    if (index === delta.index) return [delta]
    const raw = delta.raw === undefined ? undefined : JSON.stringify({ ...JSON.parse(delta.raw), index })
    return [new Delta(delta.kind, index, delta.escaped, raw)]
  }
}
