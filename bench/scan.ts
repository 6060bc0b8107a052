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
const BLANK = 0x20
const A = 0x61

/** The simulator's filler is the alphabet, a blank, the alphabet again: at 28 to 53 characters a delta has one `z a`. */
export class FillerCounter implements Scanner {
  count = 0
  /** How many bytes of the mark came last. */
  #matched = 0

  scan(bytes: Buffer, from: number, to: number): void {
    let matched = this.#matched
    let at = from
    while (at < to) {
      if (matched === 0) {
        at = bytes.indexOf(Z, at)
        if (at < 0 || at >= to) break
        matched = 1
      } else {
        const byte = bytes[at]
        if (matched === 2 && byte === A) this.count++
        if (byte === Z) matched = 1
        else matched = matched === 1 && byte === BLANK ? 2 : 0
      }
      at++
    }
    this.#matched = matched
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
