import { SluiceError } from '../core/errors.ts'
import type { TerminalEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import type { RunReport } from '../core/report.ts'
import type { Price } from '../core/usage.ts'
import { attemptOf, continuationsOf } from './attempts.ts'
import { ledgerOf } from './ledger.ts'

/** Brings the log of a run that died with its replica to its end: what there is of the answer, and that it is no more. */
export async function endOrphan(log: StreamLog, prices: ReadonlyMap<string, Price>): Promise<RunReport> {
  const history = await log.history()
  const ledger = ledgerOf({ log, history })
  const now = performance.now()
  const [start] = history
  const model = start?.type === 'start' ? start.model : null
  const whole = history.at(-1)?.type === 'message_stop'
  const failure = whole ? undefined : new SluiceError('replica_lost')
  const terminal: TerminalEvent = failure
    ? {
        type: 'error',
        error: failure.toPublic(),
        // Nothing of an answer is stored before some of its content is.
        partial: ledger.begun,
        usage: ledger.usage(),
        timing: ledger.timing(now),
      }
    : ledger.done(now, {
        price: model === null ? undefined : prices.get(attemptOf(history, model).model),
        upstreamRequestId: null,
        recovered: continuationsOf(history),
      })
  await log.append([terminal])
  return {
    stream: log.id,
    principal: log.principal,
    requestId: null,
    model,
    terminal,
    timing: ledger.timing(now),
    attempts: 0,
    failedAttempts: ['replica_lost'],
    failure,
    upstreamBytes: 0,
    upstreamRequestId: null,
  }
}
