import { createInterface } from 'node:readline'
import { setImmediate as immediate } from 'node:timers/promises'

/**
 * Asks whoever sits at the terminal. Between two questions the terminal is its own again, so that Ctrl-C is a signal.
 * @param history newest first; what is written joins it
 * @returns `undefined` when he wants to leave
 */
export function askAtTerminal(prompt: string, history: string[]): Promise<string | undefined> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout, prompt, history: [...history] })
  const lines: string[] = []
  return new Promise((resolve) => {
    terminal.on('line', async (line) => {
      if (lines.push(line) > 1) return
      // What is pasted comes at once, all its lines.
      await immediate()
      const text = [...lines, terminal.line].join('\n').trim()
      if (text !== '') history.unshift(...lines.filter((each) => each !== '').toReversed())
      resolve(text)
      terminal.close()
    })
    terminal.on('SIGINT', () => terminal.close())
    terminal.on('close', () => {
      if (lines.length === 0) process.stdout.write('\n')
      resolve(undefined)
    })
    terminal.prompt()
  })
}
