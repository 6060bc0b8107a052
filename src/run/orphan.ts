import { SluiceError } from '../core/errors.ts'
import type { TerminalEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import type { RunReport } from '../core/report.ts'
import type { Price } from '../core/usage.ts'
import { attemptOf, continuationsOf } from './attempts.ts'
import { ledgerOf } from './ledger.ts'
import { stepsOf } from './steps.ts'

/** Brings the log of a run that died with its replica to its end: what there is of the answer, and that it is no more. */
export async function endOrphan(log: StreamLog, prices: ReadonlyMap<string, Price>): Promise<RunReport> {
  const history = await log.history()
  const ledger = ledgerOf({ log, history }, prices)
  const now = performance.now()
  const [start] = history
  const model = start?.type === 'start' ? start.model : null
  const price = model === null ? undefined : prices.get(attemptOf(history, model).model)
  const whole = stepsOf(history).at(-1)?.end === 'end'
  const failure = whole ? undefined : new SluiceError('replica_lost')
  const terminal: TerminalEvent = failure
    ? {
        type: 'error',
        error: failure.toPublic(),
        // Nothing of an answer is stored before some of its content is.
        partial: ledger.hasContent,
        usage: ledger.usage(),
        timing: ledger.timing(now),
      }
    : ledger.done(now, {
        price,
        upstreamRequestId: null,
        recovered: continuationsOf(history),
      })
  await log.append([terminal])
  return {
    stream: log.id,
    principal: log.principal,
    adopted: true,
    requestId: null,
    model,
    requestedModel: model,
    terminal,
    costUsd: ledger.cost(price),
    timing: ledger.timing(now),
    startedAt: ledger.startedAt,
    endedAt: now,
    attempts: 0,
    tries: [],
    failedAttempts: ['replica_lost'],
    failure,
    messageId: ledger.messageId,
    responseModel: ledger.responseModel,
    trace: undefined,
    upstreamBytes: 0,
    upstreamRequestId: null,
  }
}
