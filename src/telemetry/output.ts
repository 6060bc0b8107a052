import { type DestinationStream, destination } from 'pino'

/** When nobody takes stdout, lines are dropped rather than held without limit or waited for. */
const maxBufferedBytes = 4 * 1024 * 1024

/** How long a line waits for others. */
const gatherMs = 10

/** In characters: what Docker takes at a time. */
const maxGathered = 16 * 1024

/**
 * Lines for stdout, as many in one write as come within a moment: a write wakes a thread and makes a system call, 30 µs
 * for one line as for twenty.
 */
export class Output implements DestinationStream {
  readonly #to = destination({ fd: 1, sync: false, maxLength: maxBufferedBytes })
  #lines = ''
  #timer: NodeJS.Timeout | undefined

  constructor() {
    // A full disk must cost lines, not streams. It is told where it can be told, once.
    this.#to.once('error', (error: NodeJS.ErrnoException) => {
      this.#to.on('error', () => {})
      process.stderr.write(`sluice: log lines are being lost: ${error.code ?? error.name}\n`)
    })
    // pino calls it at exit; it blocks the process for as long as nobody takes the lines.
    this.#to.flushSync = () => {}
  }

  write(line: string): void {
    this.#lines += line
    if (this.#lines.length >= maxGathered) this.#pass()
    else this.#timer ??= setTimeout(() => this.#pass(), gatherMs)
  }

  /** Calls back when the last lines, of which there is at least one, have been taken. */
  flush(taken: () => void): void {
    this.#to.once('drain', taken)
    this.#pass()
  }

  #pass(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const lines = this.#lines
    this.#lines = ''
    if (lines !== '') this.#to.write(lines)
  }
}
