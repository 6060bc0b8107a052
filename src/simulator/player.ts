import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout as delay, setImmediate as immediate } from 'node:timers/promises'
import { type WireEvent, wire } from './compose.ts'
import type { Ending, Step } from './faults.ts'
import type { Scenario } from './scenario.ts'

/** Enough of an endless line for any cap, without filling a disk if nobody hangs up. */
const endlessLineBytes = 64 * 1024 * 1024
const writeSize = 64 * 1024

const ping: WireEvent = { type: 'ping' }

let lastBytes = ''
let lastFramed = ''

/** Performs steps on an open response, at the scenario's pace, as fast as the reader takes them. */
export class Player {
  readonly #response: ServerResponse
  readonly #scenario: Scenario
  readonly #signal: AbortSignal
  /** When the last wait of a schedule was to end. */
  #due: number | undefined

  constructor(response: ServerResponse, scenario: Scenario, signal: AbortSignal) {
    this.#response = response
    this.#scenario = scenario
    this.#signal = signal
  }

  async play(steps: Iterable<Step>): Promise<void> {
    await this.#wait(this.#scenario.first_ms ?? 0)
    let batch = ''
    let events = 0
    for (const step of steps) {
      if (step.do === 'wait') {
        await this.#send(batch)
        batch = ''
        events = 0
        await this.#waitOnSchedule(step.milliseconds)
        continue
      }
      if (step.do !== 'send') {
        await this.#send(batch)
        return this.#finish(step.do)
      }
      batch += this.#framed(step.bytes)
      events++
      if (!this.#isFull(batch, events)) continue
      await this.#send(batch)
      batch = ''
      events = 0
      if (step.delta) await this.#wait(this.#scenario.delay_ms ?? 0)
    }
  }

  /** A write holds as many events as the scenario says: one where there is a pace, else what fits. */
  #isFull(batch: string, events: number): boolean {
    const { per_write, delay_ms } = this.#scenario
    const limit = per_write ?? (delay_ms ? 1 : undefined)
    return limit === undefined ? batch.length >= writeSize : events >= limit
  }

  async #finish(how: Ending): Promise<void> {
    switch (how) {
      case 'end':
        this.#response.end()
        return
      case 'reset':
        // What was written must be on its way before the reset throws it away.
        await delay(20)
        this.#response.socket?.resetAndDestroy()
        return
      case 'silence':
        return this.#forever()
      case 'pings':
        for (;;) {
          await this.#write(wire(ping))
          await delay(this.#scenario.ping_ms ?? 100, undefined, { signal: this.#signal })
        }
      case 'endless line':
        await this.#write('data: {"type":"content_block_delta","padding":"')
        for (let sent = 0; sent < endlessLineBytes; sent += writeSize) await this.#write('x'.repeat(writeSize))
        return this.#forever()
    }
  }

  async #forever(): Promise<void> {
    await once(this.#signal, 'abort')
  }

  /** Waits that follow one another: what one takes too long, the next one makes up for. */
  async #waitOnSchedule(milliseconds: number): Promise<void> {
    this.#due = (this.#due ?? performance.now()) + milliseconds
    await this.#wait(this.#due - performance.now())
  }

  async #wait(milliseconds: number): Promise<void> {
    if (milliseconds <= 0) return
    const { ping_ms } = this.#scenario
    if (!ping_ms) return delay(milliseconds, undefined, { signal: this.#signal })
    for (let left = milliseconds; left > 0; left -= ping_ms) {
      await delay(Math.min(left, ping_ms), undefined, { signal: this.#signal })
      if (left > ping_ms) await this.#write(wire(ping))
    }
  }

  async #write(bytes: string): Promise<void> {
    await this.#send(this.#framed(bytes))
  }

  /** An event as Anthropic sends it: an HTTP chunk of its own. Framed here, as a `write` for each would be slow. */
  #framed(bytes: string): string {
    if (bytes === lastBytes) return lastFramed
    // An empty chunk would end the body.
    if (bytes === '') return ''
    lastBytes = bytes
    lastFramed = `${bytes.length.toString(16)}\r\n${bytes}\r\n`
    return lastFramed
  }

  /** @param chunks whole HTTP chunks */
  async #send(chunks: string): Promise<void> {
    const { split } = this.#scenario
    if (!split) return this.#put(chunks)
    for (let at = 0; at < chunks.length; at += split) {
      await this.#put(chunks.slice(at, at + split))
      await immediate()
    }
  }

  async #put(bytes: string): Promise<void> {
    if (bytes === '') return
    this.#signal.throwIfAborted()
    const { socket } = this.#response
    if (socket && !socket.write(bytes, 'latin1')) await once(socket, 'drain', { signal: this.#signal })
  }
}
