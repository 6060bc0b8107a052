import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stripVTControlCharacters } from 'node:util'
import { onTestFinished } from 'vitest'
import { eventually } from './client.ts'

/** Gives a program a terminal of its own, and passes on what is typed and shown. */
const inTerminal = 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)'

/** What tells Node that nobody looks at colours, as on the machines of CI: its terminal is ours, not theirs. */
const COLOURLESS = ['CI', 'NO_COLOR', 'NODE_DISABLE_COLORS', 'FORCE_COLOR', 'COLORTERM']

/** A program at a terminal, killed when the test ends. */
export function atTerminal(args: readonly string[], env: Record<string, string> = {}) {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !COLOURLESS.includes(name)))
  const child = spawn('python3', ['-c', inTerminal, ...args], { env: { ...inherited, TERM: 'xterm', ...env } })
  let shown = ''
  child.stdout.on('data', (text) => {
    shown += text
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return {
    type: (text: string) => void child.stdin.write(text),
    /** All that has been shown, with escape sequences. */
    raw: () => shown,
    /** Waits until something is shown behind what was there before. */
    async until(text: string | RegExp, from = 0): Promise<string> {
      const plain = () => stripVTControlCharacters(shown.slice(from))
      return eventually(() => {
        const now = plain()
        return (typeof text === 'string' ? now.includes(text) : text.test(now)) && now
      }, 15_000).catch((error: Error) => {
        throw new Error(`${error.message}: ${JSON.stringify(text)} in ${JSON.stringify(shown)}`)
      })
    },
    exited: once(child, 'exit').then(([code]) => code as number),
  }
}
