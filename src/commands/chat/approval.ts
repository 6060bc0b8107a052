import { styleText } from 'node:util'
import { isObject } from '../../core/object.ts'
import { complain } from '../command.ts'
import type { AskForConsent, WaitingCall } from './consent.ts'
import type { Decision } from './decision.ts'
import { plainLine, visibleJson } from './plain.ts'
import { askAtTerminal, forgetTyped } from './prompt.ts'
import { sentenceOf } from './telling.ts'

/** What is said of all calls, so that nobody is asked. */
export type Approve = 'all' | 'none'

/** Where somebody can be asked. */
interface Place {
  readonly output: NodeJS.WriteStream
  /** He wants no more of the answer. */
  stop(): void
}

/** Where nobody can be asked every call is denied, and stderr says so. */
export function consentBy(approve: Approve | undefined, place: Place): AskForConsent {
  if (approve) return ({ decide }) => decide({ decision: approve === 'all' ? 'approve' : 'deny' })
  if (process.stdin.isTTY && place.output.isTTY) return (call) => askAboutCall(call, place)
  return ({ name, decide }) => {
    const tool = plainLine(name, 40)
    complain(
      `sluice: ${tool} needs consent, and nobody can be asked here: denied. --approve all lets every tool run.\n`,
    )
    return decide({ decision: 'deny', reason: 'nobody could be asked' })
  }
}

/** Shows the whole input of a call and asks, until the server has taken what is said or the call waits no longer. */
async function askAboutCall(call: WaitingCall, { output, stop }: Place): Promise<void> {
  output.write(`${visibleJson(call.input, 2)}\n`)
  while (!call.signal.aborted) {
    const said = await askForDecision(call, output)
    if (said === 'nothing') return call.signal.aborted ? undefined : stop()
    if (said === 'something else') continue
    try {
      return await call.decide(said)
    } catch (error) {
      complain(styleText('red', `${sentenceOf(error)}\n`, { stream: process.stderr }))
    }
  }
}

type Said = Decision | 'something else' | 'nothing'

async function askForDecision(
  { name, input, expires_at, signal }: WaitingCall,
  output: Place['output'],
): Promise<Said> {
  await forgetTyped()
  const question = () =>
    bold(`May ${plainLine(name, 40)} run with this input? (y)es, (n)o, (e)dit${timeLeft(expires_at)} > `, output)
  const said = await askAtTerminal(question, { output, signal })
  if (said === undefined) return 'nothing'
  if (/^y(es)?$/i.test(said)) return { decision: 'approve' }
  if (/^no?$/i.test(said)) return { decision: 'deny' }
  return /^e(dit)?$/i.test(said) ? edit(visibleJson(input), output, signal) : 'something else'
}

/** An empty line is the way back to the question. */
async function edit(json: string, output: Place['output'], signal: AbortSignal): Promise<Said> {
  let written = json
  for (;;) {
    const said = await askAtTerminal(bold('Input: ', output), { output, signal, written })
    if (said === undefined) return 'nothing'
    if (said === '') return 'something else'
    // Claude is told of an input that is not its own.
    if (said === json) return { decision: 'approve' }
    const input = parsed(said)
    if (isObject(input)) return { decision: 'approve', input }
    output.write('That is no JSON object.\n')
    written = said.replaceAll('\n', ' ')
  }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

const bold = (text: string, stream: Place['output']) => styleText('bold', text, { stream })

/** By the clock of this machine; nothing when the server does not say until when. */
function timeLeft(until: string): string {
  const seconds = Math.max(0, Math.round((Date.parse(until) - Date.now()) / 1_000))
  return Number.isNaN(seconds) ? '' : `, ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} left`
}
