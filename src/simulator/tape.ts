/**
 * What a recording is: the bytes of a body, and between its events comments of SSE with the pace and how it ended. So it is
 * a stream itself, which every client reads. Text is latin1 throughout: one character is one byte.
 */

/** What a recording says of the response it is of. */
export interface TapeHead {
  readonly date: string
  readonly status: number
  /** The `anthropic-version` that was asked for. */
  readonly version: string
  /** From the request to the response headers. */
  readonly headersMs: number
}

/** Who ended a body: it came to its end, or one of them broke it off. */
export type TapeEnd = 'whole' | 'cut by upstream' | 'cut by client' | 'cut by recorder'

/** A body as it is to be played. */
export interface Recording {
  readonly events: string[]
  /** Milliseconds before each event and, as the last one, before the end; missing where nothing was noted. */
  readonly waits?: readonly number[]
  readonly headersMs?: number
  /** It did not come to its end. */
  readonly cut: boolean
}

const mark = ': recorded by sluice, format 1\n'
const endOfEvent = /\r\n\r\n|\n\n|\r\r/g
/** Of the longest end of an event, what may have come with the bytes before. */
const overlap = 3

/** More is no event of Claude's, and has to be held until its end. */
const maxEventLength = 8 * 1024 * 1024

/** Writes a recording from the bytes of a body as they come. */
export class Tape {
  readonly #head: TapeHead
  readonly #neutral: (text: string) => string
  readonly #began: number
  /** What the waits so far add up to, in whole milliseconds. */
  #toldMs = 0
  #pending = ''
  /** Events so far. */
  events = 0
  /** Of the message, once it has begun. */
  model: string | undefined

  /**
   * @param neutral takes out what must not be kept
   * @param now when the response headers came, in milliseconds
   */
  constructor(head: TapeHead, neutral: (text: string) => string, now: number) {
    this.#head = head
    this.#neutral = neutral
    this.#began = now
  }

  /** @returns what to write for them @throws Error when no recording can be made of this */
  add(bytes: string, now: number): string {
    let from = 0
    endOfEvent.lastIndex = Math.max(0, this.#pending.length - overlap)
    const text = this.#pending + bytes
    let written = ''
    while (endOfEvent.exec(text)) {
      written += this.#event(text.slice(from, endOfEvent.lastIndex), now)
      from = endOfEvent.lastIndex
    }
    this.#pending = text.slice(from)
    if (this.#pending.length > maxEventLength) throw new Error(`an event is longer than ${maxEventLength} bytes`)
    return written
  }

  /** @returns the rest of the file */
  end(how: TapeEnd, now: number): string {
    const begin = this.events === 0 ? this.#begin('') : ''
    if (this.#pending === '') return `${begin}: +${this.#sinceMs(now)} ${how}\n\n`
    const rest = this.#waitBefore(this.#neutral(this.#pending), now)
    return `${begin}${rest}\n\n: +0 ${how} inside an event\n\n`
  }

  #event(text: string, now: number): string {
    const event = this.#neutral(text)
    const begin = this.events === 0 ? this.#begin(event) : ''
    this.events++
    return begin + this.#waitBefore(event, now)
  }

  #begin(first: string): string {
    this.model = /"model":\s*"([\x20-\x7e]{1,200}?)"/.exec(first)?.[1]
    const { date, status, version, headersMs } = this.#head
    const model = this.model ?? 'unknown'
    return `${mark}: date ${date}\n: model ${model}\n: status ${status}\n: anthropic-version ${version}\n: headers +${Math.round(headersMs)}\n\n`
  }

  /** Events of one read have no time between them. One that looks like a wait must not be taken for one. */
  #waitBefore(event: string, now: number): string {
    const sinceMs = this.#sinceMs(now)
    return sinceMs > 0 || wait.test(event) ? `: +${sinceMs}\n\n${event}` : event
  }

  /** Since the time that has been told. */
  #sinceMs(now: number): number {
    const sinceMs = Math.max(0, Math.round(now - this.#began) - this.#toldMs)
    this.#toldMs += sinceMs
    return sinceMs
  }
}

const wait = /^: \+(\d+)\n\n$/
const tail = /(?<=[\r\n]): \+(\d+) (whole|cut by \w+)( inside an event)?\n\n$/

/** Reads a recording, or a bare body that somebody else has recorded. */
export function readTape(body: Buffer): Recording {
  const text = body.toString('latin1')
  if (!text.startsWith(mark)) return { events: splitEvents(text), cut: false }
  const [head = ''] = text.split('\n\n', 1)
  const ending = tail.exec(text)
  const padding = ending?.[3] === undefined ? 0 : '\n\n'.length
  const rest = text.slice(head.length + '\n\n'.length, ending ? ending.index - padding : text.length)
  const events: string[] = []
  const waits: number[] = []
  let waited: number | undefined
  for (const block of splitEvents(rest)) {
    const ms = waited === undefined ? wait.exec(block)?.[1] : undefined
    if (ms === undefined) {
      events.push(block)
      waits.push(waited ?? 0)
    }
    waited = ms === undefined ? undefined : Number(ms)
  }
  waits.push(Number(ending?.[1] ?? 0))
  const headersMs = Number(/^: headers \+(\d+)$/m.exec(head)?.[1] ?? 0)
  return { events, waits, headersMs, cut: ending?.[2] !== 'whole' }
}

/** A body cut behind each event. */
function splitEvents(text: string): string[] {
  return text.match(/[\s\S]*?(?:\r\n\r\n|\n\n|\r\r)|[\s\S]+$/g) ?? []
}
