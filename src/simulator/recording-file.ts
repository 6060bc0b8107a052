import { createWriteStream, openSync, type WriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import type { Transform } from 'node:stream'
import { finished } from 'node:stream/promises'
import { decoderOf } from '../core/decoders.ts'
import { Tape, type TapeEnd, type TapeHead } from './tape.ts'

/** What waits for a slow disk before the recording is given up: the stream itself never waits for it. */
const maxWaitingBytes = 16 * 1024 * 1024

/** What became of a recording. */
export interface Recorded {
  readonly events: number
  readonly how: TapeEnd
  readonly model: string | undefined
  /** Where it is; or else why it was given up. */
  readonly path?: string
  readonly fault?: string
}

/** One response on its way into a file, under a temporary name until its end. What goes wrong here harms no stream. */
export class RecordingFile {
  readonly #folder: string
  readonly #time: string
  readonly #part: string
  readonly #file: WriteStream
  readonly #tape: Tape
  readonly #decoder: Transform | undefined
  #fault: string | undefined

  /** @throws Error when there can be no such file */
  constructor(folder: string, head: TapeHead, neutral: (text: string) => string, { headers }: IncomingMessage) {
    this.#folder = folder
    this.#tape = new Tape(head, neutral, performance.now())
    const { time, path, fd } = openPart(folder, new Date(head.date))
    this.#time = time
    this.#part = path
    this.#file = createWriteStream(path, { fd })
    this.#file.on('error', (error) => this.#giveUp(error.message))
    const encoding = headers['content-encoding'] ?? 'identity'
    if (encoding === 'identity') return
    this.#decoder = decoderOf(encoding)
    if (!this.#decoder) this.#giveUp(`it is encoded as ${JSON.stringify(encoding)}`)
    this.#decoder?.on('data', (bytes: Buffer) => this.#write(bytes))
    this.#decoder?.on('error', (error) => this.#giveUp(error.message))
  }

  /** Bytes of the body as they were on the wire. */
  add(bytes: Buffer): void {
    if (this.#fault !== undefined) return
    if (!this.#decoder) this.#write(bytes)
    else {
      this.#decoder.write(bytes)
      if (this.#decoder.writableLength > maxWaitingBytes) this.#giveUp('it comes too fast to be decoded')
    }
  }

  async end(how: TapeEnd): Promise<Recorded> {
    await this.#decoded(how)
    if (this.#fault === undefined) this.#put(this.#tape.end(how, performance.now()))
    this.#file.end()
    await finished(this.#file).catch((error: Error) => this.#giveUp(error.message))
    const { events, model } = this.#tape
    if (this.#fault !== undefined) {
      await rm(this.#part, { force: true })
      return { events, how, model, fault: this.#fault }
    }
    return { events, how, model, path: await this.#rename(model ?? 'unknown') }
  }

  /** Waits for what is still inside the decoder; a body that was cut ends inside its encoding, which is no fault. */
  async #decoded(how: TapeEnd): Promise<void> {
    const decoder = this.#decoder
    if (!decoder || this.#fault !== undefined) return
    if (how !== 'whole') decoder.removeAllListeners('error').on('error', () => {})
    decoder.end()
    // Its own listener tells what went wrong.
    await finished(decoder).catch(() => {})
  }

  #write(bytes: Buffer): void {
    if (this.#fault !== undefined) return
    try {
      this.#put(this.#tape.add(bytes.toString('latin1'), performance.now()))
    } catch (error) {
      this.#giveUp(error instanceof Error ? error.message : String(error))
    }
  }

  #put(text: string): void {
    if (text !== '') this.#file.write(text, 'latin1')
    if (this.#file.writableLength > maxWaitingBytes) this.#giveUp('the disk is too slow')
  }

  #giveUp(why: string): void {
    this.#fault ??= why
    this.#decoder?.destroy()
  }

  async #rename(model: string): Promise<string> {
    const name = `${this.#time}-${model.replaceAll(/[^\w.-]+/g, '_').slice(0, 80)}`
    const path = join(this.#folder, `${name}.sse`)
    await rename(this.#part, path)
    return path
  }
}

/** A new file that only its owner may read. Its time is its alone: with two in one millisecond, the later one waits for the next. */
function openPart(folder: string, date: Date): { time: string; path: string; fd: number } {
  for (let at = date.getTime(); ; at++) {
    const time = new Date(at).toISOString().replaceAll(':', '-')
    const path = join(folder, `${time}.part`)
    try {
      return { time, path, fd: openSync(path, 'wx', 0o600) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}
