import { randomText } from './random.ts'

/** A new stream id: 128 random bits, so that knowing one stream says nothing about another. */
export function newStreamId(): string {
  return `s_${randomText(16)}`
}

export const streamIdPattern = /^s_[A-Za-z0-9_-]{22}$/

/** A place in a stream as one client saw it: after frame `n` of its format. */
export interface Position {
  readonly stream: string
  readonly n: number
}

const positionPattern = /^(s_[A-Za-z0-9_-]{22})\.(0|[1-9]\d{0,14})$/

/** Reads `<stream id>.<n>`, the value of `Last-Event-ID`; `undefined` when it is anything else. */
export function parsePosition(text: string): Position | undefined {
  const [, stream, n] = positionPattern.exec(text) ?? []
  return stream !== undefined && n !== undefined ? { stream, n: Number(n) } : undefined
}
