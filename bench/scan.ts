/**
 * Finds the deltas of a stream in raw bytes, whatever frames a target puts around them: parsing JSON here would make the
 * client the slowest part. Pieces may be cut anywhere.
 */
export interface Scanner {
  /** Deltas seen so far, over all pieces. */
  readonly count: number
  scan(bytes: Buffer, from: number, to: number): void
}

const Z = 0x7a

/** Once in a delta of 28 to 53 characters: the simulator's filler is the alphabet, a blank, the alphabet again. */
const mark = Buffer.from('z a')

export class FillerCounter implements Scanner {
  count = 0
  /** How many bytes of the mark came last. */
  #matched = 0

  scan(bytes: Buffer, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      if (this.#matched === 0) {
        at = bytes.indexOf(Z, at)
        if (at < 0 || at >= to) return
        this.#matched = 1
        continue
      }
      const byte = bytes[at]
      if (byte !== mark[this.#matched]) this.#matched = byte === Z ? 1 : 0
      else if (++this.#matched === mark.length) {
        this.count++
        this.#matched = 0
      }
    }
  }
}

const AT = 0x40
const SEMICOLON = 0x3b
const ZERO = 0x30

/** Reads the time stamps that the simulator puts at the beginning of each delta: `@<nanoseconds>;`. */
export class StampReader implements Scanner {
  count = 0
  readonly #onStamp: (nanoseconds: number) => void
  #stamp = 0
  #inside = false

  constructor(onStamp: (nanoseconds: number) => void) {
    this.#onStamp = onStamp
  }

  scan(bytes: Buffer, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      if (!this.#inside) {
        at = bytes.indexOf(AT, at)
        if (at < 0 || at >= to) return
        this.#inside = true
        this.#stamp = 0
        continue
      }
      const byte = bytes[at] as number
      if (byte === SEMICOLON) {
        this.count++
        this.#onStamp(this.#stamp)
      }
      const digit = byte - ZERO
      if (digit >= 0 && digit <= 9) this.#stamp = this.#stamp * 10 + digit
      else this.#inside = false
    }
  }
}
