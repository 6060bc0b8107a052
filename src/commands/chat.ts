import { once } from 'node:events'
import { text as readText } from 'node:stream/consumers'
import { clientKey, loadConfig } from '../config.ts'
import type { Approve } from './chat/approval.ts'
import type { Conversation } from './chat/conversation.ts'
import { plain } from './chat/plain.ts'
import { type Command, complain, httpUrl, print, standardUrl, textOf, UsageError } from './command.ts'
import { startDemo } from './demo.ts'

/** For one who asks, and has nobody else to turn to; log lines would stand between the words. */
const demoSettings = {
  PORT: '0',
  LOG_LEVEL: 'silent',
  SLUICE_SERVER__DRAIN_MS: '0',
  SLUICE_STREAMS__MAX_LAG_MS: '60000',
}
/** As shells have it for what Ctrl-C ends. */
const interruptedExit = 130

export const chat: Command = {
  name: 'chat',
  form: '[prompt]',
  summary: 'talks with Claude through a Sluice, at a terminal or in a pipe',
  options: {
    url: { type: 'string', value: 'URL', says: `of Sluice, with its path if it has one (${standardUrl})` },
    demo: { type: 'boolean', says: 'starts a demo inside, and talks with that; needs nothing' },
    key: { type: 'string', value: 'KEY', says: 'where Sluice asks for one; or SLUICE_KEY in the environment' },
    preset: { type: 'string', value: 'NAME', says: 'one of those that the server has' },
    model: { type: 'string', value: 'NAME', says: 'instead of the one that the server takes by itself' },
    system: { type: 'string', value: 'TEXT', says: 'a system prompt' },
    approve: { type: 'string', value: 'all|none', says: 'of calls that wait for consent, instead of being asked' },
  },
  details: `At a terminal it is a conversation: thinking and what it took are dim, Ctrl-C stops an answer, /help says what else there
is. With a prompt on the command line, or in a pipe, it is one question, and the answer's text alone goes to stdout.

A call of a tool that waits for consent is shown with its whole input: y lets it run, n denies it, e changes the input
first, Ctrl-C stops the answer. A single question asks on stderr. In a pipe, where nobody can be asked, the call is
denied, and a sentence on stderr says so. With --approve nobody is asked at all.`,
  examples: [
    ['sluice chat --demo', 'a conversation with a simulated Claude'],
    ['sluice chat --model claude-opus-4-5 what is a sluice', 'one question'],
    ['sluice chat --system "Summarize." < README.md', 'one question from a file'],
    ['sluice chat --demo --preset postcard --approve all write to Ada', 'every tool may run'],
  ],
  async run({ values, words }) {
    const demo = values['demo'] === true
    if (demo && values['url'] !== undefined) throw new UsageError('either --demo or --url')
    const approve = approveOf(textOf(values['approve']))
    const given = httpUrl('url', textOf(values['url']) ?? standardUrl)
    const { Conversation } = await import('./chat/conversation.ts')
    const started = demo ? await startDemo(loadConfig(demoSettings)) : undefined
    const url = started?.app.url ?? given
    const conversation = new Conversation({
      url,
      key: textOf(values['key']) ?? clientKey(),
      model: textOf(values['model']),
      system: textOf(values['system']),
      preset: textOf(values['preset']),
    })
    try {
      if (words.length === 0 && process.stdin.isTTY && process.stdout.isTTY) {
        const { dialogue } = await import('./chat/dialogue.ts')
        await dialogue(conversation, `${demo ? 'A simulated Claude' : 'Claude'}, through ${url}.`, approve)
      } else await askOnce(conversation, words.length > 0 ? words.join(' ') : await readText(process.stdin), approve)
    } finally {
      await started?.app.shutDown()
      await started?.simulator.close()
    }
  },
}

/** @throws UsageError */
function approveOf(said: string | undefined): Approve | undefined {
  if (said === undefined || said === 'all' || said === 'none') return said
  throw new UsageError('--approve takes all or none')
}

/** The text of one answer, as it comes, for whatever reads it. */
async function askOnce(conversation: Conversation, prompt: string, approve?: Approve): Promise<void> {
  if (prompt.trim() === '') throw new UsageError('there is no prompt: give words, or text on stdin')
  const stopping = new AbortController()
  const stop = () => {
    process.exitCode = interruptedExit
    stopping.abort()
  }
  process.once('SIGINT', stop)
  // Whoever read has left, as `head` does.
  process.stdout.on('error', () => stopping.abort())
  let last = ''
  const lineEnd = () => (last === '' || last.endsWith('\n') ? '' : '\n')
  const [{ consentBy }, { sentenceOf }] = await Promise.all([import('./chat/approval.ts'), import('./chat/telling.ts')])
  const consent = consentBy(approve, { output: process.stderr, stop })
  try {
    await conversation.ask(prompt, {
      async onFrame(frame) {
        const text = frame.type === 'text' ? plain(frame.text) : ''
        if (text === '') return
        last = text
        if (!process.stdout.write(text))
          await once(process.stdout, 'drain', { signal: stopping.signal }).catch(() => {})
      },
      async onApproval(call) {
        // Both are the same terminal.
        if (process.stdout.isTTY) {
          complain(lineEnd())
          last = ''
        }
        await consent(call)
      },
      signal: stopping.signal,
    })
  } catch (error) {
    complain(`sluice: ${sentenceOf(error)}\n`)
    process.exitCode ||= 1
  }
  if (!process.stdout.errored) print(lineEnd())
}
