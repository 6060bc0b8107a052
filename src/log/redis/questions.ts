/** Questions to another replica, none of which waits for its answer longer than it is told to. */
export class Questions<T> {
  readonly #waiting = new Set<{ readonly id: string; readonly resolve: (answer: T) => void }>()

  /**
   * @param send sends the question
   * @param id tells the answer to this one from those to others, where that matters
   * @returns `undefined` when there is no answer within so many milliseconds
   */
  async ask(ms: number, send: () => Promise<unknown>, id = ''): Promise<T | undefined> {
    const { promise, resolve } = Promise.withResolvers<T | undefined>()
    const timer = setTimeout(() => resolve(undefined), ms)
    const waiting = { id, resolve }
    this.#waiting.add(waiting)
    try {
      await send()
      return await promise
    } finally {
      this.#waiting.delete(waiting)
      clearTimeout(timer)
    }
  }

  answer(answer: T, id = ''): void {
    for (const waiting of this.#waiting) if (waiting.id === id) waiting.resolve(answer)
  }
}

/** Any text as a word of a message between replicas. */
export function toWord(text: string): string {
  return Buffer.from(text).toString('base64url')
}

export function fromWord(word: string): string {
  return Buffer.from(word, 'base64url').toString('utf8')
}
