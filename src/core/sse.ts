/**
 * The only writer of Server-Sent Events in the program: every `id:`, `event:` and `data:` line comes from here.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */

/** A comment line as a frame of its own: every SSE parser skips it, and it never touches the last event id. */
export function comment(text: string): string {
  return `: ${text}\n\n`
}

/** A frame with an event name and no id: a heartbeat that clients of the format see as an event. */
export function unnumbered(name: string, line: string): string {
  return `event: ${name}\ndata: ${line}\n\n`
}

/**
 * The beginning of a frame up to somewhere in its line of data, for `Frames.spliced`.
 * @param name of the event, if it has one, without line breaks
 */
export function opening(line: string, name?: string): string {
  return name === undefined ? `data: ${line}` : `event: ${name}\ndata: ${line}`
}

/** The rest of such a frame. */
export function closing(line: string): string {
  return `${line}\n\n`
}

/**
 * Tells an `EventSource` how long to wait before it reconnects; nothing is dispatched.
 * @param delayMs in milliseconds
 */
export function reconnectAfter(delayMs: number): string {
  return `retry: ${delayMs}\n\n`
}

/** Ends the frames of formats that have such a mark. It carries no id, so that a resume never lands behind it. */
const doneFrame = 'data: [DONE]\n\n'

/** CR, LF and CRLF all end a line for an SSE parser, so each must begin a new `data:` line. */
const lineBreak = /\r\n|\r|\n/g

/**
 * Collects the numbered frames of one format over one log. Frames up to `after` are counted and dropped, which is all
 * that resuming is: the same fold, from the first event, with its beginning left out.
 */
export class Frames {
  readonly #idPrefix: string | undefined
  readonly #after: number
  #count = 0
  #pending = ''
  #ended = false

  /**
   * @param streamId must be free of line breaks; ids come from `newStreamId`. Without one the frames carry no ids: they
   * are no part of the log, and a client's position does not move.
   * @param after the number of the last frame the client has, 0 for none, `Infinity` to count only
   */
  constructor(streamId: string | undefined, after = 0) {
    this.#idPrefix = streamId && `id: ${streamId}.`
    this.#after = after
  }

  /** The number of the last frame, sent or dropped. */
  get count(): number {
    return this.#count
  }

  /** True once the terminal frame has been taken in: nothing follows. */
  get ended(): boolean {
    return this.#ended
  }

  /** Characters collected since the last `take`. */
  get length(): number {
    return this.#pending.length
  }

  /** A frame with one line of data, such as the output of `JSON.stringify`, which never holds a raw line break. */
  data(line: string): void {
    if (++this.#count <= this.#after) return
    this.#pending += `${this.#id()}data: ${line}\n\n`
  }

  /**
   * The same from what `opening` and `closing` made and a payload between them that is in JSON already: with so few parts
   * a delta's frame takes half the time to put together (66 against 117 ns).
   */
  spliced(opening: string, payload: string, closing: string): void {
    if (++this.#count <= this.#after) return
    this.#pending += `${this.#id()}${opening}${payload}${closing}`
  }

  /** A frame with text of any shape; a parser gives it back with every line break as LF. */
  text(text: string): void {
    this.data(/[\r\n]/.test(text) ? text.replace(lineBreak, '\ndata: ') : text)
  }

  /** A frame with an event name, which reaches listeners of that name instead of `onmessage`. */
  event(name: string, line: string): void {
    if (++this.#count <= this.#after) return
    // Names of unknown events are upstream's words: a line break in one would begin a field of its own.
    const safe = name.replace(/[\r\n\0]/g, '')
    this.#pending += `${this.#id()}event: ${safe}\ndata: ${line}\n\n`
  }

  /** A frame with an id alone: it moves the client's position and dispatches nothing. */
  mark(): void {
    if (++this.#count <= this.#after || this.#idPrefix === undefined) return
    this.#pending += `${this.#id()}\n`
  }

  #id(): string {
    return this.#idPrefix === undefined ? '' : `${this.#idPrefix}${this.#count}\n`
  }

  /** Ends the frames; `[DONE]` goes out even when the terminal frame itself is already known to the client. */
  end(done: 'with [DONE]' | 'without [DONE]'): void {
    this.#ended = true
    if (done === 'with [DONE]') this.#pending += doneFrame
  }

  /** All frames collected since the last call, ready for the wire. */
  take(): string {
    const text = this.#pending
    this.#pending = ''
    return text
  }
}
