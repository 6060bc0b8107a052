/**
 * Where the rest of an answer meets its beginning. Asked to go on where it was interrupted, a model mostly does, but at
 * times it announces that, says the last words again, opens a code fence anew or begins a sentence. These are functions
 * of the two texts alone, and err on the side of leaving a text as it is: what is cut wrongly is lost.
 */

/** So much of a beginning is compared with the end before it, in characters. */
const maxOverlap = 200
/** The rest is held back until it is as long as this, or ends: an announcement and the longest overlap fit in. */
const enoughToJoin = 280

/** What only somebody says who was told to go on. */
const announcement =
  /^\s*(?:\*{1,2}|_)?(?:continuing|continuation|(?:continuing|picking up|resuming) (?:from )?where (?:i|it|we) (?:left|was|were)[^:\n]{0,30})(?: (?:of|from|with) [^:\n]{0,40})?:(?:\*{1,2}|_)?(?:[ \t]*\n+| (?![\p{L}\p{N}]))?/iu
/** The same, but it could be the answer's: on a line of its own alone, and not in the middle of a word. */
const preface =
  /^\s*(?:sure|okay|of course|certainly|here(?:'s|’s| is) the (?:rest|continuation))\b[^:\n]{0,60}:[ \t]*\n+/i
/** Not where it is part of what follows, as in code. */
const ellipsis = /^(?:…|\.{3})(?=\s)(?: (?![\p{L}\p{N}]))?/u
/** So much of the end decides on how a sentence goes on. */
const lookBehind = 64
/** With a language: without one it would rather be the end of the block that is open. */
const fenceLine = /^\s*(?:```|~~~)[\w+#.-]+[ \t]*\n/
/** A word that hardly ever has a capital but at the beginning of a sentence. */
const smallWord =
  /^(\s*)(And|But|Or|So|The|An|Of|To|In|On|At|By|For|From|With|Which|That|This|These|Those|While|When|Where|Because|As|It|Its|Is|Are|Was|Were|Then|Than|Into|Also)(?= \p{Ll})/u
const endsSentence = /(?:^|[.!?:…»”"')\]*_#>|-]|\n)\s*$/

/** Fewer characters at the beginning of an answer may well come again in its middle. */
const leastRestart = 5

/** Whether `rest` can be joined, or more of it should be waited for: it may be the whole answer, told anew. */
export function isEnough(before: string, rest: string): boolean {
  return rest.length >= enoughToJoin && !(rest.length < before.length && before.startsWith(rest))
}

/**
 * What of `rest` is to follow on `before`.
 * @param before the text that readers have
 * @param rest the beginning of what came then, as far as `isEnough` asks for it, unless there is no more
 */
export function join(before: string, rest: string): string {
  if (before.length >= leastRestart && rest.startsWith(before)) return rest.slice(before.length)
  // A single blank behind it may be the announcement's or the text's; before a word it nearly always is missed otherwise.
  const end = before.slice(-lookBehind)
  const inFence = insideFence(before)
  let head = rest.replace(announcement, '')
  if (!/[\p{L}\p{N}]$/u.test(end)) head = head.replace(preface, '')
  if (head.length < rest.length && /\s$/.test(end)) head = head.trimStart()
  if (!inFence && !/(?:…|\.{2})\s*$/.test(end)) head = head.replace(ellipsis, '')
  if (inFence) head = head.replace(fenceLine, '')
  return withoutOverlap(before, head) ?? lowered(before, head)
}

/** `head` without what says again how `before` ends; `undefined` when nothing does. */
function withoutOverlap(before: string, head: string): string | undefined {
  const tail = before.slice(-maxOverlap)
  const end = tail.trimEnd()
  const begin = head.trimStart()
  const blanks = tail.slice(end.length)
  const found = [
    { length: longestOverlap(before, tail, head), of: head, blanks: '' },
    { length: longestOverlap(before, tail, begin), of: begin, blanks: '' },
    // The blanks at the end may be said again behind the words or not at all: there they are already.
    { length: longestOverlap(before.trimEnd(), end, head), of: head, blanks },
    { length: longestOverlap(before.trimEnd(), end, begin), of: begin, blanks },
  ].reduce((best, each) => (each.length > best.length ? each : best))
  if (found.length === 0) return undefined
  const rest = found.of.slice(found.length)
  return rest.startsWith(found.blanks) ? rest.slice(found.blanks.length) : rest
}

function longestOverlap(before: string, tail: string, head: string): number {
  const [end, begin] = [lowerCase(tail), lowerCase(head)]
  for (let length = Math.min(end.length, begin.length); length >= 5; length--) {
    if (end.endsWith(begin.slice(0, length)) && says(before, length)) return length
  }
  return 0
}

/**
 * Whether the last `length` characters are enough to be no accident: words, the first of them whole, that do not come
 * there in a row anyway, as in a refrain or in a table.
 */
function says(before: string, length: number): boolean {
  const at = before.length - length
  const words = before.slice(at)
  if (at > 0 && /[\p{L}\p{N}]$/u.test(before.slice(at - 2, at)) && /^[\p{L}\p{N}]/u.test(words)) return false
  const said = new Set(lowerCase(words).match(/[\p{L}\p{N}]+|\p{Extended_Pictographic}|\p{RI}/gu))
  const tells = [...said].some((word) => /\p{L}{2}|\p{Extended_Pictographic}/u.test(word))
  if (!tells || (said.size < 2 && length < 12)) return false
  // Lines of code and of lists are alike more often than sentences are.
  if (/[<>{}()[\];="|]/.test(words) && said.size < 3 && length < 14) return false
  return !lowerCase(before.slice(Math.max(0, at - length - 8), at).trimEnd()).endsWith(lowerCase(words.trim()))
}

/** Letter by letter, without those that get longer: positions stay. */
function lowerCase(text: string): string {
  return text.replace(/\p{Lu}/gu, (letter) => {
    const lower = letter.toLowerCase()
    return lower.length === letter.length ? lower : letter
  })
}

/** A sentence that goes on has no capital in its middle, and a blank before its next word. */
function lowered(before: string, head: string): string {
  const end = before.slice(-lookBehind)
  if (before === '' || endsSentence.test(end)) return head
  return head.replace(smallWord, (_, blanks: string, word: string) => {
    const gap = blanks === '' && !/\s$/.test(end) ? ' ' : blanks
    return gap + word.toLowerCase()
  })
}

function insideFence(text: string): boolean {
  return (text.match(/^(?:```|~~~)/gm)?.length ?? 0) % 2 === 1
}
