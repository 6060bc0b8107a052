/** One that is in a bag, to be taken out by. */
export interface Place<T> {
  readonly value: T
  /** Where it lies; -1 once it is out. */
  index: number
}

/**
 * Members that come and go by the thousand, in no order. Not a `Set` or a `Map`: when V8 moves the entries of one into a
 * new table, it has the old table point to the new. Once one of these tables has grown old, each later one survives all
 * collections of young objects until the next full one, and with it whatever it has held: with sets of runs and of
 * connections, 16 kB of each stream did, and collections took 20 ms in the place of 1 ms.
 * @see https://github.com/v8/v8/blob/main/src/objects/ordered-hash-table.h the chain of tables, which is for iterators
 */
export class Bag<T> implements Iterable<T> {
  readonly #places: Place<T>[] = []

  get size(): number {
    return this.#places.length
  }

  add(value: T): Place<T> {
    const place = { value, index: this.#places.length }
    this.#places.push(place)
    return place
  }

  /** Safe to call twice. */
  remove(place: Place<T>): void {
    const { index } = place
    if (index < 0) return
    place.index = -1
    const last = this.#places.pop()
    if (!last || last === place) return
    last.index = index
    this.#places[index] = last
  }

  /** One of them, any. */
  any(): T | undefined {
    return this.#places[Math.floor(Math.random() * this.#places.length)]?.value
  }

  /** Those that are there now, whatever happens to them meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return this.#places.map(({ value }) => value)[Symbol.iterator]()
  }
}
