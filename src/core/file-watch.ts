import { statSync } from 'node:fs'

/** Notices that files have changed, and are at rest again: a half-written one is no change yet. */
export class FileWatch {
  readonly #paths: readonly string[]
  /** The files as they were read last, and as the last look saw them. */
  #read = ''
  #seen = ''

  constructor(...paths: readonly string[]) {
    this.#paths = paths
  }

  /** To be called before they are read: what changes meanwhile is a change. */
  mark(): void {
    this.#read = this.#stamp()
    this.#seen = this.#read
  }

  /**
   * To be called now and then.
   * @returns whether they have changed since they were read, and not since the last look
   */
  look(): boolean {
    const stamp = this.#stamp()
    const isSettled = stamp === this.#seen
    this.#seen = stamp
    return isSettled && stamp !== this.#read
  }

  #stamp(): string {
    return this.#paths.map(stampOf).join()
  }
}

function stampOf(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false })
  return stats ? `${stats.ino} ${stats.mtimeMs} ${stats.size}` : 'none'
}
