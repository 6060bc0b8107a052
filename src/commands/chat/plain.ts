import { stripVTControlCharacters } from 'node:util'

/** Turns the direction of what follows, so that a text reads as something else than it is. */
const turning = '\u202a-\u202e\u2066-\u2069'
const tricks = new RegExp(`\\r(?!\\n)|[${turning}]|(?![\\n\\t])\\p{Cc}`, 'gu')

/**
 * A piece of text that a terminal can only show: without escape sequences and without any control character but tab and
 * line feed. What is left of a sequence that was cut between two pieces has lost its beginning, and is text like any other.
 */
export function plain(text: string): string {
  return stripVTControlCharacters(text).replace(tricks, '')
}

/** The same on one line, and not longer than so many characters. */
export function plainLine(text: string, length: number): string {
  const line = plain(text).replace(/\s+/g, ' ').trim()
  return line.length > length ? `${line.slice(0, length - 1)}…` : line
}

const unseen = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu

/**
 * JSON whose characters can all be seen, for somebody who has to know what it says: a control character, or one that turns
 * or joins others, stands there as an escape, so that it is still the same value.
 * @param indent spaces; on one line without them
 */
export function visibleJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(unseen, (text) =>
    Array.from({ length: text.length }, (_, at) => escaped(text.charCodeAt(at))).join(''),
  )
}

const escaped = (unit: number) => `\\u${unit.toString(16).padStart(4, '0')}`
