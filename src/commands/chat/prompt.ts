import { createInterface } from 'node:readline'
import { setImmediate as immediate } from 'node:timers/promises'

export interface Asking {
  /** Newest first; what is written joins it. */
  readonly history?: string[]
  /** Stands there already, to be changed. */
  readonly written?: string
  /** stdout unless given. */
  readonly output?: NodeJS.WriteStream
  /** Aborted, nobody is asked any more. */
  readonly signal?: AbortSignal
}

/**
 * Asks whoever sits at the terminal. Between two questions the terminal is its own again, so that Ctrl-C is a signal.
 * @param prompt a function is asked again each second, for what it says of the time
 * @returns `undefined` when he wants to leave, or nobody is asked any more
 */
export function askAtTerminal(
  prompt: string | (() => string),
  { history = [], written, output = process.stdout, signal }: Asking = {},
): Promise<string | undefined> {
  const told = () => (typeof prompt === 'string' ? prompt : prompt())
  const terminal = createInterface({
    input: process.stdin,
    output,
    prompt: told(),
    history: [...history],
    ...(signal && { signal }),
  })
  const lines: string[] = []
  const refresh = () => {
    terminal.setPrompt(told())
    terminal.prompt(true)
  }
  const timer = typeof prompt === 'string' ? undefined : setInterval(refresh, 1_000)
  return new Promise((resolve) => {
    terminal.on('line', async (line) => {
      if (lines.push(line) > 1) return
      clearInterval(timer)
      // What is pasted comes at once, all its lines.
      await immediate()
      const text = [...lines, terminal.line].join('\n').trim()
      if (text !== '') history.unshift(...lines.filter((each) => each !== '').toReversed())
      resolve(text)
      terminal.close()
    })
    terminal.on('SIGINT', () => terminal.close())
    terminal.on('close', () => {
      clearInterval(timer)
      if (lines.length === 0) output.write('\n')
      resolve(undefined)
    })
    terminal.prompt()
    if (written !== undefined) terminal.write(written)
  })
}

/** What was typed before a question could be read is no answer to it. */
export async function forgetTyped(): Promise<void> {
  const { stdin } = process
  // A line without an end is there, too.
  stdin.setRawMode(true)
  stdin.resume()
  // The first look at the terminal comes after the first of them.
  await immediate()
  await immediate()
  stdin.pause()
  stdin.setRawMode(false)
}
