import { type DestinationStream, destination } from 'pino'

/** When nobody takes stdout, lines are dropped rather than held without limit or waited for. */
const maxBufferedBytes = 4 * 1024 * 1024

/** How long a line waits for others. */
const gatherMs = 10

/**
 * PIPE_BUF of Linux: what is written to a pipe at once goes in whole up to here, but in parts beyond, and those of
 * workers with one stdout get in between. Only a line that is longer by itself can still be torn.
 */
const maxSharedBytes = 4_096
/** Of what is this process's alone: one write for some 60 lines. */
const maxOwnBytes = 64 * 1024

/**
 * Lines for stdout, as many in one write as come within a moment: a write wakes a thread and makes a system call, 30 µs
 * for one line as for ten. Each write ends with a line.
 */
export class Output implements DestinationStream {
  readonly #maxBytes: number
  readonly #to: ReturnType<typeof destination>
  #lines = ''
  #bytes = 0
  #timer: NodeJS.Timeout | undefined

  /** @param shared other processes write to the same stdout */
  constructor(shared = false) {
    this.#maxBytes = shared ? maxSharedBytes : maxOwnBytes
    this.#to = destination({ fd: 1, sync: false, maxLength: maxBufferedBytes, maxWrite: this.#maxBytes })
    // A full disk must cost lines, not streams. It is told where it can be told, once.
    this.#to.once('error', (error: NodeJS.ErrnoException) => {
      this.#to.on('error', () => {})
      process.stderr.write(`sluice: log lines are being lost: ${error.code ?? error.name}\n`)
    })
    // pino calls it at exit; it blocks the process for as long as nobody takes the lines.
    this.#to.flushSync = () => {}
  }

  write(line: string): void {
    const bytes = Buffer.byteLength(line)
    if (this.#bytes + bytes > this.#maxBytes) this.#pass()
    this.#lines += line
    this.#bytes += bytes
    this.#timer ??= setTimeout(() => this.#pass(), gatherMs)
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
    this.#bytes = 0
    if (lines !== '') this.#to.write(lines)
  }
}
