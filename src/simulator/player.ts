import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises'
import { type WireEvent, wire } from './compose.ts'
import type { Step } from './faults.ts'
import type { Scenario } from './scenario.ts'

/** Enough of an endless line for any cap, without filling a disk if nobody hangs up. */
const endlessLineBytes = 64 * 1024 * 1024
const writeSize = 64 * 1024

const ping: WireEvent = { type: 'ping' }

/** Performs steps on an open response, at the scenario's pace, as fast as the reader takes them. */
export class Player {
  readonly #response: ServerResponse
  readonly #scenario: Scenario
  readonly #signal: AbortSignal

  constructor(response: ServerResponse, scenario: Scenario, signal: AbortSignal) {
    this.#response = response
    this.#scenario = scenario
    this.#signal = signal
  }

  async play(steps: Iterable<Step>, onFinish: () => void): Promise<void> {
    const { first_ms = 0, delay_ms = 0, per_write } = this.#scenario
    if (first_ms > 0) await this.#wait(first_ms)
    let batch = ''
    let events = 0
    for (const step of steps) {
      if (step.do === 'send') {
        batch += step.bytes
        events++
        if (delay_ms > 0 || per_write !== undefined ? events >= (per_write ?? 1) : batch.length >= writeSize) {
          await this.#write(batch)
          batch = ''
          events = 0
          if (delay_ms > 0 && step.delta) await this.#wait(delay_ms)
        }
        continue
      }
      await this.#write(batch)
      if (step.do === 'end') onFinish()
      await this.#finish(step.do)
    }
  }

  async #finish(how: Exclude<Step['do'], 'send'>): Promise<void> {
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

  async #wait(milliseconds: number): Promise<void> {
    const { ping_ms } = this.#scenario
    if (!ping_ms) return delay(milliseconds, undefined, { signal: this.#signal })
    for (let left = milliseconds; left > 0; left -= ping_ms) {
      await delay(Math.min(left, ping_ms), undefined, { signal: this.#signal })
      if (left > ping_ms) await this.#write(wire(ping))
    }
  }

  async #write(bytes: string): Promise<void> {
    const { split } = this.#scenario
    if (!split) return this.#send(bytes)
    for (let at = 0; at < bytes.length; at += split) {
      await this.#send(bytes.slice(at, at + split))
      await immediate()
    }
  }

  async #send(bytes: string): Promise<void> {
    if (bytes === '') return
    this.#signal.throwIfAborted()
    if (!this.#response.write(bytes, 'latin1')) await once(this.#response, 'drain', { signal: this.#signal })
  }
}
