import { styleText } from 'node:util'
import { SluiceClientError } from '../../client/stream.ts'
import { complain, print } from '../command.ts'
import type { Conversation } from './conversation.ts'
import { plain, plainLine } from './plain.ts'
import { askAtTerminal } from './prompt.ts'
import { Telling } from './telling.ts'

const help = `  /new        forget what was said
  /model [x]  ask another model; without a name, say which
  /help       this
  /quit       leave, as Ctrl-D and Ctrl-C do here; Ctrl-C while Claude speaks stops the answer
`

/** Questions and answers at a terminal, until somebody leaves. */
export async function dialogue(conversation: Conversation, where: string): Promise<void> {
  print(styleText('dim', `${where} /help says what else there is, Ctrl-D leaves.\n`))
  const history: string[] = []
  for (;;) {
    const text = await askAtTerminal(styleText('bold', '> '), history)
    if (text === undefined || text === '/quit') return
    if (text.startsWith('/')) command(text, conversation)
    else if (text !== '') await answer(text, conversation)
  }
}

function command(text: string, conversation: Conversation): void {
  const [name, word] = text.split(/\s+/)
  if (name === '/help') print(help)
  else if (name === '/new') {
    conversation.forget()
    print(styleText('dim', 'Nothing has been said.\n'))
  } else if (name === '/model') {
    conversation.model = word ?? conversation.model
    print(styleText('dim', `The model is ${plainLine(conversation.model ?? "the server's own choice", 200)}.\n`))
  } else print(`There is no ${plainLine(text, 40)}.\n${help}`)
}

async function answer(prompt: string, conversation: Conversation): Promise<void> {
  const stopping = new AbortController()
  const stop = () => stopping.abort()
  const telling = new Telling()
  process.on('SIGINT', stop)
  try {
    await conversation.ask(prompt, {
      onFrame: (frame) => print(telling.add(frame)),
      onReconnect: () => print(telling.note('(the connection was lost: trying again)')),
      signal: stopping.signal,
    })
    if (stopping.signal.aborted) print(telling.note('(stopped)'))
  } catch (error) {
    print(telling.note(stopping.signal.aborted ? '(stopped here, but the server could not be told)' : undefined))
    complain(styleText('red', `${sentenceOf(error)}\n`, { stream: process.stderr }))
  } finally {
    process.off('SIGINT', stop)
  }
}

/** @throws what is no failure of an answer */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof SluiceClientError)) throw error
  const { code, message, status } = error
  const hint = status === 401 ? ' Give a key with --key or SLUICE_KEY.' : ''
  return plain(`${message} (${code})${hint}`)
}
