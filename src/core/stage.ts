type Run = () => void

/** Stands for a list with nothing in it, and must stay so: what is pushed onto an empty array makes room for 17. */
const none: never[] = []

/** A batch is being worked off; and what follows on it, up to `count`: one list for good, as one for each batch is garbage. */
let isWorking = false
const following: Run[] = []
let count = 0

function afterBatch(run: Run): void {
  if (isWorking) following[count++] = run
  else run()
}

/**
 * One stage of the way that events take, for many streams in a row. The code from the socket that is read to the one that
 * is written, most of it Node's and the kernel's, is many times larger than the processor's nearest caches: with each of
 * a thousand streams taken all the way by itself, every event found the code of every stage gone from there, and a core
 * carried three quarters of the frames.
 */
export class Stage<T> {
  readonly #work: (member: T) => void
  readonly #soon: (run: Run) => void
  #members: T[] = none

  /** @param soon calls what it gets when a batch may be whole; unless given, behind the batch of the stage before, or at once */
  constructor(work: (member: T) => void, soon: (run: Run) => void = afterBatch) {
    this.#work = work
    this.#soon = soon
  }

  /** @returns how many are waiting now */
  add(member: T): number {
    if (this.#members.length > 0) return this.#members.push(member)
    this.#members = [member]
    this.#soon(this.workOff)
    return 1
  }

  /** All who wait, now; then the stages that follow. */
  readonly workOff = (): void => {
    const members = this.#members
    if (members.length === 0) return
    this.#members = none
    const wasWorking = isWorking
    const from = count
    isWorking = true
    for (const member of members) this.#workOn(member)
    isWorking = wasWorking
    const to = count
    for (let next = from; next < to; next++) following[next]?.()
    count = from
  }

  /** A defect with one is none of the others' business, and is still not caught. */
  #workOn(member: T): void {
    try {
      this.#work(member)
    } catch (fault) {
      queueMicrotask(() => {
        throw fault
      })
    }
  }
}
