import { styleText } from 'node:util'
import { complain, print } from '../command.ts'
import { type Approve, consentBy } from './approval.ts'
import type { AskForConsent } from './consent.ts'
import type { Conversation } from './conversation.ts'
import { plainLine } from './plain.ts'
import { askAtTerminal } from './prompt.ts'
import { sentenceOf, Telling } from './telling.ts'

const help = `  /new        forget what was said
  /model [x]  ask another model; without a name, say which
  /help       this
  /quit       leave, as Ctrl-D and Ctrl-C do here; Ctrl-C while Claude speaks, or a call waits for your yes, stops the answer
`

/**
 * Questions and answers at a terminal, until somebody leaves.
 * @param approve of every call alike, instead of asking about it
 */
export async function dialogue(conversation: Conversation, where: string, approve?: Approve): Promise<void> {
  print(styleText('dim', `${where} /help says what else there is, Ctrl-D leaves.\n`))
  const history: string[] = []
  for (;;) {
    const text = await askAtTerminal(styleText('bold', '> '), { history })
    if (text === undefined || text === '/quit') return
    if (text.startsWith('/')) command(text, conversation)
    else if (text !== '') await answer(text, conversation, approve)
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

async function answer(prompt: string, conversation: Conversation, approve?: Approve): Promise<void> {
  const stopping = new AbortController()
  const stop = () => stopping.abort()
  const telling = new Telling()
  /** What comes while somebody is asked about a call. */
  let held: string[] | undefined
  const show = (text: string) => (held ? void held.push(text) : print(text))
  const consent = consentBy(approve, { output: process.stdout, stop })
  const onApproval: AskForConsent = async (call) => {
    held = []
    await consent(call)
    print(held.join(''))
    held = undefined
  }
  process.on('SIGINT', stop)
  try {
    await conversation.ask(prompt, {
      onFrame: (frame) => show(telling.add(frame)),
      onReconnect: () => show(telling.note('(the connection was lost: trying again)')),
      onApproval,
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
