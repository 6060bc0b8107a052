interface Entry<T> {
  value: T | undefined
}

/** What comes and goes by the thousand, by name. Not a `Map` of the things themselves, for the reason why there is `Bag`. */
export class Directory<T> {
  readonly #entries = new Map<string, Entry<T>>()

  get size(): number {
    return this.#entries.size
  }

  has(name: string): boolean {
    return this.#entries.has(name)
  }

  get(name: string): T | undefined {
    return this.#entries.get(name)?.value
  }

  set(name: string, value: T): void {
    this.delete(name)
    this.#entries.set(name, { value })
  }

  delete(name: string): void {
    const entry = this.#entries.get(name)
    if (!entry) return
    entry.value = undefined
    this.#entries.delete(name)
  }

  clear(): void {
    this.#entries.clear()
  }

  /** As a `Map` does, those included that come while they are gone through. */
  *values(): Generator<T> {
    for (const { value } of this.#entries.values()) if (value !== undefined) yield value
  }
}
